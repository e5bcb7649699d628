import type { Cpu, Outcome, SystemFunction } from '../cpu.ts';
import { ABORTED, DONE } from '../cpu.ts';
import { type CpuState, CR4, MXCSR } from '../state.ts';
import { add, type Binary, divide, multiply, squareRoot, subtract } from './arithmetic.ts';
import { compare } from './compare.ts';
import { F32, F64, type Float, type FloatFormat, unpack } from './format.ts';
import { BEFORE_OPERATION, type FloatStatus, sseStatus } from './status.ts';

/** SSE arithmetic on vector registers in the state: b is the first operand and the result, c the second. */

export interface Shape {
  readonly suffix: 'ps' | 'pd' | 'ss' | 'sd';
  readonly format: FloatFormat;
  readonly lanes: number;
}
export const SHAPES = {
  ps: { suffix: 'ps', format: F32, lanes: 4 },
  pd: { suffix: 'pd', format: F64, lanes: 2 },
  ss: { suffix: 'ss', format: F32, lanes: 1 },
  sd: { suffix: 'sd', format: F64, lanes: 1 },
} as const satisfies Record<string, Shape>;

const OSXMMEXCPT = 1n << 10n;
const UNDEFINED_OPCODE = 6;
const SIMD_EXCEPTION = 19;

export function readLane(state: CpuState, format: FloatFormat, offset: number, lane: number): bigint {
  return format === F32 ? BigInt(state.get32(offset + lane * 4)) : state.get64(offset + lane * 8);
}

export function writeLane(
  state: CpuState,
  format: FloatFormat,
  offset: number,
  lane: number,
  bits: bigint,
): void {
  if (format === F32) state.set32(offset + lane * 4, Number(bits));
  else state.set64(offset + lane * 8, bits);
}

/**
 * Puts the flags into MXCSR; an unmasked one becomes #XM (#UD when the system does not expect it), and the result
 * must not be written. An unmasked exception found before the operation hides the later ones [SDM 1 11.5.3].
 */
export function report(cpu: Cpu, status: FloatStatus): Outcome {
  if (status.flags === 0) return DONE;
  const unmasked = status.flags & ~status.masks;
  const flags = unmasked & BEFORE_OPERATION ? status.flags & BEFORE_OPERATION : status.flags;
  cpu.state.set32(MXCSR, cpu.state.get32(MXCSR) | flags);
  if (unmasked === 0) return DONE;
  return cpu.fault(cpu.state.get64(CR4) & OSXMMEXCPT ? SIMD_EXCEPTION : UNDEFINED_OPCODE);
}

/** A lane's new bits, from the bits of both operands. */
export type LaneFunction = (
  format: FloatFormat,
  x: bigint,
  y: bigint,
  status: FloatStatus,
  imm: bigint,
) => bigint;

/** An operation done on every lane of the shape. */
export function laneOperation({ format, lanes }: Shape, compute: LaneFunction): SystemFunction {
  return (cpu, b, c, imm) => {
    const { state } = cpu;
    const status = sseStatus(state.get32(MXCSR));
    const results: bigint[] = [];
    for (let lane = 0; lane < lanes; lane++) {
      const x = readLane(state, format, b, lane);
      const y = readLane(state, format, c, lane);
      results.push(compute(format, x, y, status, imm));
    }
    if (report(cpu, status) !== DONE) return ABORTED;
    for (let lane = 0; lane < lanes; lane++) writeLane(state, format, b, lane, results[lane]!);
    return DONE;
  };
}

function arithmetic(operation: Binary): LaneFunction {
  return (format, x, y, status) => {
    const daz = status.denormalsAreZero;
    return operation(format, unpack(format, x, daz), unpack(format, y, daz), status);
  };
}

/** MIN and MAX: the second operand when either is no number or both are zero [SDM 2B MINPS]. */
function extremum(wanted: 'less' | 'greater'): LaneFunction {
  return (format, x, y, status) => {
    const daz = status.denormalsAreZero;
    const left = unpack(format, x, daz);
    const right = unpack(format, y, daz);
    const first = compare(left, right, false, status) === wanted;
    const [chosen, bits] = first ? [left, x] : [right, y];
    return chosen.kind === 'zero' ? bits & (1n << BigInt(format.width - 1)) : bits;
  };
}

/** The eight predicates of CMPPS, as (quiet, true for less, equal, greater, unordered) [SDM 2A CMPPD]. */
const PREDICATES = [
  { quiet: true, holds: ['equal'] },
  { quiet: false, holds: ['less'] },
  { quiet: false, holds: ['less', 'equal'] },
  { quiet: true, holds: ['unordered'] },
  { quiet: true, holds: ['less', 'greater', 'unordered'] },
  { quiet: false, holds: ['equal', 'greater', 'unordered'] },
  { quiet: false, holds: ['greater', 'unordered'] },
  { quiet: true, holds: ['less', 'equal', 'greater'] },
] as const satisfies readonly { quiet: boolean; holds: readonly string[] }[];

const comparison: LaneFunction = (format, x, y, status, imm) => {
  const predicate: { quiet: boolean; holds: readonly string[] } = PREDICATES[Number(imm & 7n)]!;
  const order = compare(read(format, x, status), read(format, y, status), predicate.quiet, status);
  return predicate.holds.includes(order) ? (1n << BigInt(format.width)) - 1n : 0n;
};

function read(format: FloatFormat, bits: bigint, status: FloatStatus): Float {
  return unpack(format, bits, status.denormalsAreZero);
}

export const LANE_FUNCTIONS = {
  add: arithmetic(add),
  mul: arithmetic(multiply),
  sub: arithmetic(subtract),
  div: arithmetic(divide),
  sqrt: ((format, _x, y, status) =>
    squareRoot(format, read(format, y, status), status)) satisfies LaneFunction,
  min: extremum('less'),
  max: extremum('greater'),
  cmp: comparison,
} as const satisfies Record<string, LaneFunction>;
