import { type CpuState, CR4, DR0, DR7 } from '../state.ts';
import { CR4_BIT } from './mode.ts';

/** What the breakpoints of DR0 to DR3 are for, as DR7 tells [SDM 3B 17.2.4]. Results are masks of bits 3:0, as in DR6. */

const EXECUTE = 0;
const PORT = 2;
const LENGTHS = [1, 2, 8, 4] as const;

/** The R/W field: 0 instructions, 1 writes, 2 ports (with CR4.DE), 3 reads and writes. */
function kindOf(control: number, index: number): number {
  return (control >>> (16 + index * 4)) & 3;
}

function enabled(control: number, wanted: (kind: number) => boolean): number {
  let found = 0;
  for (let index = 0; index < 4; index++)
    if (((control >>> (index * 2)) & 3) !== 0 && wanted(kindOf(control, index))) found |= 1 << index;
  return found;
}

export function instructionBreakpoints(state: CpuState): number {
  const control = state.get32(DR7);
  return (control & 0xff) === 0 ? 0 : enabled(control, (kind) => kind === EXECUTE);
}

export function dataBreakpoints(state: CpuState): number {
  const control = state.get32(DR7);
  return (control & 0xff) === 0 ? 0 : enabled(control, (kind) => (kind & 1) === 1);
}

/** Breakpoints on instructions that stand at this linear address, given in halves. */
export function instructionBreakpointsAt(state: CpuState, low: number, high: number): number {
  let met = instructionBreakpoints(state);
  for (let index = 0; index < 4; index++) {
    const at = (DR0 >>> 2) + index * 2;
    if (state.i32[at] !== low || state.i32[at + 1] !== high) met &= ~(1 << index);
  }
  return met;
}

/** Data breakpoints that an access meets: a byte of it is in the range that they watch [SDM 3B 17.2.5]. */
export function dataBreakpointsAt(
  state: CpuState,
  low: number,
  high: number,
  size: number,
  write: boolean,
): number {
  const first = (BigInt(high >>> 0) << 32n) | BigInt(low >>> 0);
  const watching = enabled(state.get32(DR7), (kind) => kind === 3 || (kind === 1 && write));
  return inRange(state, watching, first, size);
}

/** Breakpoints on ports that an access meets. */
export function portBreakpointsAt(state: CpuState, port: number, size: number): number {
  const control = state.get32(DR7);
  if ((control & 0xff) === 0 || (state.get32(CR4) & CR4_BIT.de) === 0) return 0;
  return inRange(
    state,
    enabled(control, (kind) => kind === PORT),
    BigInt(port),
    size,
  );
}

function inRange(state: CpuState, breakpoints: number, first: bigint, size: number): number {
  const control = state.get32(DR7);
  let met = 0;
  for (let index = 0; index < 4; index++) {
    if ((breakpoints & (1 << index)) === 0) continue;
    const length = LENGTHS[(control >>> (18 + index * 4)) & 3]!;
    const from = state.get64(DR0 + index * 8) & ~BigInt(length - 1);
    if (first < from + BigInt(length) && from < first + BigInt(size)) met |= 1 << index;
  }
  return met;
}
