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
import { MXCSR } from '../state.ts';
import { scalarSource, sseRow, vectorReg, vectorSource } from './sse-operand.ts';

/** SSE and SSE2 arithmetic. All of it is slow-path code; see sse-fast.ts for what goes before it. */

const PREFIX = { ps: 'np', pd: '66', ss: 'f3', sd: 'f2' } as const;

function source(instruction: Instruction, out: Lowering, { format, lanes }: Shape): number {
  if (lanes > 1) return vectorSource(instruction, out);
  return scalarSource(instruction, out, format === F32 ? 4 : 8);
}

function row(opcode: number, name: string, compute: LaneFunction, shape: Shape, more?: Partial<Row>): Row {
  const mnemonic = `${name}${shape.suffix}`;
  const operation = systemOperation(mnemonic, laneOperation(shape, compute));
  const lower = (instruction: Instruction, out: Lowering): void => {
    const c = source(instruction, out, shape);
    out.call(operation, { b: vectorReg(instruction), c, imm: instruction.immediate & 0xffn });
  };
  return sseRow(opcode, PREFIX[shape.suffix], mnemonic, lower, more);
}

function allShapes(opcode: number, name: string, compute: LaneFunction, more?: Partial<Row>): Row[] {
  return Object.values(SHAPES).map((shape) => row(opcode, name, compute, shape, more));
}
function singleShapes(opcode: number, name: string, compute: LaneFunction): Row[] {
  return [SHAPES.ps, SHAPES.ss].map((shape) => row(opcode, name, compute, shape));
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
  return sseRow(opcode, prefix, mnemonic, (instruction, out) => {
    const c = source(instruction, out, shape);
    out.call(operation, { b: vectorReg(instruction), c });
  });
}

export const SSE_FLOAT_ROWS: readonly Row[] = [
  compareRow(0x0f2e, 'ucomi', SHAPES.ss, 'np', true),
  compareRow(0x0f2e, 'ucomi', SHAPES.sd, '66', true),
  compareRow(0x0f2f, 'comi', SHAPES.ss, 'np', false),
  compareRow(0x0f2f, 'comi', SHAPES.sd, '66', false),
  ...allShapes(0x0f51, 'sqrt', LANE_FUNCTIONS.sqrt),
  ...singleShapes(0x0f52, 'rsqrt', (_format, _x, y) => approximateReciprocalSquareRoot(y)),
  ...singleShapes(0x0f53, 'rcp', (_format, _x, y) => approximateReciprocal(y)),
  ...allShapes(0x0f58, 'add', LANE_FUNCTIONS.add),
  ...allShapes(0x0f59, 'mul', LANE_FUNCTIONS.mul),
  ...allShapes(0x0f5c, 'sub', LANE_FUNCTIONS.sub),
  ...allShapes(0x0f5d, 'min', LANE_FUNCTIONS.min),
  ...allShapes(0x0f5e, 'div', LANE_FUNCTIONS.div),
  ...allShapes(0x0f5f, 'max', LANE_FUNCTIONS.max),
  ...allShapes(0x0fc2, 'cmp', LANE_FUNCTIONS.cmp, { immediate: 'b' }),
];
