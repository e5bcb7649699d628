import { microOperation, type Semantics } from '../semantics.ts';
import { FLAGS_REST } from '../state.ts';
import { ALL_SIZES, bySize } from './by-size.ts';

/** +immediate, or -immediate when DF is set. */
function step<V, B, X>(s: Semantics<V, B, X>): V {
  const down = s.ne(s.and(s.state(FLAGS_REST, 8), s.constant(0x400)), s.constant(0));
  return s.select(down, s.sub(s.constant(0), s.immediate()), s.immediate());
}

/** a = b moved on by one element of `immediate` bytes in the direction of DF. */
export const ADVANCE64 = microOperation('advance64', (s) => s.set('a', 8, s.add(s.get('b', 8), step(s))));
export const ADVANCE32 = microOperation('advance32', (s) => s.set('a', 4, s.add(s.get('b', 4), step(s))));

/** The quick way of a repeated move or store: skips the next record when all was done. */
function blockMove(kind: 'move' | 'fill') {
  return bySize(`block-${kind}`, ALL_SIZES, (s, size) => s.when(s.blockMove(kind, size), () => s.skipNext()));
}
export const BLOCK_MOVE = blockMove('move');
export const BLOCK_FILL = blockMove('fill');

export const STRING_OPERATIONS = [
  ADVANCE64,
  ADVANCE32,
  ...Object.values(BLOCK_MOVE),
  ...Object.values(BLOCK_FILL),
];
