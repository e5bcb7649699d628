import { assert } from '../../base/assert.ts';
import { ADDRESS_OPERATIONS } from '../address.ts';
import type { MicroOperation } from '../semantics.ts';
import { SSE_INTEGER_OPERATIONS } from './sse-integer.ts';
import { SSE_MOVE_OPERATIONS } from './sse-move.ts';
import { SSE_SHUFFLE_OPERATIONS } from './sse-shuffle.ts';

/** Every micro-operation: the engines number them by their place here. */
export const MICRO_OPERATIONS: readonly MicroOperation[] = [
  ...ADDRESS_OPERATIONS,
  ...SSE_MOVE_OPERATIONS,
  ...SSE_INTEGER_OPERATIONS,
  ...SSE_SHUFFLE_OPERATIONS,
];

const names = new Set<string>();
for (const { name } of MICRO_OPERATIONS) {
  assert(!names.has(name), `two micro-operations are called ${name}`);
  names.add(name);
}
