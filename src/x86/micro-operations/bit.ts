import { microOperation } from '../semantics.ts';
import { bySize, WORD_SIZES } from './by-size.ts';
import { replaceCarry } from './flags.ts';

/**
 * Bit tests and scans. BT and its family change CF alone. A scan of zero keeps the destination, all of it. Both
 * as AMD Zen processors have it, measured; a scan's flags are those of its result.
 */

/** CF = bit (c & immediate) of b. */
export const BIT_TEST = microOperation('bit-test', (s) => {
  const index = s.and(s.get('c', 8), s.immediate());
  replaceCarry(s, s.and(s.shrU(s.get('b', 8), index), s.constant(1)));
});
/** CF = bit `immediate` of b. */
export const BIT_TEST_IMMEDIATE = microOperation('bit-test-immediate', (s) =>
  replaceCarry(s, s.and(s.shrU(s.get('b', 8), s.immediate()), s.constant(1))),
);
/** a = 1 << (b & immediate). */
export const BIT_MASK = microOperation('bit-mask', (s) =>
  s.set('a', 8, s.shl(s.constant(1), s.and(s.get('b', 8), s.immediate()))),
);
/** a = b with the bits of mask c set, cleared or complemented: 64 bits, no flags. */
export const BITS_SET = microOperation('bits-set', (s) => s.set('a', 8, s.or(s.get('b', 8), s.get('c', 8))));
export const BITS_RESET = microOperation('bits-reset', (s) =>
  s.set('a', 8, s.and(s.get('b', 8), s.xor(s.get('c', 8), s.constant(-1)))),
);
export const BITS_COMPLEMENT = microOperation('bits-complement', (s) =>
  s.set('a', 8, s.xor(s.get('b', 8), s.get('c', 8))),
);
/** a = b + ((c >> low immediate, signed) << high immediate): the operand of a bit string [SDM 2A BT]. */
export const BIT_STRING_ADDRESS = microOperation('bit-string-address', (s) => {
  const element = s.shrS(s.get('c', 8), s.immediateLow());
  s.set('a', 8, s.add(s.get('b', 8), s.shl(element, s.immediateHigh())));
});

/** a = index of the lowest bit set in b. A 16-bit source is zero-extended first. */
export const SCAN_FORWARD = bySize('scan-forward', WORD_SIZES, (s, size) => {
  const x = s.get('b', size);
  s.when(
    s.isZero(x),
    () => s.setFlags(s.constant(0), s.constant(0)),
    () => {
      const index = s.ctz(x);
      // ZF is clear also for index 0: then the result is 256, whose low byte and sign are those of 0.
      s.setFlags(s.or(index, s.constant(256)), s.constant(0));
      s.set('a', size, index);
    },
  );
});
/** a = index of the highest bit set in b. */
export const SCAN_REVERSE = bySize('scan-reverse', WORD_SIZES, (s, size) => {
  const x = s.get('b', size);
  s.when(
    s.isZero(x),
    () => s.setFlags(s.constant(0), s.constant(0)),
    () => {
      const index = s.sub(s.constant(63), s.clz(x));
      s.setFlags(s.or(index, s.constant(256)), s.constant(0));
      s.set('a', size, index);
    },
  );
});

export const BIT_OPERATIONS = [
  BIT_TEST,
  BIT_TEST_IMMEDIATE,
  BIT_MASK,
  BITS_SET,
  BITS_RESET,
  BITS_COMPLEMENT,
  BIT_STRING_ADDRESS,
  ...Object.values(SCAN_FORWARD),
  ...Object.values(SCAN_REVERSE),
];
