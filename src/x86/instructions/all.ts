import type { Row } from '../instruction.ts';
import { buildOpcodeMap, type OpcodeMap } from '../opcode-map.ts';
import { SSE_CONVERT_ROWS } from './sse-convert.ts';
import { SSE_FLOAT_ROWS } from './sse-float.ts';
import { SSE_INTEGER_ROWS } from './sse-integer.ts';
import { SSE_MOVE_ROWS } from './sse-move.ts';
import { SSE_SHUFFLE_ROWS } from './sse-shuffle.ts';

/** Every family's rows. Families are independent: an overlap is an error found when the map is built. */
const FAMILIES: readonly (readonly Row[])[] = [
  SSE_MOVE_ROWS,
  SSE_INTEGER_ROWS,
  SSE_SHUFFLE_ROWS,
  SSE_FLOAT_ROWS,
  SSE_CONVERT_ROWS,
];

/** The opcode map of the processor that Lockstep offers. */
export const OPCODES: OpcodeMap = buildOpcodeMap(...FAMILIES);
