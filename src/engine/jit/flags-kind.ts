import { Code } from '../../wasm/code.ts';
import type { Signature } from '../../wasm/module.ts';
import type { FlagsOrigin } from '../../x86/semantics.ts';
import type { Size } from '../../x86/state.ts';

/**
 * How the word aux (x86/state.ts) follows from what a flag-setting operation worked on. A region keeps the operands
 * and the number of the kind; aux is computed where something reads it, which is mostly nowhere.
 */
export interface FlagsKind {
  /** What stands in the region's local: 0, or 1 + 4 * operation + log2(size). */
  readonly number: number;
  readonly origin: FlagsOrigin<unknown>['kind'] | 'direct';
  readonly size: Size;
  /** A carry went into the sum or difference. */
  readonly carried: boolean;
}

/** aux stands in x. */
export const KIND_DIRECT: FlagsKind = { number: 0, origin: 'direct', size: 8, carried: false };
/** As direct, and x is zero. */
const KIND_LOGIC: FlagsKind = { number: 0, origin: 'logic', size: 8, carried: false };

const OPERATIONS = ['add', 'subtract', 'increment', 'decrement'] as const;

export function flagsKind(origin: FlagsOrigin<unknown>): FlagsKind {
  if (origin.kind === 'logic') return KIND_LOGIC;
  const operation = OPERATIONS.indexOf(origin.kind);
  return {
    number: 1 + 4 * operation + Math.log2(origin.size),
    origin: origin.kind,
    size: origin.size,
    carried: 'carried' in origin && origin.carried,
  };
}

export const AUX_SIGNATURE: Signature = {
  parameters: ['i32', 'i64', 'i64', 'i64', 'i64'],
  results: ['i64'],
};
const CARRY = 1n << 63n;
const CARRY_AND_OVERFLOW = 3n << 62n;

/**
 * aux(kind, x, y, result, carry): as x86/micro-operations/flags.ts and arithmetic.ts define it. For increments and
 * decrements `carry` is the carry flag in bit 63, and x is found from the result.
 */
export function auxFunction(): { locals: ['i64', 'i64']; code: Code } {
  const [kind, x, y, result, carry, shift, word] = [0, 1, 2, 3, 4, 5, 6];
  const code = new Code();
  code.get(kind).op('i32.eqz').open('if');
  code.get(x).op('return').close();
  // shift = 64 - 8 * size
  code.i64(64n).i64(8n).get(kind).i32(1).op('i32.sub').i32(3).op('i32.and').op('i64.extend_i32_u');
  code.op('i64.shl').op('i64.sub').set(shift);
  code.get(kind).i32(8).op('i32.le_u').open('if');
  code.get(kind).i32(4).op('i32.le_u').open('if', 'i64');
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
  code.get(word).i64(8n).op('i64.and').op('i64.or').op('return');
  code.close();
  code.get(kind).i32(12).op('i32.le_u').open('if', 'i64');
  // x = result - 1; overflow where the result has a sign that x had not.
  code.get(result).i64(1n).op('i64.sub').tee(x).i64(-1n).op('i64.xor').get(result).op('i64.and');
  code.otherwise();
  code.get(result).i64(1n).op('i64.add').tee(x).get(result).i64(-1n).op('i64.xor').op('i64.and');
  code.close();
  code.get(shift).op('i64.shl').i64(CARRY).op('i64.and').set(word);
  code.get(carry).get(carry).get(word).op('i64.xor').i64(1n).op('i64.shr_u').op('i64.or');
  code.get(x).get(result).op('i64.xor').i64(1n).op('i64.shr_u').i64(8n).op('i64.and').op('i64.or');
  return { locals: ['i64', 'i64'], code };
}
