import { describe, expect, it } from 'vitest';
import { F80, unpack } from './format.ts';
import { x87Status } from './status.ts';
import {
  arctangent,
  cosine,
  powerMinusOne,
  sine,
  tangent,
  timesLog2,
  timesLog2PlusOne,
} from './transcendental.ts';

const status = () => x87Status(0x37f);
const ONE = unpack(F80, 0x3fff_8000_0000_0000_0000n);
const TWO = unpack(F80, 0x4000_8000_0000_0000_0000n);
const TEN = unpack(F80, 0x4002_a000_0000_0000_0000n);
const HALF = unpack(F80, 0x3ffe_8000_0000_0000_0000n);

/** A value of the 80-bit format with that exponent field. */
const withField = (field: bigint, negative = false) =>
  unpack(F80, (negative ? 1n << 79n : 0n) | (field << 64n) | 0xabcd_ef01_2345_6789n);

describe('transcendental functions', () => {
  it('know the constants of the processor', () => {
    expect(timesLog2(ONE, TEN, status())).toBe(0x4000_d49a_784b_cd1b_8afen);
    // arctan(1) = pi / 4.
    expect(arctangent(ONE, ONE, status())).toBe(0x3ffe_c90f_daa2_2168_c235n);
    // sqrt(2) - 1.
    expect(powerMinusOne(HALF, status())).toBe(0x3ffd_d413_cccf_e779_9211n);
  });

  it('give exact answers where there are any', () => {
    expect(timesLog2(TEN, TWO, status())).toBe(0x4002_a000_0000_0000_0000n);
    expect(powerMinusOne(ONE, status())).toBe(0x3fff_8000_0000_0000_0000n);
    expect(timesLog2PlusOne(TEN, ONE, status())).toBe(0x4002_a000_0000_0000_0000n);
  });

  // The guest chooses the operands: none may cost much more than others.
  it('end for operands of every size', () => {
    for (let field = 0n; field < 0x7fffn; field += 97n) {
      for (const negative of [false, true]) {
        const x = withField(field, negative);
        if (field < 16383n + 63n) {
          for (const angle of [sine, cosine, tangent]) expect(angle(x, status())).toBeGreaterThanOrEqual(0n);
        }
        expect(powerMinusOne(x, status())).toBeGreaterThanOrEqual(0n);
        expect(timesLog2(x, withField(0x7ffen - field), status())).toBeGreaterThanOrEqual(0n);
        expect(timesLog2PlusOne(TEN, x, status())).toBeGreaterThanOrEqual(0n);
        expect(arctangent(x, withField(0x7ffen - field, negative), status())).toBeGreaterThanOrEqual(0n);
      }
    }
  });
});
