import { describe, expect, it } from 'vitest';
import type { MicroOperation, Semantics } from '../semantics.ts';
import {
  CPL,
  CpuState,
  CR4,
  FLAGS_AUX,
  FLAGS_RESULT,
  KERNEL_GS_BASE,
  RAX,
  RSP,
  SEGMENT,
  SEGMENT_BASE,
  STATE_SIZE,
} from '../state.ts';
import { readFlags, writeFlags } from '../system/flags.ts';
import { CLEAR_INTERRUPT, PUSH_FLAGS64, SWAP_GS, WRITE_BASE64 } from './system.ts';

class Fault extends Error {}

/** The few words of the language that these micro-operations use, over plain bigint. */
function run(state: CpuState, { meaning }: MicroOperation, fields: Readonly<Record<string, number>> = {}) {
  const stores: [bigint, bigint][] = [];
  const u64 = (value: bigint) => BigInt.asUintN(64, value);
  const words = {
    get: (field: string, size: 4 | 8) => state.get(fields[field]!, size),
    set: (field: string, size: 4 | 8, value: bigint) => state.set(fields[field]!, size, value),
    state: (offset: number, size: 4 | 8) => state.get(offset, size),
    setState: (offset: number, size: 4 | 8, value: bigint) => state.set(offset, size, value),
    constant: (value: bigint | number) => u64(BigInt(value)),
    add: (x: bigint, y: bigint) => u64(x + y),
    sub: (x: bigint, y: bigint) => u64(x - y),
    and: (x: bigint, y: bigint) => x & y,
    or: (x: bigint, y: bigint) => x | y,
    xor: (x: bigint, y: bigint) => x ^ y,
    shl: (x: bigint, y: bigint) => u64(x << (y & 63n)),
    shrU: (x: bigint, y: bigint) => x >> (y & 63n),
    shrS: (x: bigint, y: bigint) => u64(BigInt.asIntN(64, x) >> (y & 63n)),
    popcnt: (x: bigint) => BigInt([...x.toString(2)].filter((digit) => digit === '1').length),
    eq: (x: bigint, y: bigint) => x === y,
    ltU: (x: bigint, y: bigint) => x < y,
    isZero: (x: bigint) => x === 0n,
    value: (x: boolean) => (x ? 1n : 0n),
    when: (condition: boolean, then: () => void, otherwise?: () => void) =>
      condition ? then() : otherwise?.(),
    store: (_: number, address: bigint, value: bigint) => stores.push([address, value]),
    fault: (vector: number, errorCode?: number) => {
      throw new Fault(`${vector} ${errorCode}`);
    },
  };
  meaning(words as unknown as Semantics<bigint, boolean, never>);
  return stores;
}

const newState = () => new CpuState(new ArrayBuffer(STATE_SIZE), 0);

describe('RFLAGS', () => {
  it('are the same by number, by bigint and by micro-operation, for all six arithmetic flags', () => {
    const state = newState();
    for (let bits = 0; bits < 64; bits += 1) {
      const flags = [0, 2, 4, 6, 7, 11].reduce(
        (all, bit, index) => all | (((bits >> index) & 1) << bit),
        0x202,
      );
      writeFlags(state, flags);
      expect(readFlags(state)).toBe(flags);
      expect(state.rflags).toBe(BigInt(flags));
      state.set64(RSP, 0x1000n);
      expect(run(state, PUSH_FLAGS64)).toEqual([[0xff8n, BigInt(flags)]]);
      expect(state.get64(RSP)).toBe(0xff8n);
      state.rflags = BigInt(flags);
      expect(readFlags(state)).toBe(flags);
    }
  });

  it('are read from results that were never spelt out', () => {
    const state = newState();
    writeFlags(state, 2);
    // -1 as a 64-bit result: SF and PF. Then an odd result with the sign taken from aux.
    state.set64(FLAGS_RESULT, 0xffff_ffff_ffff_ffffn);
    expect(readFlags(state)).toBe(0x86);
    expect(run(state, PUSH_FLAGS64)[0]![1]).toBe(state.rflags);
    state.set64(FLAGS_RESULT, 0x8000_0000_0000_0001n);
    state.set64(FLAGS_AUX, 0x4000_0000_0000_0109n);
    expect(BigInt(readFlags(state))).toBe(state.rflags);
    expect(run(state, PUSH_FLAGS64)[0]![1]).toBe(state.rflags);
  });
});

describe('CLI [SDM 2A CLI]', () => {
  it('is allowed up to IOPL', () => {
    const state = newState();
    writeFlags(state, 0x1202);
    state.set32(CPL, 1);
    run(state, CLEAR_INTERRUPT);
    expect(readFlags(state)).toBe(0x1002);
    state.set32(CPL, 2);
    expect(() => run(state, CLEAR_INTERRUPT)).toThrow('13 0');
  });
});

describe('segment bases', () => {
  it('SWAPGS exchanges them, at privilege 0 only', () => {
    const state = newState();
    const gs = SEGMENT_BASE + SEGMENT.gs * 8;
    state.set64(gs, 1n);
    state.set64(KERNEL_GS_BASE, 2n);
    run(state, SWAP_GS);
    expect([state.get64(gs), state.get64(KERNEL_GS_BASE)]).toEqual([2n, 1n]);
    state.set32(CPL, 3);
    expect(() => run(state, SWAP_GS)).toThrow('13 0');
  });

  it('WRFSBASE needs CR4.FSGSBASE and a canonical base', () => {
    const state = newState();
    const fields = { a: SEGMENT_BASE + SEGMENT.fs * 8, b: RAX };
    state.set64(RAX, 0xffff_8000_0000_0000n);
    expect(() => run(state, WRITE_BASE64, fields)).toThrow('6 undefined');
    state.set64(CR4, 0x1_0000n);
    run(state, WRITE_BASE64, fields);
    expect(state.get64(fields.a)).toBe(0xffff_8000_0000_0000n);
    state.set64(RAX, 0x0000_8000_0000_0000n);
    expect(() => run(state, WRITE_BASE64, fields)).toThrow('13 0');
  });
});
