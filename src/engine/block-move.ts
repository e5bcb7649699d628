import { Code, type Label } from '../wasm/code.ts';
import type { Signature } from '../wasm/module.ts';
import type { ValueType } from '../wasm/opcode.ts';
import { FLAG, FLAGS_REST, RAX, RCX, RDI, REMAINING, RSI } from '../x86/state.ts';
import { PAGE, TLB_ENTRY } from './layout.ts';

/**
 * REP MOVS and REP STOS with 64-bit addresses, in bulk: two functions move(cpu, tlb, shift) and fill(cpu, tlb, shift)
 * for elements of 1 << shift bytes. They work on the state in memory, page by page, as long as translations are
 * found, the direction is upward and the budget lasts; each iteration is charged. The result is 1 when RCX has come
 * to 0. Else the slow path goes on with what the registers say.
 *
 * The instruction itself was charged with its block: that is its last iteration's count.
 */
export const BLOCK_MOVE_SIGNATURE: Signature = { parameters: ['i32', 'i32', 'i32'], results: ['i32'] };

const CPU = 0;
const TLB = 1;
const SHIFT = 2;

export interface BlockMove {
  readonly locals: readonly ValueType[];
  readonly code: Code;
}

/** `refill`: index of the function that fills an entry (refill.ts), where there is one. */
export function blockMove(kind: 'move' | 'fill', tlbEntries: number, refill?: number): BlockMove {
  const locals: ValueType[] = [];
  const local = (type: ValueType): number => locals.push(type) + 2;
  const entry = local('i32');
  const count = local('i64');
  const room = local('i64');
  const target = local('i64');
  const source = local('i64');
  const bytes = local('i32');
  const to = local('i32');
  const from = local('i32');
  const end = local('i32');
  const value = local('i64');
  const code = new Code();

  /** Leaves the loop when there is something else on the stack than 0. */
  const giveUp = (label: Label) => code.hint('unlikely').branchIf(label);
  /** Address in the wasm memory of the linear address, whose page must be cached. */
  const translate = (linear: number, tag: 'readTag' | 'writeTag', into: number, stop: Label): void => {
    code
      .get(linear)
      .i64(7n)
      .op('i64.shr_u')
      .op('i32.wrap_i64')
      .i32((tlbEntries - 1) << 5)
      .op('i32.and');
    code.get(TLB).op('i32.add').set(entry);
    code.get(linear).i64(BigInt(-PAGE)).op('i64.and').get(entry).memory('i64.load', TLB_ENTRY[tag]);
    code.op('i64.ne');
    if (refill === undefined) {
      giveUp(stop);
    } else {
      code.hint('unlikely').open('if');
      code
        .get(linear)
        .i32(tag === 'writeTag' ? 1 : 0)
        .call(refill)
        .tee(entry)
        .op('i32.eqz');
      giveUp(stop);
      code.close();
    }
    code.get(linear).op('i32.wrap_i64').get(entry).memory('i32.load', TLB_ENTRY.addend).op('i32.add');
    code.set(into);
  };
  const smaller = (x: number, y: number) => code.get(x).get(y).get(x).get(y).op('i64.lt_u').op('select');
  /** room = elements from the linear address to the end of its page, if that is less. */
  const fitToPage = (linear: number): void => {
    code
      .i64(BigInt(PAGE))
      .get(linear)
      .i64(BigInt(PAGE - 1))
      .op('i64.and')
      .op('i64.sub');
    code.get(SHIFT).op('i64.extend_i32_u').op('i64.shr_u').set(value);
    smaller(room, value).set(room);
  };
  const advance = (register: number): void => {
    code.get(CPU).get(CPU).memory('i64.load', register);
    code.get(bytes).op('i64.extend_i32_u').op('i64.add').memory('i64.store', register);
  };

  const stop = code.open('block');
  code.get(CPU).memory('i64.load', FLAGS_REST).i64(BigInt(FLAG.df)).op('i64.and').op('i64.eqz').op('i32.eqz');
  giveUp(stop);
  const done = code.open('block');
  const loop = code.open('loop');
  code.get(CPU).memory('i64.load', RCX).tee(count).op('i64.eqz').branchIf(done);
  code.get(CPU).memory('i64.load', RDI).set(target);
  code.get(CPU).memory('i64.load32_u', REMAINING).set(value);
  smaller(count, value).set(room);
  fitToPage(target);
  if (kind === 'move') {
    code.get(CPU).memory('i64.load', RSI).set(source);
    fitToPage(source);
  }
  code.get(room).op('i64.eqz');
  giveUp(stop);
  translate(target, 'writeTag', to, stop);
  code.get(room).get(SHIFT).op('i64.extend_i32_u').op('i64.shl').op('i32.wrap_i64').set(bytes);
  if (kind === 'move') {
    translate(source, 'readTag', from, stop);
    // What is to be read may not have been written before: 0 < to - from < bytes.
    code.get(to).get(from).op('i32.sub').i32(1).op('i32.sub').get(bytes).i32(1).op('i32.sub').op('i32.lt_u');
    giveUp(stop);
    code.get(to).get(from).get(bytes).memoryCopy();
  } else {
    writeFill(code, { to, bytes, end, value });
  }
  code.get(CPU).get(count).get(room).op('i64.sub').memory('i64.store', RCX);
  code.get(CPU).get(CPU).memory('i32.load', REMAINING).get(room).op('i32.wrap_i64').op('i32.sub');
  code.memory('i32.store', REMAINING);
  advance(RDI);
  if (kind === 'move') advance(RSI);
  // The last iteration is the instruction's own count.
  code.get(count).get(room).op('i64.eq').open('if');
  code.get(CPU).get(CPU).memory('i32.load', REMAINING).i32(1).op('i32.add').memory('i32.store', REMAINING);
  code.branch(done);
  code.close();
  code.branch(loop);
  code.close(); // loop
  code.op('unreachable');
  code.close(); // done
  code.i32(1).op('return');
  code.close(); // stop
  code.i32(0);
  return { locals, code };
}

