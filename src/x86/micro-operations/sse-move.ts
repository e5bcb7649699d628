import { effectiveAddress } from '../address.ts';
import { microOperation } from '../semantics.ts';
import { MXCSR } from '../state.ts';

/**
 * Moves between vector registers, general registers and memory. Vector registers are always reached through
 * getVector and setVector, never as halves by offset, so an engine may keep them whole in a local.
 */

/** a = 16 bytes of memory. */
export const LOAD_VECTOR = microOperation('load-vector', (s) =>
  s.setVector('a', s.loadVector(effectiveAddress(s), false)),
);
export const LOAD_VECTOR_ALIGNED = microOperation('load-vector-aligned', (s) =>
  s.setVector('a', s.loadVector(effectiveAddress(s), true)),
);
/** Low 2, 4 or 8 bytes of a = memory, the rest zero. */
export const LOAD_VECTOR16 = microOperation('load-vector16', (s) =>
  s.setVector('a', s.vector(s.load(2, effectiveAddress(s)), s.constant(0))),
);
export const LOAD_VECTOR32 = microOperation('load-vector32', (s) =>
  s.setVector('a', s.vector(s.load(4, effectiveAddress(s)), s.constant(0))),
);
export const LOAD_VECTOR64 = microOperation('load-vector64', (s) =>
  s.setVector('a', s.vector(s.load(8, effectiveAddress(s)), s.constant(0))),
);
/** One half of a = 8 bytes of memory, the other stays. */
export const LOAD_LOW_HALF = microOperation('load-low-half', (s) =>
  s.setVector('a', s.vector(s.load(8, effectiveAddress(s)), s.lane(s.getVector('a'), 1))),
);
export const LOAD_HIGH_HALF = microOperation('load-high-half', (s) =>
  s.setVector('a', s.vector(s.lane(s.getVector('a'), 0), s.load(8, effectiveAddress(s)))),
);

/** Memory = a, or its low 4 bytes, low half or high half. */
export const STORE_VECTOR = microOperation('store-vector', (s) =>
  s.storeVector(effectiveAddress(s), s.getVector('a'), false),
);
export const STORE_VECTOR_ALIGNED = microOperation('store-vector-aligned', (s) =>
  s.storeVector(effectiveAddress(s), s.getVector('a'), true),
);
export const STORE_LOW32 = microOperation('store-vector-low32', (s) =>
  s.store(4, effectiveAddress(s), s.lane(s.getVector('a'), 0)),
);
export const STORE_LOW_HALF = microOperation('store-low-half', (s) =>
  s.store(8, effectiveAddress(s), s.lane(s.getVector('a'), 0)),
);
export const STORE_HIGH_HALF = microOperation('store-high-half', (s) =>
  s.store(8, effectiveAddress(s), s.lane(s.getVector('a'), 1)),
);

/** Memory = MXCSR. */
export const STORE_MXCSR = microOperation('store-mxcsr', (s) =>
  s.store(4, effectiveAddress(s), s.state(MXCSR, 4)),
);

/** a = b. */
export const MOVE_VECTOR = microOperation('move-vector', (s) => s.setVector('a', s.getVector('b')));
/** a = low half of b, upper half zero. */
export const MOVE_LOW_HALF = microOperation('move-low-half', (s) =>
  s.setVector('a', s.vector(s.lane(s.getVector('b'), 0), s.constant(0))),
);
/** Low 4 or 8 bytes of a = those of b. */
export const MERGE_LOW32 = microOperation('merge-low32', (s) =>
  s.setVector(
    'a',
    s.shuffle(s.getVector('a'), s.getVector('b'), [16, 17, 18, 19, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]),
  ),
);
export const MERGE_LOW_HALF = microOperation('merge-low-half', (s) =>
  s.setVector('a', s.vector(s.lane(s.getVector('b'), 0), s.lane(s.getVector('a'), 1))),
);
/** Vector a = general register b, zero-extended. */
export const VECTOR_FROM32 = microOperation('vector-from32', (s) =>
  s.setVector('a', s.vector(s.get('b', 4), s.constant(0))),
);
export const VECTOR_FROM64 = microOperation('vector-from64', (s) =>
  s.setVector('a', s.vector(s.get('b', 8), s.constant(0))),
);
/** General register a = low 4 or 8 bytes of vector b. */
export const VECTOR_TO32 = microOperation('vector-to32', (s) => s.set('a', 4, s.lane(s.getVector('b'), 0)));
export const VECTOR_TO64 = microOperation('vector-to64', (s) => s.set('a', 8, s.lane(s.getVector('b'), 0)));

/** General register a = the sign bits of b's lanes. */
export const SIGN_MASK8 = microOperation('sign-mask8', (s) =>
  s.set('a', 4, s.signMask('i8x16', s.getVector('b'))),
);
export const SIGN_MASK32 = microOperation('sign-mask32', (s) =>
  s.set('a', 4, s.signMask('i32x4', s.getVector('b'))),
);
export const SIGN_MASK64 = microOperation('sign-mask64', (s) =>
  s.set('a', 4, s.signMask('i64x2', s.getVector('b'))),
);

/** General register a = word number imm (0..7) of vector b. */
export const EXTRACT16 = microOperation('extract16', (s) => {
  const x = s.getVector('b');
  const low = s.isZero(s.and(s.immediate(), s.constant(4)));
  const half = s.select(low, s.lane(x, 0), s.lane(x, 1));
  const shift = s.shl(s.and(s.immediate(), s.constant(3)), s.constant(4));
  s.set('a', 4, s.zeroExtend(s.shrU(half, shift), 2));
});
/** Word number imm (0..7) of vector a = the low word of vector b. */
export const INSERT16 = microOperation('insert16', (s) => {
  const x = s.getVector('a');
  const low = s.isZero(s.and(s.immediate(), s.constant(4)));
  const half = s.select(low, s.lane(x, 0), s.lane(x, 1));
  const shift = s.shl(s.and(s.immediate(), s.constant(3)), s.constant(4));
  const hole = s.shl(s.constant(0xffff), shift);
  const word = s.zeroExtend(s.lane(s.getVector('b'), 0), 2);
  const filled = s.or(s.and(half, s.xor(hole, s.constant(-1n))), s.shl(word, shift));
  s.setVector('a', s.vector(s.select(low, filled, s.lane(x, 0)), s.select(low, s.lane(x, 1), filled)));
});

export const SSE_MOVE_OPERATIONS = [
  LOAD_VECTOR,
  LOAD_VECTOR_ALIGNED,
  LOAD_VECTOR16,
  LOAD_VECTOR32,
  LOAD_VECTOR64,
  LOAD_LOW_HALF,
  LOAD_HIGH_HALF,
  STORE_VECTOR,
  STORE_VECTOR_ALIGNED,
  STORE_LOW32,
  STORE_LOW_HALF,
  STORE_HIGH_HALF,
  STORE_MXCSR,
  MOVE_VECTOR,
  MOVE_LOW_HALF,
  MERGE_LOW32,
  MERGE_LOW_HALF,
  VECTOR_FROM32,
  VECTOR_FROM64,
  VECTOR_TO32,
  VECTOR_TO64,
  SIGN_MASK8,
  SIGN_MASK32,
  SIGN_MASK64,
  EXTRACT16,
  INSERT16,
];
