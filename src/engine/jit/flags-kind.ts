import { Code } from '../../wasm/code.ts';
import type { Signature } from '../../wasm/module.ts';
import type { FlagsOrigin } from '../../x86/semantics.ts';
import type { Size } from '../../x86/state.ts';

/**
 * How the word aux (x86/state.ts) follows from what flag-setting operations worked on. A region keeps the operands
 * and the number of the kind in locals; aux is computed where something reads it, which is mostly nowhere.
 */
export interface FlagsKind {
  readonly number: number;
  readonly origin: FlagsOrigin<unknown>['kind'] | 'direct';
  readonly size: Size;
  /** A carry went into the sum or difference. */
  readonly carried: boolean;
  /** What was changed since: CF and OF are in the local `pair`, or CF in `bit`. */
  readonly change: 'none' | 'carry-and-overflow' | 'carry';
}

/**
 * Numbers: 0 is direct (aux stands in x); 1 + 4 * operation + log2(size) the others; two bits more tell of changes.
 * Increments take CF from the kind and result before them, `prior`.
 */
const OPERATIONS = ['add', 'subtract', 'increment', 'decrement', 'shl', 'shr', 'sar'] as const;
const SIZE_CODE: Record<Size, number> = { 1: 0, 2: 1, 4: 2, 8: 3 };
const FIRST_STEP = 9;
const STEPS = 8;
const PAIR = 32;
const BIT = 64;

/** aux stands in x. */
export const KIND_DIRECT: FlagsKind = {
  number: 0,
  origin: 'direct',
  size: 8,
  carried: false,
  change: 'none',
};
/** As direct, and x is zero. */
const KIND_LOGIC: FlagsKind = { ...KIND_DIRECT, origin: 'logic' };

export function flagsKind(origin: FlagsOrigin<unknown>): FlagsKind {
  if (origin.kind === 'logic') return KIND_LOGIC;
  return {
    number: 1 + 4 * OPERATIONS.indexOf(origin.kind) + SIZE_CODE[origin.size],
    origin: origin.kind,
    size: origin.size,
    carried: 'carried' in origin && origin.carried,
    change: 'none',
  };
}

export function changed(kind: FlagsKind, change: 'carry-and-overflow' | 'carry'): FlagsKind {
  const base = kind.number & ~(PAIR | BIT);
  if (change === 'carry-and-overflow') return { ...kind, number: base | PAIR, change };
  return { ...kind, number: kind.number | BIT, change };
}

/** Pops the number of a kind and pushes it changed. */
export function writeChanged(code: Code, change: 'carry-and-overflow' | 'carry'): void {
  if (change === 'carry-and-overflow')
    code
      .i32(~(PAIR | BIT))
      .op('i32.and')
      .i32(PAIR)
      .op('i32.or');
  else code.i32(BIT).op('i32.or');
}

/** The kind that an increment keeps for its carry; undefined: the one kept already. */
export function priorKind(kind: FlagsKind): FlagsKind | undefined {
  if (kind.change !== 'none')
    return { ...KIND_DIRECT, number: kind.number & (PAIR | BIT), change: kind.change };
  return kind.origin === 'increment' || kind.origin === 'decrement' ? undefined : kind;
}

/** priorKind for a number in a local: updates the locals `prior` and `priorResult`. */
export function writePriorKind(
  code: Code,
  locals: { kind: number; result: number; prior: number; priorResult: number },
): void {
  const { kind, result, prior, priorResult } = locals;
  const kept = () => code.get(kind).i32(FIRST_STEP).op('i32.sub').i32(STEPS).op('i32.lt_u');
  code.get(priorResult).get(result);
  kept();
  code.op('select').set(priorResult);
  code.get(prior);
  code
    .get(kind)
    .i32(PAIR | BIT)
    .op('i32.and')
    .get(kind)
    .get(kind)
    .i32(PAIR | BIT)
    .op('i32.and')
    .op('select');
  kept();
  code.op('select').set(prior);
}

export const AUX_SIGNATURE: Signature = {
  parameters: ['i32', 'i64', 'i64', 'i64', 'i64', 'i64', 'i32', 'i64'],
  results: ['i64'],
};
const CARRY = 1n << 63n;
const CARRY_AND_OVERFLOW = 3n << 62n;

/**
 * aux(kind, x, y, result, pair, bit, prior, priorResult): as x86/micro-operations/flags.ts, arithmetic.ts and shift.ts
 * define it. `self` is its own function index.
 */
