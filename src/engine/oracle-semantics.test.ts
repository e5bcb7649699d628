import { describe, expect, it } from 'vitest';
import { ADD, COMPARE, INC } from '../x86/micro-operations/arithmetic.ts';
import { BRANCH_IF, CALL, PUSH, RETURN } from '../x86/micro-operations/control.ts';
import { DIVIDE, DIVIDE_SIGNED } from '../x86/micro-operations/divide.ts';
import { MULTIPLY, MULTIPLY_SIGNED } from '../x86/micro-operations/multiply.ts';
import type { MicroOperation } from '../x86/semantics.ts';
import { BLOCK_PC, CpuState, RAX, RBX, RCX, RDX, RSP, type Size, STATE_SIZE } from '../x86/state.ts';
import { OracleSemantics } from './oracle-semantics.ts';

const CONDITION = { o: 0, b: 2, e: 4, l: 12 } as const;

function setUp(memory = new Map<bigint, bigint>(), present = true) {
  const state = new CpuState(new ArrayBuffer(STATE_SIZE), 0);
  state.rflags = 2n;
  const load = (_size: Size, linear: bigint) => (present ? (memory.get(linear) ?? 0n) : undefined);
  const semantics = new OracleSemantics(state, {
    load,
    loadForWrite: load,
    store(_size, linear, value) {
      if (present) memory.set(linear, value);
      return present;
    },
  });
  const run = (operation: MicroOperation, fields: { a?: number; b?: number; c?: number; imm?: bigint }) =>
    semantics.run(operation.meaning, { a: 0, b: 0, c: 0, imm: 0n, ...fields });
  return { state, memory, run };
}

const MAX = (1n << 64n) - 1n;
const values = [0n, 1n, 2n, 3n, 7n, 0x80n, 0xffff_ffffn, 1n << 32n, 1n << 62n, 1n << 63n, MAX - 1n, MAX];

describe('micro-operations in bigint', () => {
  it('keep CF when they increment', () => {
    const { state, run } = setUp();
    state.set64(RAX, 0xffn);
    run(ADD.immediate[1], { a: RAX, b: RAX, imm: 1n });
    expect(state.rflags & 0x8d5n).toBe(0x55n);
    run(INC[8], { a: RAX, b: RAX });
    expect(state.rflags & 0x8d5n).toBe(1n);
  });

  it('multiply to 128 bits', () => {
    const { state, run } = setUp();
    for (const x of values) {
      for (const y of values) {
        state.set64(RAX, x);
        state.set64(RBX, y);
        run(MULTIPLY[8], { b: RBX });
        expect((state.get64(RDX) << 64n) | state.get64(RAX)).toBe(x * y);
        expect((state.rflags & 0x801n) !== 0n).toBe(x * y > MAX);
        state.set64(RAX, x);
        run(MULTIPLY_SIGNED[8], { b: RBX });
        const product = BigInt.asUintN(128, BigInt.asIntN(64, x) * BigInt.asIntN(64, y));
        expect((state.get64(RDX) << 64n) | state.get64(RAX)).toBe(product);
      }
    }
  });

  it('divide 128 bits, or raise #DE and change nothing', () => {
    const { state, run } = setUp();
    for (const high of values) {
      for (const low of values) {
        for (const divisor of values) {
          for (const [operation, cut] of [
            [DIVIDE[8], BigInt.asUintN],
            [DIVIDE_SIGNED[8], BigInt.asIntN],
          ] as const) {
            const n = cut(128, (high << 64n) | low);
            const d = cut(64, divisor);
            state.set64(RAX, low);
            state.set64(RDX, high);
            state.set64(RBX, divisor);
            const outcome = run(operation, { b: RBX });
            if (d === 0n || cut(64, n / d) !== n / d) {
              expect(outcome).toMatchObject({ kind: 'fault', vector: 0 });
              expect([state.get64(RDX), state.get64(RAX)]).toEqual([high, low]);
            } else {
              expect(outcome.kind).toBe('next');
              expect(state.get64(RAX)).toBe(BigInt.asUintN(64, n / d));
              expect(state.get64(RDX)).toBe(BigInt.asUintN(64, n % d));
            }
          }
        }
      }
    }
  });

  it('branch on the flags of a comparison', () => {
    const { state, run } = setUp();
    state.set64(BLOCK_PC, 0x1000n);
    state.set64(RAX, MAX);
    run(COMPARE.immediate[4], { b: RAX, imm: 1n });
    expect(run(BRANCH_IF[CONDITION.l]!, { imm: 0xffff_fff0n })).toEqual({ kind: 'jump', target: 0xff0n });
    expect(run(BRANCH_IF[CONDITION.b]!, { imm: 16n })).toEqual({ kind: 'next' });
  });

  it('call, push and return through the stack', () => {
    const { state, memory, run } = setUp();
    state.set64(BLOCK_PC, 0x1000n);
    state.set64(RSP, 0x8000n);
    state.set64(RCX, 77n);
    expect(run(CALL, { a: 5, imm: 0x100n })).toEqual({ kind: 'jump', target: 0x1100n });
    expect(memory.get(0x7ff8n)).toBe(0x1005n);
    run(PUSH, { a: RSP });
    expect(memory.get(0x7ff0n)).toBe(0x7ff8n);
    state.set64(RSP, 0x7ff8n);
    expect(run(RETURN, { imm: 24n })).toEqual({ kind: 'jump', target: 0x1005n });
    expect(state.get64(RSP)).toBe(0x8010n);
  });

  it('leave the stack pointer when the stack faults or the target is not canonical', () => {
    const { state, run } = setUp(new Map(), false);
    state.set64(RSP, 0x8000n);
    expect(run(PUSH, { a: RAX })).toEqual({ kind: 'aborted' });
    expect(run(CALL, { a: 5, imm: 0x100n })).toEqual({ kind: 'aborted' });
    expect(state.get64(RSP)).toBe(0x8000n);
    const other = setUp(new Map([[0x8000n, 1n << 50n]]));
    other.state.set64(RSP, 0x8000n);
    expect(other.run(RETURN, { imm: 8n })).toMatchObject({ kind: 'fault', vector: 13 });
    expect(other.state.get64(RSP)).toBe(0x8000n);
  });
});
