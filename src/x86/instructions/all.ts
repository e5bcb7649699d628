import type { Row } from '../instruction.ts';
import { buildOpcodeMap, type OpcodeMap } from '../opcode-map.ts';
import { ARITHMETIC_ROWS } from './arithmetic.ts';
import { BIT_ROWS } from './bit.ts';
import { COMPARE_EXCHANGE_WIDE_ROWS } from './compare-exchange-wide.ts';
import { CONTROL_FLOW_ROWS } from './control-flow.ts';
import { DATA_MOVEMENT_ROWS } from './data-movement.ts';
import { DECIMAL_ROWS } from './decimal.ts';
import { FLAG_ROWS } from './flags.ts';
import { MMX_ROWS } from './mmx.ts';
import { MULTIPLY_DIVIDE_ROWS } from './multiply-divide.ts';
import { SHIFT_ROWS } from './shift.ts';
import { SSE_CONVERT_ROWS } from './sse-convert.ts';
import { SSE_FLOAT_ROWS } from './sse-float.ts';
import { SSE_INTEGER_ROWS } from './sse-integer.ts';
import { SSE_MOVE_ROWS } from './sse-move.ts';
import { SSE_SHUFFLE_ROWS } from './sse-shuffle.ts';
import { SSE_STATE_ROWS } from './sse-state.ts';
import { STACK_ROWS } from './stack.ts';
import { STRING_ROWS } from './string.ts';
import { SYSTEM_ROWS } from './system.ts';
import { X87_ARITHMETIC_ROWS } from './x87-arithmetic.ts';
import { X87_COMPARE_ROWS } from './x87-compare.ts';
import { X87_CONTROL_ROWS } from './x87-control.ts';
import { X87_MOVE_ROWS } from './x87-move.ts';

/** Every family's rows. Families are independent: an overlap is an error found when the map is built. */
const FAMILIES: readonly (readonly Row[])[] = [
  ARITHMETIC_ROWS,
  BIT_ROWS,
  COMPARE_EXCHANGE_WIDE_ROWS,
  CONTROL_FLOW_ROWS,
  DATA_MOVEMENT_ROWS,
  DECIMAL_ROWS,
  FLAG_ROWS,
  MULTIPLY_DIVIDE_ROWS,
  SHIFT_ROWS,
  STACK_ROWS,
  STRING_ROWS,
  SYSTEM_ROWS,
  SSE_MOVE_ROWS,
  SSE_INTEGER_ROWS,
  SSE_SHUFFLE_ROWS,
  SSE_FLOAT_ROWS,
  SSE_CONVERT_ROWS,
  SSE_STATE_ROWS,
  MMX_ROWS,
  X87_ARITHMETIC_ROWS,
  X87_COMPARE_ROWS,
  X87_CONTROL_ROWS,
  X87_MOVE_ROWS,
];

/** The opcode map of the processor that Lockstep offers. */
export const OPCODES: OpcodeMap = buildOpcodeMap(...FAMILIES);