export function auxFunction(self: number): { locals: ['i64', 'i64', 'i64']; code: Code } {
  const [kind, x, y, result, pair, bit, prior, priorResult, shift, word, aux] = [
    0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10,
  ];
  const code = new Code();
  const base = () => code.get(kind).i32(31).op('i32.and');
  const done = code.open('block');
  base().op('i32.eqz').open('if');
  code.get(x).set(aux).branch(done);
  code.close();
  // shift = 64 - 8 * size
  code.i64(64n).i64(8n);
  base().i32(1).op('i32.sub').i32(3).op('i32.and').op('i64.extend_i32_u');
  code.op('i64.shl').op('i64.sub').set(shift);

  base().i32(8).op('i32.le_u').open('if');
  base().i32(4).op('i32.le_u').open('if', 'i64');
  // Carries of a sum.
  code
    .get(result)
    .get(result)
    .get(x)
    .op('i64.xor')
    .get(result)
    .get(y)
    .op('i64.xor')
    .op('i64.or')
    .op('i64.xor');
  code.otherwise();
  // Borrows of a difference.
  code.get(x).get(x).get(y).op('i64.xor').get(x).get(result).op('i64.xor').op('i64.or').op('i64.xor');
  code.close();
  code.set(word);
  code.get(word).get(shift).op('i64.shl').i64(CARRY_AND_OVERFLOW).op('i64.and');
  code.get(word).i64(8n).op('i64.and').op('i64.or').set(aux).branch(done);
  code.close();

  base().i32(16).op('i32.le_u').open('if');
  base().i32(12).op('i32.le_u').open('if', 'i64');
  // x = result - 1; overflow where the result has a sign that x had not.
  code.get(result).i64(1n).op('i64.sub').tee(word).i64(-1n).op('i64.xor').get(result).op('i64.and');
  code.otherwise();
  code.get(result).i64(1n).op('i64.add').tee(word).get(result).i64(-1n).op('i64.xor').op('i64.and');
  code.close();
  code.get(shift).op('i64.shl').i64(CARRY).op('i64.and').set(aux);
  code.get(word).get(result).op('i64.xor').i64(1n).op('i64.shr_u').i64(8n).op('i64.and').set(word);
  code.get(prior).get(x).get(y).get(priorResult).get(pair).get(bit).get(prior).get(priorResult).call(self);
  code.i64(CARRY).op('i64.and').set(shift);
  code.get(shift).get(shift).get(aux).op('i64.xor').i64(1n).op('i64.shr_u').op('i64.or');
  code.get(word).op('i64.or').set(aux).branch(done);
  code.close();

  // Shifts: what was there one step before the last.
  const before = (opcode: 'i64.shl' | 'i64.shr_u' | 'i64.shr_s') =>
    code.get(x).get(y).i64(1n).op('i64.sub').op(opcode);
  base().i32(20).op('i32.le_u').open('if');
  before('i64.shl')
    .get(shift)
    .op('i64.shl')
    .i64(CARRY_AND_OVERFLOW)
    .op('i64.and')
    .i64(8n)
    .op('i64.or')
    .set(aux);
  code.branch(done);
  code.close();
  base().i32(24).op('i32.le_u').open('if');
  before('i64.shr_u').set(word);
  // CF, and OF: the sign of what was there.
  code.get(word).i64(63n).op('i64.shl').set(aux);
  code.get(word).get(shift).op('i64.shl').i64(63n).op('i64.shr_u').i64(63n).op('i64.shl').set(word);
  code.get(aux).get(aux).get(word).op('i64.xor').i64(1n).op('i64.shr_u').op('i64.or');
  code.i64(8n).op('i64.or').set(aux).branch(done);
  code.close();
  before('i64.shr_s').i64(63n).op('i64.shl').i64(1n).op('i64.shr_s').i64(CARRY_AND_OVERFLOW).op('i64.and');
  code.i64(8n).op('i64.or').set(aux);
  code.close();

  code.get(kind).i32(PAIR).op('i32.and').open('if');
  code.get(aux).i64(~CARRY_AND_OVERFLOW).op('i64.and').get(pair).i64(62n).op('i64.shl').op('i64.or').set(aux);
  code.close();
  code.get(kind).i32(BIT).op('i32.and').open('if');
  // Where CF changes, CF ^ OF changes with it.
  code.i64(0n).get(aux).i64(63n).op('i64.shr_u').get(bit).op('i64.xor').op('i64.sub').i64(62n).op('i64.shl');
  code.get(aux).op('i64.xor').set(aux);
  code.close();
  code.get(aux);
  return { locals: ['i64', 'i64', 'i64'], code };
}
