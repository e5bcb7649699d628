import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ABORTED, type Cpu, DONE } from '../x86/cpu.ts';
import { LANE_FUNCTIONS, laneOperation, SHAPES } from '../x86/float/sse.ts';
import {
  QUICK_ARITHMETIC,
  QUICK_FROM_INTEGER,
  QUICK_ORDER,
  QUICK_TRUNCATE,
} from '../x86/micro-operations/sse-float.ts';
import type { MicroOperation } from '../x86/semantics.ts';
import { CpuState, MXCSR, RAX, STATE_SIZE, XMM } from '../x86/state.ts';
import { OracleSemantics } from './oracle-semantics.ts';

const TARGET = XMM;
const SOURCE = XMM + 16;
const MASKED = 0x1f80;
const INEXACT_SEEN = 0x1fa0;

function bitsOf(value: number): bigint {
  return new BigUint64Array(new Float64Array([value]).buffer)[0]!;
}

function run(operation: MicroOperation, x: number, y: number, mxcsr = INEXACT_SEEN) {
  const state = new CpuState(new ArrayBuffer(STATE_SIZE), 0);
  const none = () => undefined;
  const oracle = new OracleSemantics(state, { load: none, loadForWrite: none, store: () => false });
  state.set32(MXCSR, mxcsr);
  state.set64(TARGET, bitsOf(x));
  state.set64(TARGET + 8, 77n);
  state.set64(SOURCE, bitsOf(y));
  const { kind } = oracle.run(operation.meaning, { a: TARGET, b: TARGET, c: SOURCE, imm: 0n });
  return { quick: kind === 'skip', bits: state.get64(TARGET), upper: state.get64(TARGET + 8), state, oracle };
}

const { add, sub, mul, div } = QUICK_ARITHMETIC.sd;

describe('the quick way of scalar arithmetic', () => {
  it('does the instruction and leaves the upper half', () => {
    const { quick, bits, upper } = run(add, 0.1, 0.2);
    expect({ quick, bits, upper }).toEqual({ quick: true, bits: bitsOf(0.1 + 0.2), upper: 77n });
  });

  it('declines while the inexact flag is clear, unmasked, or rounding is not to nearest', () => {
    for (const mxcsr of [MASKED, 0x0fa0, INEXACT_SEEN | 0x2000, INEXACT_SEEN | 0x6000]) {
      expect(run(add, 0.1, 0.2, mxcsr)).toMatchObject({ quick: false, bits: bitsOf(0.1) });
    }
  });

  it.each([
    ['a NaN', add, Number.NaN, 1],
    ['an infinity', add, Number.POSITIVE_INFINITY, 1],
    ['a denormal operand', add, 5e-324, 1],
    ['overflow', mul, 1e300, 1e300],
    ['a product that underflows to zero', mul, 1e-300, 1e-300],
    ['the smallest normal number, which may have been tiny', mul, 2 ** -1022, 1],
    ['division by zero', div, 1, 0],
    ['zero by zero', div, 0, 0],
    ['a quotient that underflows', div, 1e-300, 1e300],
  ] as const)('declines %s', (_name, operation, x, y) => {
    expect(run(operation, x, y).quick).toBe(false);
  });

  it('takes zeros that are exact', () => {
    expect(run(sub, 3, 3)).toMatchObject({ quick: true, bits: 0n });
    expect(run(mul, -0, 3)).toMatchObject({ quick: true, bits: bitsOf(-0) });
    expect(run(div, 0, 3)).toMatchObject({ quick: true, bits: 0n });
  });
});

describe('the quick way of conversions and comparisons', () => {
  it('converts what is exact in any mode', () => {
    const { state, oracle } = run(add, 0, 0);
    state.set32(MXCSR, 0);
    state.set64(RAX, BigInt.asUintN(64, -5n));
    const record = { a: TARGET, b: 0, c: RAX, imm: 0n };
    expect(oracle.run(QUICK_FROM_INTEGER.sd[8].meaning, record).kind).toBe('skip');
    expect(state.get64(TARGET)).toBe(bitsOf(-5));
    state.set64(RAX, (1n << 60n) + 1n);
    expect(oracle.run(QUICK_FROM_INTEGER.sd[8].meaning, record).kind).toBe('next');
  });

  it('truncates towards zero inside the range of the target', () => {
    const truncate = (value: number, size: 4 | 8) => {
      const { state, oracle } = run(add, 0, value);
      const { kind } = oracle.run(QUICK_TRUNCATE.sd[size].meaning, { a: RAX, b: 0, c: SOURCE, imm: 0n });
      return kind === 'skip' ? BigInt.asIntN(size * 8, state.get64(RAX)) : undefined;
    };
    expect(truncate(-2.75, 4)).toBe(-2n);
    expect(truncate(2 ** 31, 4)).toBeUndefined();
    expect(truncate(2 ** 31, 8)).toBe(1n << 31n);
    expect(truncate(2 ** 63, 8)).toBeUndefined();
    expect(truncate(Number.NaN, 8)).toBeUndefined();
  });

  it('orders numbers, zeros and infinities', () => {
    const flags = (x: number, y: number) => {
      const { state, oracle } = run(add, x, y, MASKED);
      state.set64(TARGET, bitsOf(x));
      const { kind } = oracle.run(QUICK_ORDER.sd.meaning, { a: 0, b: TARGET, c: SOURCE, imm: 0n });
      return kind === 'skip' ? Number(state.rflags & 0x8d5n) : undefined;
    };
    expect(flags(1, 2)).toBe(0x01);
    expect(flags(2, 1)).toBe(0);
    expect(flags(0, -0)).toBe(0x40);
    expect(flags(Number.NEGATIVE_INFINITY, 1)).toBe(0x01);
    expect(flags(Number.NaN, 1)).toBeUndefined();
    expect(flags(5e-324, 1)).toBeUndefined();
  });
});

