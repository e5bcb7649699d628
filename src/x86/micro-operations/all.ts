import { assert } from '../../base/assert.ts';
import { ADDRESS_OPERATIONS } from '../address.ts';
import type { MicroOperation } from '../semantics.ts';
import { ARITHMETIC_OPERATIONS } from './arithmetic.ts';
import { BIT_OPERATIONS } from './bit.ts';
import { CONTROL_OPERATIONS } from './control.ts';
import { DIVIDE_OPERATIONS } from './divide.ts';
import { FLAG_OPERATIONS } from './flags.ts';
import { MMX_OPERATIONS } from './mmx.ts';
import { MOVE_OPERATIONS } from './move.ts';
import { MULTIPLY_OPERATIONS } from './multiply.ts';
import { SHIFT_OPERATIONS } from './shift.ts';
import { SSE_FLOAT_OPERATIONS } from './sse-float.ts';
import { SSE_INTEGER_OPERATIONS } from './sse-integer.ts';
import { SSE_MOVE_OPERATIONS } from './sse-move.ts';
import { SSE_SHUFFLE_OPERATIONS } from './sse-shuffle.ts';
import { STRING_OPERATIONS } from './string.ts';
import { SYSTEM_MICRO_OPERATIONS } from './system.ts';

/** Every micro-operation: the engines number them by their place here. */
export const MICRO_OPERATIONS: readonly MicroOperation[] = [
  ...ADDRESS_OPERATIONS,
  ...ARITHMETIC_OPERATIONS,
  ...BIT_OPERATIONS,
  ...CONTROL_OPERATIONS,
  ...DIVIDE_OPERATIONS,
  ...FLAG_OPERATIONS,
  ...MOVE_OPERATIONS,
  ...MULTIPLY_OPERATIONS,
  ...SHIFT_OPERATIONS,
  ...STRING_OPERATIONS,
  ...SYSTEM_MICRO_OPERATIONS,
  ...SSE_MOVE_OPERATIONS,
  ...SSE_INTEGER_OPERATIONS,
  ...SSE_SHUFFLE_OPERATIONS,
  ...SSE_FLOAT_OPERATIONS,
  ...MMX_OPERATIONS,
];

const names = new Set<string>();
for (const { name } of MICRO_OPERATIONS) {
  assert(!names.has(name), `two micro-operations are called ${name}`);
  names.add(name);
}
