import { describe, expect, it } from 'vitest';
import { add, divide, multiply, squareRoot } from './arithmetic.ts';
import { F32, F64, F80, unpack } from './format.ts';
import { EXCEPTION, sseStatus, x87Status } from './status.ts';

const MASKED = 0x1f80;
const f64 = (bits: bigint) => unpack(F64, bits);
const ONE = 0x3ff0_0000_0000_0000n;
const SMALLEST_NORMAL = 0x0010_0000_0000_0000n;

describe('basic operations', () => {
  it('round to nearest even, and the other ways on request', () => {
    // 1 + 2^-53 is half way to the next number.
    const half = f64(0x3ca0_0000_0000_0000n);
    const sums = [0, 1, 2, 3].map((rounding) =>
      add(F64, f64(ONE), half, sseStatus(MASKED | (rounding << 13))),
    );
    expect(sums).toEqual([ONE, ONE, ONE + 1n, ONE]);
  });

  it('find tininess after rounding [SDM 1 4.9.1.5]', () => {
    const almostOne = f64(ONE - 1n);
    // Rounds up to the smallest normal number, yet is tiny by half a unit of the unbounded last place.
    const status = sseStatus(MASKED);
    expect(multiply(F64, f64(SMALLEST_NORMAL), almostOne, status)).toBe(SMALLEST_NORMAL);
    expect(status.flags).toBe(EXCEPTION.underflow | EXCEPTION.inexact);
  });

  it('give a zero for sums that cancel, negative only when rounding down', () => {
    const minusOne = f64(ONE | (1n << 63n));
    expect(add(F64, f64(ONE), minusOne, sseStatus(MASKED))).toBe(0n);
    expect(add(F64, f64(ONE), minusOne, sseStatus(MASKED | 0x2000))).toBe(1n << 63n);
  });

  it('hide a denormal dividend behind division by zero', () => {
    const status = sseStatus(MASKED);
    expect(divide(F32, unpack(F32, 1n), unpack(F32, 0n), status)).toBe(0x7f80_0000n);
    expect(status.flags).toBe(EXCEPTION.zeroDivide);
  });

  it('take square roots to the last bit', () => {
    expect(squareRoot(F64, f64(0x4000_0000_0000_0000n), sseStatus(MASKED))).toBe(0x3ff6_a09e_667f_3bcdn);
    expect(squareRoot(F64, f64(0x4010_0000_0000_0000n), sseStatus(MASKED))).toBe(0x4000_0000_0000_0000n);
  });

  it('choose NaNs as each unit does', () => {
    const [small, large] = [0x7ff8_0000_0000_0001n, 0x7ff8_0000_0000_0002n];
    expect(add(F64, f64(small), f64(large), sseStatus(MASKED))).toBe(small);
    const wide = add(F80, f64(small), f64(large), x87Status(0x37f));
    expect(wide).toBe(0x7fff_c000_0000_0000_1000n);
  });

  it('keep precision control to x87 registers', () => {
    const third = divide(F80, f64(ONE), f64(0x4008_0000_0000_0000n), x87Status(0x07f));
    expect(third).toBe(0x3ffd_aaaa_ab00_0000_0000n);
  });
});