describe('the quick way of arithmetic, where it is taken', () => {
  /** Bits of a lane: numbers from everywhere, with every limit of the format, and specials. */
  const lane = (width: 32 | 64) => {
    const fraction = BigInt(width === 32 ? 23 : 52);
    const special = (1n << BigInt(width - 1)) - (1n << fraction);
    const near = (bits: bigint) => [bits - 1n, bits, bits + 1n];
    const limits = [
      1n,
      1n << fraction,
      2n << fraction,
      3n << fraction,
      special,
      special + (1n << (fraction - 1n)),
    ];
    const one = (special >> 1n) & special;
    const magnitude = fc.oneof(
      // Products that are rounded up to the smallest normal number.
      fc.constantFrom(...near(one), ...near(1n << fraction)),
      fc.constantFrom(0n, ...limits.flatMap(near), ...near(one), special - 1n),
      fc.bigInt({ min: 0n, max: (1n << BigInt(width - 1)) - 1n }),
      fc.bigInt({ min: one - (8n << fraction), max: one + (8n << fraction) }),
      fc.bigInt({ min: 0n, max: 4n << fraction }),
    );
    return fc
      .tuple(fc.boolean(), magnitude)
      .map(([negative, bits]) => bits | (negative ? 1n << BigInt(width - 1) : 0n));
  };
  /** Inexact seen and masked, to nearest; then what the mode has besides: FTZ, DAZ, masks, flags. */
  const mode = fc.constantFrom(
    0x1fa0,
    0x1fbf,
    0x9fe0,
    0x9fa0,
    0x1fe0,
    0x1020,
    0x9060,
    0x1f80,
    0x3fa0,
    0x0fa0,
  );

  it.each(['ss', 'sd', 'ps', 'pd'] as const)(
    '%s gives what the slow way gives, and changes no flag',
    (suffix) => {
      const shape = SHAPES[suffix];
      const width = shape.format.width as 32 | 64;
      const vector = fc
        .tuple(fc.boolean(), fc.array(lane(width), { minLength: 128 / width, maxLength: 128 / width }))
        // Where one lane is alike in all, the usual case is usual.
        .map(([alike, lanes]) => lanes.map((bits) => (alike ? lanes[0]! : bits)));
      const states = (x: readonly bigint[], y: readonly bigint[], mxcsr: number) => {
        const state = new CpuState(new ArrayBuffer(STATE_SIZE), 0);
        state.set32(MXCSR, mxcsr);
        for (const [offset, lanes] of [
          [TARGET, x],
          [SOURCE, y],
        ] as const)
          lanes.forEach((bits, index) => {
            state.set(offset + (index * width) / 8, width === 32 ? 4 : 8, bits);
          });
        return state;
      };
      let taken = 0;
      for (const kind of ['add', 'sub', 'mul', 'div'] as const) {
        fc.assert(
          fc.property(vector, vector, mode, (x, y, mxcsr) => {
            const quick = states(x, y, mxcsr);
            const none = () => undefined;
            const oracle = new OracleSemantics(quick, { load: none, loadForWrite: none, store: () => false });
            const record = { a: TARGET, b: TARGET, c: SOURCE, imm: 0n };
            if (oracle.run(QUICK_ARITHMETIC[suffix][kind].meaning, record).kind !== 'skip') return;
            taken++;
            const slow = states(x, y, mxcsr);
            const cpu = { state: slow, fault: () => ABORTED } as unknown as Cpu;
            expect(laneOperation(shape, LANE_FUNCTIONS[kind])(cpu, TARGET, SOURCE, 0n)).toBe(DONE);
            const seen = [quick, slow].map((state) => [
              state.get64(TARGET),
              state.get64(TARGET + 8),
              state.get32(MXCSR),
            ]);
            expect(seen[0]).toEqual(seen[1]);
          }),
          { seed: 11, numRuns: 1500 },
        );
      }
      expect(taken).toBeGreaterThan(300);
    },
  );
});
