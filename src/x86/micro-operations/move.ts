import { effectiveAddress } from '../address.ts';
import { microOperation } from '../semantics.ts';
import { ALL_SIZES, bySize } from './by-size.ts';

/** a = b. */
export const MOVE = bySize('move', ALL_SIZES, (s, size) => s.set('a', size, s.get('b', size)));
/** a = immediate, keeping the rest of the register; for 32 and 64 bits use SET64. */
export const SET = bySize('set', [1, 2] as const, (s, size) => s.set('a', size, s.immediate()));

/** a = memory. */
export const LOAD = bySize('load', ALL_SIZES, (s, size) =>
  s.set('a', size, s.load(size, effectiveAddress(s))),
);
/** a = memory, zero-extended to 64 bits. */
export const LOAD_ZERO = bySize('load-zero', [1, 2] as const, (s, size) =>
  s.set('a', 8, s.load(size, effectiveAddress(s))),
);
/** a = memory, zero-extended to 64 bits, faulting as a write would. */
export const LOAD_FOR_WRITE = bySize('load-for-write', ALL_SIZES, (s, size) =>
  s.set('a', 8, s.loadForWrite(size, effectiveAddress(s))),
);
/** a (32 or 64 bits) = memory, sign-extended. */
export const LOAD_SIGNED_TO32 = bySize('load-signed-to32-', [1, 2] as const, (s, size) =>
  s.set('a', 4, s.signExtend(s.load(size, effectiveAddress(s)), size)),
);
export const LOAD_SIGNED_TO64 = bySize('load-signed-to64-', [1, 2, 4] as const, (s, size) =>
  s.set('a', 8, s.signExtend(s.load(size, effectiveAddress(s)), size)),
);

/** Memory = a. */
export const STORE = bySize('store', ALL_SIZES, (s, size) =>
  s.store(size, effectiveAddress(s), s.get('a', size)),
);
/** Memory at b + (c << number a) + low immediate = high immediate, sign-extended. */
export const STORE_IMMEDIATE = bySize('store-immediate', ALL_SIZES, (s, size) => {
  const index = s.shl(s.get('c', 8), s.number('a'));
  s.store(size, s.add(s.add(s.get('b', 8), index), s.immediateLow()), s.immediateHigh());
});

/** a = b, zero-extended to 64 bits. */
export const MOVE_ZERO = bySize('move-zero', [1, 2] as const, (s, size) => s.set('a', 8, s.get('b', size)));
/** a (32 or 64 bits) = b, sign-extended. */
export const MOVE_SIGNED_TO32 = bySize('move-signed-to32-', [1, 2] as const, (s, size) =>
  s.set('a', 4, s.getSigned('b', size)),
);
export const MOVE_SIGNED_TO64 = bySize('move-signed-to64-', [1, 2, 4] as const, (s, size) =>
  s.set('a', 8, s.getSigned('b', size)),
);
/** a = the sign of b in every bit: CWD, CDQ, CQO. */
export const SPREAD_SIGN = bySize('spread-sign', [2, 4, 8] as const, (s, size) =>
  s.set('a', size, s.shrS(s.getSigned('b', size), s.constant(63))),
);

/** a and b change places. */
export const EXCHANGE = bySize('exchange', ALL_SIZES, (s, size) => {
  const a = s.get('a', size);
  const b = s.get('b', size);
  s.set('a', size, b);
  s.set('b', size, a);
});

/** a = b with its bytes reversed. */
export const SWAP_BYTES32 = microOperation('swap-bytes32', (s) => {
  const x = s.get('b', 4);
  // Within 32 bits: bytes 3 and 1 by one rotation, 2 and 0 by the other.
  const odd = s.and(x, s.constant(0xff00_ff00n));
  const even = s.and(x, s.constant(0x00ff_00ffn));
  const right = s.shrU(odd, s.constant(8));
  const left = s.shl(even, s.constant(8));
  const swapped = s.or(right, left);
  s.set('a', 4, s.or(s.shl(swapped, s.constant(16)), s.shrU(swapped, s.constant(16))));
});
export const SWAP_BYTES64 = microOperation('swap-bytes64', (s) => {
  const bytes = s.constant(0x00ff_00ff_00ff_00ffn);
  const words = s.constant(0x0000_ffff_0000_ffffn);
  const by8 = s.constant(8);
  const by16 = s.constant(16);
  const x = s.get('b', 8);
  const y = s.or(s.shl(s.and(x, bytes), by8), s.and(s.shrU(x, by8), bytes));
  const z = s.or(s.shl(s.and(y, words), by16), s.and(s.shrU(y, by16), words));
  s.set('a', 8, s.rotl(z, s.constant(32)));
});

export const MOVE_OPERATIONS = [
  ...Object.values(MOVE),
  ...Object.values(SET),
  ...Object.values(LOAD),
  ...Object.values(LOAD_ZERO),
  ...Object.values(LOAD_FOR_WRITE),
  ...Object.values(LOAD_SIGNED_TO32),
  ...Object.values(LOAD_SIGNED_TO64),
  ...Object.values(STORE),
  ...Object.values(STORE_IMMEDIATE),
  ...Object.values(MOVE_ZERO),
  ...Object.values(MOVE_SIGNED_TO32),
  ...Object.values(MOVE_SIGNED_TO64),
  ...Object.values(SPREAD_SIGN),
  ...Object.values(EXCHANGE),
  SWAP_BYTES32,
  SWAP_BYTES64,
];
