import { emitOperandAddress } from '../address.ts';
import { ABORTED, type Cpu, DONE, type Outcome, type SystemOperation, systemOperation } from '../cpu.ts';
import { notePointers, X87Unit } from '../float/x87-unit.ts';
import type { Instruction, Lowering, Row } from '../instruction.ts';

/** Rows of the x87 instructions (opcodes D8 to DF); all of them are slow-path code over X87Unit. */

const UNDEFINED_OPCODE = 6;
const MATH_FAULT = 16;

/**
 * What an instruction does. `i` is the low three bits of ModRM, `address` the linear address of the memory operand
 * (0 without one). ABORTED when an access to memory faulted; then nothing was changed.
 */
export type X87Body = (unit: X87Unit, i: number, address: bigint) => Outcome | undefined;

/**
 * An instruction that first delivers a waiting exception. With CR0.NE clear a PC would raise IRQ 13 instead; here
 * it is #MF as well.
 */
export function x87Operation(name: string, body: X87Body): SystemOperation {
  return systemOperation(name, (cpu: Cpu, b, c, imm): Outcome => {
    const unit = new X87Unit(cpu);
    if (unit.pending) return cpu.fault(MATH_FAULT);
    const { state } = cpu;
    const address = b === 0 ? undefined : state.get64(b);
    if (body(unit, c & 7, address ?? 0n) === ABORTED) return ABORTED;
    notePointers(state, Number(BigInt.asIntN(32, imm)), Number(imm >> 32n), address);
    return DONE;
  });
}

/** A control instruction: the pointers stay. `waits`: a waiting exception is delivered first. */
export function x87Control(name: string, waits: boolean, body: X87Body): SystemOperation {
  return systemOperation(name, (cpu: Cpu, b, c): Outcome => {
    const unit = new X87Unit(cpu);
    if (waits && unit.pending) return cpu.fault(MATH_FAULT);
    return body(unit, c, b === 0 ? 0n : cpu.state.get64(b)) ?? DONE;
  });
}

/** Where the instruction is and what FOP will hold: three bits of the first byte and ModRM [SDM 1 8.1.9]. */
function identity(instruction: Instruction, out: Lowering): bigint {
  const opcode = ((instruction.opcode & 7) << 8) | instruction.modrm;
  return BigInt.asUintN(32, BigInt(out.offset)) | (BigInt(opcode) << 32n);
}

function emitCall(instruction: Instruction, out: Lowering, operation: SystemOperation): void {
  const imm = identity(instruction, out);
  if (instruction.memory === undefined) {
    out.call(operation, { c: instruction.modrm & 7, imm });
    return;
  }
  // Control instructions take the sizes of operand and address in c.
  const c = instruction.operandSize | (instruction.addressSize << 4);
  out.call(operation, { b: emitOperandAddress(instruction, out), c, imm });
}

export function x87Memory(opcode: number, digit: number, operation: SystemOperation): Row {
  return {
    opcode,
    mnemonic: operation.name,
    modrm: true,
    immediate: 'none',
    digit,
    operand: 'memory',
    unit: 'x87',
    lower: (instruction, out) => emitCall(instruction, out, operation),
  };
}

/** D8 C0+i and the like. */
export function x87Stack(opcode: number, digit: number, operation: SystemOperation): Row {
  return { ...x87Memory(opcode, digit, operation), operand: 'register' };
}

/** Eight encodings of one group that have nothing to do with each other; undefined ones raise #UD. */
export function x87Group(
  opcode: number,
  digit: number,
  members: readonly (SystemOperation | undefined)[],
): Row {
  return {
    opcode,
    mnemonic: members.map((member) => member?.name ?? '-').join('/'),
    modrm: true,
    immediate: 'none',
    digit,
    operand: 'register',
    unit: 'x87',
    lower: (instruction, out) => {
      const operation = members[instruction.modrm & 7];
      if (operation === undefined) out.fault(UNDEFINED_OPCODE);
      else emitCall(instruction, out, operation);
    },
  };
}
