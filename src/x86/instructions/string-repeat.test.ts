import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ABORTED, AGAIN, type Cpu, DONE, type Outcome, type SystemOperation } from '../cpu.ts';
import { CpuState, FLAGS_REST, RAX, RCX, RDI, RSI, type Size, STATE_SIZE, ZERO } from '../state.ts';
import {
  packRepeatForm,
  REPEAT_CMPS,
  REPEAT_LODS,
  REPEAT_MOVS,
  REPEAT_SCAS,
  REPEAT_STOS,
  type RepeatForm,
} from './string-repeat.ts';

const PAGE = 4096;
const PAGES = 4;

/** Four pages of memory, of which one may be missing; with or without bulk access. */
class FakeCpu {
  readonly state = new CpuState(new ArrayBuffer(STATE_SIZE), 0);
  readonly memory = new Uint8Array(PAGES * PAGE);
  readonly spans: boolean;
  readonly missing: number;
  budget = 1;
  count = 0;
  faulted: bigint | undefined;

  constructor(spans: boolean, missing = -1) {
    this.spans = spans;
    this.missing = missing;
    for (let index = 0; index < this.memory.length; index++) this.memory[index] = (index * 37) >> 3;
  }

  #present(linear: bigint, size: number): boolean {
    for (const byte of [linear, linear + BigInt(size - 1)]) {
      const page = Number(byte >> 12n);
      if (byte < 0n || page >= PAGES || page === this.missing) {
        this.faulted = byte < linear ? linear : byte;
        return false;
      }
    }
    return true;
  }

  load(size: Size, linear: bigint): bigint | undefined {
    if (!this.#present(linear, size)) return undefined;
    let value = 0n;
    for (let index = size - 1; index >= 0; index--) {
      value = (value << 8n) | BigInt(this.memory[Number(linear) + index]!);
    }
    return value;
  }

  store(size: Size, linear: bigint, value: bigint): boolean {
    if (!this.#present(linear, size)) return false;
    for (let index = 0; index < size; index++) {
      this.memory[Number(linear) + index] = Number((value >> BigInt(index * 8)) & 0xffn);
    }
    return true;
  }

  span(linear: bigint, length: number): Uint8Array | undefined {
    const page = Number(linear >> 12n);
    if (Number((linear + BigInt(length - 1)) >> 12n) !== page) throw new Error('a span lies in one page');
    if (!this.spans || page >= PAGES || page === this.missing) return undefined;
    return this.memory.subarray(Number(linear), Number(linear) + length);
  }

  charge(iterations: number): void {
    this.count += iterations;
  }

  run(operation: SystemOperation, form: RepeatForm): Outcome {
    const outcome = operation.run(this as unknown as Cpu, ZERO, ZERO, packRepeatForm(form));
    if (outcome !== ABORTED) this.count += 1;
    return outcome;
  }

  /** Runs to the end with the budgets given, over and over. */
  finish(operation: SystemOperation, form: RepeatForm, budgets: readonly number[]): Outcome {
    for (let turn = 0; ; turn++) {
      this.budget = budgets[turn % budgets.length]!;
      const before = this.count;
      const outcome = this.run(operation, form);
      if (this.count - before > this.budget) throw new Error('the budget was passed');
      if (outcome !== AGAIN) return outcome;
      if (this.count === before) throw new Error('no iteration was made');
    }
  }

  get result(): unknown {
    const { state } = this;
    return {
      registers: [RAX, RCX, RSI, RDI].map((register) => state.get64(register)),
      flags: state.rflags,
      memory: Buffer.from(this.memory).toString('latin1'),
      count: this.count,
    };
  }
}

const OPERATIONS = {
  movs: REPEAT_MOVS,
  stos: REPEAT_STOS,
  lods: REPEAT_LODS,
  cmps: REPEAT_CMPS,
  scas: REPEAT_SCAS,
} as const;

const FORM: RepeatForm = { size: 1, addressSize: 8, whileDifferent: false, long: true };

function prepare(
  cpu: FakeCpu,
  registers: { rax?: bigint; rcx: bigint; rsi?: bigint; rdi?: bigint; df?: boolean },
) {
  cpu.state.rflags = registers.df ? 0x402n : 2n;
  cpu.state.set64(FLAGS_REST, registers.df ? 0x402n : 2n);
  cpu.state.set64(RAX, registers.rax ?? 0n);
  cpu.state.set64(RCX, registers.rcx);
  cpu.state.set64(RSI, registers.rsi ?? 0n);
  cpu.state.set64(RDI, registers.rdi ?? 0n);
}

describe('repeated string instructions', () => {
  it('do in bulk what they do one by one, and count the same', () => {
    const address = fc.integer({ min: 0, max: PAGES * PAGE + 8 });
    fc.assert(
      fc.property(
        fc.record({
          name: fc.constantFrom(...(Object.keys(OPERATIONS) as (keyof typeof OPERATIONS)[])),
          size: fc.constantFrom<Size>(1, 2, 4, 8),
          addressSize: fc.constantFrom<2 | 4 | 8>(2, 4, 8),
          whileDifferent: fc.boolean(),
          source: address,
          distance: fc.oneof(
            fc.integer({ min: -20, max: 20 }),
            fc.integer({ min: -PAGE * 2, max: PAGE * 2 }),
          ),
          count: fc.oneof(fc.integer({ min: 0, max: 40 }), fc.integer({ min: 0, max: 5000 })),
          down: fc.boolean(),
          value: fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }),
          alike: fc.boolean(),
          missing: fc.integer({ min: -1, max: PAGES - 1 }),
          budgets: fc.array(fc.integer({ min: 1, max: 3000 }), { minLength: 1, maxLength: 4 }),
        }),
        (given) => {
          const { name, size, addressSize, whileDifferent, missing, source, count } = given;
          const form: RepeatForm = { size, addressSize, whileDifferent, long: true };
          const rdi = Math.max(0, source + given.distance);
          const [bulk, slow] = [true, false].map((spans) => {
            const cpu = new FakeCpu(spans, missing);
            if (given.alike) cpu.memory.fill(0x55);
            prepare(cpu, {
              rax: given.alike ? 0x5555_5555_5555_5555n : given.value,
              rcx: BigInt(count),
              rsi: BigInt(source),
              rdi: BigInt(rdi),
              df: given.down,
            });
            const outcome = cpu.finish(OPERATIONS[name], form, given.budgets);
            return { outcome, faulted: cpu.faulted, result: cpu.result };
          });
          expect(bulk).toEqual(slow);
        },
      ),
      { numRuns: 400, seed: 20 },
    );
  });

  it('count one for no iterations and change nothing', () => {
    const cpu = new FakeCpu(true);
    prepare(cpu, { rcx: 0n, rdi: 100n, rax: 7n });
    expect(cpu.run(REPEAT_STOS, FORM)).toBe(DONE);
    expect(cpu.count).toBe(1);
    expect(cpu.state.get64(RDI)).toBe(100n);
  });

  it('look only at as much of the count as the address size has', () => {
    const cpu = new FakeCpu(true);
    prepare(cpu, { rcx: 0x1_0000_0000n, rdi: 100n });
    expect(cpu.run(REPEAT_STOS, { ...FORM, addressSize: 4 })).toBe(DONE);
    expect(cpu.count).toBe(1);
  });

  it('repeat a pattern when a copy runs into its own result', () => {
    const cpu = new FakeCpu(true);
    cpu.memory.set([1, 2, 3], 0);
    prepare(cpu, { rcx: 9n, rsi: 0n, rdi: 3n });
    cpu.finish(REPEAT_MOVS, FORM, [100]);
    expect([...cpu.memory.subarray(0, 12)]).toEqual([1, 2, 3, 1, 2, 3, 1, 2, 3, 1, 2, 3]);
  });

  it('stop at a missing page with the registers of the finished iterations', () => {
    const cpu = new FakeCpu(true, 1);
    prepare(cpu, { rcx: 20n, rdi: BigInt(PAGE - 16), rax: 0n });
    expect(cpu.finish(REPEAT_STOS, { ...FORM, size: 4 }, [1000])).toBe(ABORTED);
    expect(cpu.state.get64(RCX)).toBe(16n);
    expect(cpu.state.get64(RDI)).toBe(BigInt(PAGE));
    expect(cpu.faulted).toBe(BigInt(PAGE));
    expect(cpu.count).toBe(4);
  });

  it('find what they seek, with the flags of the last comparison', () => {
    const cpu = new FakeCpu(true);
    cpu.memory.fill(1);
    cpu.memory[5000] = 0;
    prepare(cpu, { rcx: 0xffff_ffff_ffff_ffffn, rdi: 10n, rax: 0n });
    cpu.finish(REPEAT_SCAS, { ...FORM, whileDifferent: true }, [100_000]);
    expect(cpu.state.get64(RDI)).toBe(5001n);
    expect(cpu.state.rflags & 0x40n).toBe(0x40n);
    expect(cpu.count).toBe(4991);
  });
});