/** Fills `bytes` at `to` with RAX's element. */
function writeFill(code: Code, l: { to: number; bytes: number; end: number; value: number }): void {
  const filled = code.open('block');
  const odd = code.open('block');
  code.get(CPU).memory('i64.load', RAX).set(l.value);
  // Elements whose bytes are all the same are the usual case.
  for (const [shift, mask] of [
    [1, 0xffffn],
    [2, 0xffff_ffffn],
    [3, 0xffff_ffff_ffff_ffffn],
  ] as const) {
    code.get(SHIFT).i32(shift).op('i32.eq');
    code
      .get(l.value)
      .i64(0xffn)
      .op('i64.and')
      .i64(0x0101_0101_0101_0101n & mask)
      .op('i64.mul');
    code.get(l.value).i64(mask).op('i64.and').op('i64.ne').op('i32.and').branchIf(odd);
  }
  code.get(l.to).get(l.value).op('i32.wrap_i64').get(l.bytes).memoryFill();
  code.branch(filled);
  code.close(); // odd
  code.get(l.to).get(l.bytes).op('i32.add').set(l.end);
  const loop = code.open('loop');
  for (const [shift, store] of [
    [1, 'i64.store16'],
    [2, 'i64.store32'],
    [3, 'i64.store'],
  ] as const) {
    code.get(SHIFT).i32(shift).op('i32.eq').open('if');
    code.get(l.to).get(l.value).memory(store, 0);
    code.close();
  }
  code.get(l.to).i32(1).get(SHIFT).op('i32.shl').op('i32.add').tee(l.to);
  code.get(l.end).op('i32.lt_u').branchIf(loop);
  code.close();
  code.close(); // filled
}
