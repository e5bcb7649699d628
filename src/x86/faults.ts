import { assert } from '../base/assert.ts';
import { type Cpu, DONE, type PendingFault } from './cpu.ts';
import { CPL, CR2, DR6, FLAG, FLAGS_REST, HALTED, INTERRUPT_SHADOW } from './state.ts';
import { enterInterrupt, type InterruptKind } from './system/interrupt-entry.ts';

/**
 * Exceptions and interrupts: what the machine's loop does between instructions.
 *
 * The rules of that loop, at one count, after inputs and due timers:
 * 0. The trap that step 4 left pending: `deliverSingleStep`.
 * 1. Interrupts: when INTERRUPT_SHADOW is zero, IF is set and the APIC has one, call `deliverInterrupt`.
 * 2. If HALTED is nonzero, nothing else runs. Any delivery clears it.
 * 3. If INTERRUPT_SHADOW is nonzero or TF is set, the engine runs exactly one instruction. The loop clears
 *    INTERRUPT_SHADOW before it (STI, MOV SS and POP SS set it for the instruction that follows them), and step
 *    4 applies to TF as it was before the instruction.
 * 4. An instruction that was completed with TF set leaves SINGLE_STEP_TRAP set when `singleStepDue`; the loop sets
 *    it before, and INT n clears it.
 * 5. A fault that an instruction raised: RIP is that instruction's address; call `deliverFault`.
 * Each delivery counts as one (design 2). Every operation that can open the interrupt window (STI, POPF, IRET,
 * MOV CR8, WRMSR, port access) ends its block, so the loop sees it at the same count in every engine.
 */

/** Vectors [SDM 3A table 6-1]. */
export const VECTOR = {
  divide: 0,
  debug: 1,
  nmi: 2,
  breakpoint: 3,
  overflow: 4,
  bound: 5,
  invalidOpcode: 6,
  deviceNotAvailable: 7,
  doubleFault: 8,
  invalidTss: 10,
  segmentNotPresent: 11,
  stack: 12,
  generalProtection: 13,
  page: 14,
  x87: 16,
  alignment: 17,
  machineCheck: 18,
  simd: 19,
} as const;

/** Bit n: vector n pushes an error code [SDM 3A 6.13]. */
const WITH_ERROR_CODE = (1 << 8) | (1 << 10) | (1 << 11) | (1 << 12) | (1 << 13) | (1 << 14) | (1 << 17);

export function hasErrorCode(vector: number): boolean {
  return vector < 32 && ((WITH_ERROR_CODE >>> vector) & 1) !== 0;
}

/** Classes of exceptions for double faults [SDM 3A table 6-4]. */
function isContributory(vector: number): boolean {
  return vector === 0 || (vector >= 10 && vector <= 13);
}

/** What follows when `second` is raised while `first` is delivered [SDM 3A table 6-5]. */
export function combineFaults(first: number, second: number): 'serial' | 'double-fault' | 'triple-fault' {
  const severe = isContributory(second) || second === VECTOR.page;
  if (first === VECTOR.doubleFault) return severe ? 'triple-fault' : 'serial';
  if (isContributory(first)) return isContributory(second) ? 'double-fault' : 'serial';
  if (first === VECTOR.page) return severe ? 'double-fault' : 'serial';
  return 'serial';
}

/** Deliveries that may fail one after the other. */
const SERIAL_MAX = 64;

export type Delivery = 'delivered' | 'triple-fault';

/** Delivers an external interrupt; RIP is where execution resumes. */
export function deliverInterrupt(cpu: Cpu, vector: number): Delivery {
  return deliver(cpu, vector, 'external', 0);
}

/** Delivers an exception that an instruction raised; RIP is that instruction's address. Sets CR2 for #PF. */
export function deliverFault(cpu: Cpu, fault: PendingFault): Delivery {
  if (fault.vector === VECTOR.page) cpu.state.set64(CR2, fault.address);
  return deliver(cpu, fault.vector, 'exception', fault.errorCode);
}

/**
 * Delivers the #DB trap after an instruction; RIP is the next instruction's address. `causes`: bit 0 TF, bits 4:1 the
 * data breakpoints 3 to 0, as SINGLE_STEP_TRAP keeps them.
 */
export function deliverSingleStep(cpu: Cpu, causes = 1): Delivery {
  const status = ((causes & 1) << 14) | ((causes >>> 1) & 0xf);
  cpu.state.set64(DR6, cpu.state.get64(DR6) | BigInt(status));
  return deliver(cpu, VECTOR.debug, 'exception', 0);
}

/**
 * Does the trap of TF follow the instruction that was just completed? Not MOV SS and POP SS, which hold it for one
 * more instruction (STI does not: it only holds maskable interrupts [SDM 2B STI]), and not what entered a more privileged level: INT n, SYSCALL [SDM 3B 17.3.1.4].
 */
export function singleStepDue(cpu: Cpu, privilegeBefore: number): boolean {
  return cpu.state.get32(INTERRUPT_SHADOW) !== 1 && cpu.state.get32(CPL) >= privilegeBefore;
}

export function singleStepping(cpu: Cpu): boolean {
  return (cpu.state.get32(FLAGS_REST) & FLAG.tf) !== 0;
}

function deliver(cpu: Cpu, vector: number, kind: InterruptKind, errorCode: number): Delivery {
  const state = cpu.state;
  state.set32(HALTED, 0);
  state.set32(INTERRUPT_SHADOW, 0);
  // An external interrupt is benign, whatever its number.
  let first = kind === 'external' ? -1 : vector;
  let tries = 0;
  while (enterInterrupt(cpu, vector, kind, hasErrorCode(vector) ? errorCode : undefined) !== DONE) {
    const second = cpu.takeFault();
    assert(second !== undefined, 'a delivery that did not finish left a fault');
    if (second.vector === VECTOR.page) state.set64(CR2, second.address);
    const what = combineFaults(first, second.vector);
    // Benign exceptions whose delivery raises the next one go on for ever on a processor, which then neither executes
    // nor hears interrupts any more. Here that ends as a shutdown does.
    if (what === 'triple-fault' || ++tries === SERIAL_MAX) return 'triple-fault';
    vector = what === 'double-fault' ? VECTOR.doubleFault : second.vector;
    errorCode = what === 'double-fault' ? 0 : second.errorCode;
    kind = 'exception';
    first = vector;
  }
  return 'delivered';
}
