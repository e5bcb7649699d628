import { ABORTED, DONE, type SystemOperation, systemOperation } from '../cpu.ts';
import { compare } from '../float/compare.ts';
import { F32, type FloatFormat, unpack } from '../float/format.ts';
import { approximateReciprocal, approximateReciprocalSquareRoot } from '../float/reciprocal.ts';
import {
  LANE_FUNCTIONS,
  type LaneFunction,
  laneOperation,
  readLane,
  report,
  SHAPES,
  type Shape,
} from '../float/sse.ts';
import { sseStatus } from '../float/status.ts';
import type { Instruction, Lowering, Row } from '../instruction.ts';
import { QUICK_ARITHMETIC, QUICK_ORDER, QUICK_ROOT } from '../micro-operations/sse-float.ts';
import type { MicroOperation } from '../semantics.ts';
import { MXCSR } from '../state.ts';
import { scalarSource, sseRow, vectorReg, vectorSource } from './sse-operand.ts';

/** SSE and SSE2 arithmetic: slow-path code, and before it for the common ones a quick way that may skip it. */

const PREFIX = { ps: 'np', pd: '66', ss: 'f3', sd: 'f2' } as const;

function source(instruction: Instruction, out: Lowering, { format, lanes }: Shape): number {
  if (lanes > 1) return vectorSource(instruction, out);
  return scalarSource(instruction, out, format === F32 ? 4 : 8);
}

type Quick = Readonly<Partial<Record<Shape['suffix'], MicroOperation>>>;

function row(
  opcode: number,
  name: string,
  compute: LaneFunction,
  shape: Shape,
  quick: MicroOperation | undefined,
  more?: Partial<Row>,
): Row {
  const mnemonic = `${name}${shape.suffix}`;
  const operation = systemOperation(mnemonic, laneOperation(shape, compute));
  const lower = (instruction: Instruction, out: Lowering): void => {
    const c = source(instruction, out, shape);
    const target = vectorReg(instruction);
    if (quick !== undefined) out.emit(quick, { a: target, b: target, c });
    out.call(operation, { b: target, c, imm: instruction.immediate & 0xffn });
  };
  return sseRow(opcode, PREFIX[shape.suffix], mnemonic, lower, more);
}

function allShapes(
  opcode: number,
  name: string,
  compute: LaneFunction,
  quick: Quick = {},
  more?: Partial<Row>,
): Row[] {
  return Object.values(SHAPES).map((shape) => row(opcode, name, compute, shape, quick[shape.suffix], more));
}
function singleShapes(opcode: number, name: string, compute: LaneFunction): Row[] {
  return [SHAPES.ps, SHAPES.ss].map((shape) => row(opcode, name, compute, shape, undefined));
}

/** ZF, PF and CF for less, equal, greater and unordered; the other arithmetic flags are cleared. */
const COMPARE_FLAGS = { greater: 0n, less: 0x01n, equal: 0x40n, unordered: 0x45n } as const;

function compareScalars(name: string, format: FloatFormat, quiet: boolean): SystemOperation {
  return systemOperation(name, (cpu, b, c) => {
    const { state } = cpu;
    const status = sseStatus(state.get32(MXCSR));
    const x = unpack(format, readLane(state, format, b, 0), status.denormalsAreZero);
    const y = unpack(format, readLane(state, format, c, 0), status.denormalsAreZero);
    const order = compare(x, y, quiet, status);
    if (report(cpu, status) !== DONE) return ABORTED;
    state.rflags = (state.rflags & ~0x8d5n) | COMPARE_FLAGS[order];
    return DONE;
  });
}
function compareRow(opcode: number, name: string, shape: Shape, prefix: 'np' | '66', quiet: boolean): Row {
  const mnemonic = `${name}${shape.suffix}`;
  const operation = compareScalars(mnemonic, shape.format, quiet);
  const quick = QUICK_ORDER[shape.format === F32 ? 'ss' : 'sd'];
  return sseRow(opcode, prefix, mnemonic, (instruction, out) => {
    const c = source(instruction, out, shape);
    out.emit(quick, { b: vectorReg(instruction), c });
    out.call(operation, { b: vectorReg(instruction), c });
  });
}

function quickArithmetic(kind: keyof typeof QUICK_ARITHMETIC.sd): Quick {
  const { ss, sd, ps, pd } = QUICK_ARITHMETIC;
  return { ss: ss[kind], sd: sd[kind], ps: ps[kind], pd: pd[kind] };
}

export const SSE_FLOAT_ROWS: readonly Row[] = [
  compareRow(0x0f2e, 'ucomi', SHAPES.ss, 'np', true),
  compareRow(0x0f2e, 'ucomi', SHAPES.sd, '66', true),
  compareRow(0x0f2f, 'comi', SHAPES.ss, 'np', false),
  compareRow(0x0f2f, 'comi', SHAPES.sd, '66', false),
  ...allShapes(0x0f51, 'sqrt', LANE_FUNCTIONS.sqrt, QUICK_ROOT),
  ...singleShapes(0x0f52, 'rsqrt', (_format, _x, y) => approximateReciprocalSquareRoot(y)),
  ...singleShapes(0x0f53, 'rcp', (_format, _x, y) => approximateReciprocal(y)),
  ...allShapes(0x0f58, 'add', LANE_FUNCTIONS.add, quickArithmetic('add')),
  ...allShapes(0x0f59, 'mul', LANE_FUNCTIONS.mul, quickArithmetic('mul')),
  ...allShapes(0x0f5c, 'sub', LANE_FUNCTIONS.sub, quickArithmetic('sub')),
  ...allShapes(0x0f5d, 'min', LANE_FUNCTIONS.min),
  ...allShapes(0x0f5e, 'div', LANE_FUNCTIONS.div, quickArithmetic('div')),
  ...allShapes(0x0f5f, 'max', LANE_FUNCTIONS.max),
  ...allShapes(0x0fc2, 'cmp', LANE_FUNCTIONS.cmp, {}, { immediate: 'b' }),
];
