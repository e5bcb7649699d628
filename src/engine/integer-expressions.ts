import type { OpcodeName } from '../wasm/opcode.ts';
import type { Size } from '../x86/state.ts';
import { Node, StatementWriter } from './statement-writer.ts';

const ONES = 0xffff_ffff_ffff_ffffn;
const LOW = 0xffff_ffffn;

/** Integers of 64 bits, and of 32 where that is all that is needed; conditions are i32. */
export abstract class IntegerExpressions extends StatementWriter {
  /** Compute 32-bit results with i32 instructions: right where nothing else needs the 64-bit ones. */
  protected readonly narrows: boolean = false;

  constant(value: bigint | number): Node {
    const bits = BigInt.asUintN(64, BigInt(value));
    const signed = BigInt.asIntN(64, bits);
    return new Node('i64', 'constant', [], (code) => code.i64(signed), bits);
  }

  // Operands that are known, as in compiled code, fold where addresses and masks have them.

  add(x: Node, y: Node): Node {
    if (x.constant !== undefined && y.constant !== undefined) return this.constant(x.constant + y.constant);
    if (y.constant === 0n) return x;
    if (x.constant === 0n) return y;
    const sum = this.pure('i64', 'i64.add', x, y);
    sum.stack = x.stack && y.constant !== undefined;
    return sum;
  }

  sub(x: Node, y: Node): Node {
    if (x.constant !== undefined && y.constant !== undefined) return this.constant(x.constant - y.constant);
    const difference = this.pure('i64', 'i64.sub', x, y);
    difference.stack = x.stack && y.constant !== undefined;
    return difference;
  }

  mul(x: Node, y: Node): Node {
    return this.pure('i64', 'i64.mul', x, y);
  }

  // Divisions stay where they stand: moved out of their guard they could trap.
  #division(opcode: OpcodeName, x: Node, y: Node): Node {
    return this.node('i64', 'fixed', [x, y], (code) => code.op(opcode));
  }

  divU(x: Node, y: Node): Node {
    return this.#division('i64.div_u', x, y);
  }

  remU(x: Node, y: Node): Node {
    return this.#division('i64.rem_u', x, y);
  }

  divS(x: Node, y: Node): Node {
    return this.#division('i64.div_s', x, y);
  }

  remS(x: Node, y: Node): Node {
    return this.#division('i64.rem_s', x, y);
  }

  and(x: Node, y: Node): Node {
    if (x.constant !== undefined && y.constant !== undefined) return this.constant(x.constant & y.constant);
    if (y.constant === ONES) return x;
    if (y.constant === 0n) return y;
    return this.pure('i64', 'i64.and', x, y);
  }

  or(x: Node, y: Node): Node {
    return this.pure('i64', 'i64.or', x, y);
  }

  xor(x: Node, y: Node): Node {
    return this.pure('i64', 'i64.xor', x, y);
  }

  shl(x: Node, y: Node): Node {
    if (x.constant !== undefined && y.constant !== undefined)
      return this.constant(x.constant << (y.constant & 63n));
    if (y.constant === 0n || x.constant === 0n) return x;
    const sum = sumOfCounts(x, 'i64.shl', y, 64n);
    if (sum !== undefined) return this.shl(x.operands[0]!, this.constant(sum));
    return this.pure('i64', 'i64.shl', x, y);
  }

  shrU(x: Node, y: Node): Node {
    if (x.constant !== undefined && y.constant !== undefined)
      return this.constant(x.constant >> (y.constant & 63n));
    if (y.constant === 0n) return x;
    const sum = sumOfCounts(x, 'i64.shr_u', y, 64n);
    if (sum !== undefined) return this.shrU(x.operands[0]!, this.constant(sum));
    if (this.narrows && x.opcode === 'i64.extend_i32_u' && y.constant !== undefined && y.constant < 32n) {
      const low = x.operands[0]!;
      const whole = sumOfCounts(low, 'i32.shr_u', y, 32n);
      if (whole === undefined) return this.#extended(this.pure('i32', 'i32.shr_u', low, this.#low32(y)));
      const count = this.#low32(this.constant(whole));
      return this.#extended(this.pure('i32', 'i32.shr_u', low.operands[0]!, count));
    }
    return this.pure('i64', 'i64.shr_u', x, y);
  }

  shrS(x: Node, y: Node): Node {
    if (y.constant === 0n) return x;
    const sum = sumOfCounts(x, 'i64.shr_s', y, 64n);
    if (sum !== undefined) return this.shrS(x.operands[0]!, this.constant(sum));
    if (this.narrows && x.opcode === 'i64.extend_i32_s' && y.constant !== undefined && y.constant < 32n) {
      const low = x.operands[0]!;
      const whole = sumOfCounts(low, 'i32.shr_s', y, 32n);
      if (whole === undefined)
        return this.pure('i64', 'i64.extend_i32_s', this.pure('i32', 'i32.shr_s', low, this.#low32(y)));
      const count = this.#low32(this.constant(whole));
      return this.pure('i64', 'i64.extend_i32_s', this.pure('i32', 'i32.shr_s', low.operands[0]!, count));
    }
    return this.pure('i64', 'i64.shr_s', x, y);
  }

  rotl(x: Node, y: Node): Node {
    return this.pure('i64', 'i64.rotl', x, y);
  }

  rotr(x: Node, y: Node): Node {
    return this.pure('i64', 'i64.rotr', x, y);
  }

  rotl32(x: Node, y: Node): Node {
    return this.#extended(this.pure('i32', 'i32.rotl', this.#low32(x), this.#low32(y)));
  }

  rotr32(x: Node, y: Node): Node {
    return this.#extended(this.pure('i32', 'i32.rotr', this.#low32(x), this.#low32(y)));
  }

  clz(x: Node): Node {
    return this.pure('i64', 'i64.clz', x);
  }

  ctz(x: Node): Node {
    return this.pure('i64', 'i64.ctz', x);
  }

  popcnt(x: Node): Node {
    return this.pure('i64', 'i64.popcnt', x);
  }

  signExtend(x: Node, size: Size): Node {
    switch (size) {
      case 1:
        return this.pure('i64', 'i64.extend8_s', x);
      case 2:
        return this.pure('i64', 'i64.extend16_s', x);
      case 4:
        if (this.narrows) return this.pure('i64', 'i64.extend_i32_s', this.#low32(x));
        return this.pure('i64', 'i64.extend32_s', x);
      case 8:
        return x;
    }
  }

  zeroExtend(x: Node, size: Size): Node {
    if (size === 8) return x;
    if (size === 4) {
      if (x.unsigned32) return x;
      if (this.narrows) return this.#extended(this.#low32(x));
    }
    return this.and(x, this.constant((1n << BigInt(size * 8)) - 1n));
  }

  // ---------------------------------------------------------------------------------------- conditions

  eq(x: Node, y: Node): Node {
    return this.pure('i32', 'i64.eq', x, y);
  }

  ne(x: Node, y: Node): Node {
    return this.pure('i32', 'i64.ne', x, y);
  }

  ltU(x: Node, y: Node): Node {
    return this.pure('i32', 'i64.lt_u', x, y);
  }

  ltS(x: Node, y: Node): Node {
    return this.pure('i32', 'i64.lt_s', x, y);
  }

  isZero(x: Node): Node {
    if (x.opcode === 'i64.extend_i32_u' || x.opcode === 'i64.extend_i32_s')
      return this.pure('i32', 'i32.eqz', x.operands[0]!);
    return this.pure('i32', 'i64.eqz', x);
  }

  not(x: Node): Node {
    return this.pure('i32', 'i32.eqz', x);
  }

  bothOf(x: Node, y: Node): Node {
    return this.pure('i32', 'i32.and', x, y);
  }

  eitherOf(x: Node, y: Node): Node {
    return this.pure('i32', 'i32.or', x, y);
  }

  differ(x: Node, y: Node): Node {
    return this.pure('i32', 'i32.xor', x, y);
  }

  value(x: Node): Node {
    return this.pure('i64', 'i64.extend_i32_u', x);
  }

  select(condition: Node, yes: Node, no: Node): Node {
    return this.pure('i64', 'select', yes, no, condition);
  }

  /** The low half of a 64-bit value as i32. */
  #low32(x: Node): Node {
    if (x.low !== undefined) return x.low;
    const low = this.#makeLow32(x);
    if (this.choices === 0) x.low = low;
    return low;
  }

  #makeLow32(x: Node): Node {
    if (x.constant !== undefined) {
      const value = Number(BigInt.asIntN(32, x.constant));
      return new Node('i32', 'constant', [], (code) => code.i32(value), BigInt.asUintN(32, x.constant));
    }
    const [first, second] = x.operands;
    switch (x.opcode) {
      case 'i64.extend_i32_u':
      case 'i64.extend_i32_s':
        return first!;
      case 'i64.and':
        if (second!.constant !== undefined && (second!.constant & LOW) === LOW) return this.#low32(first!);
        return this.pure('i32', 'i32.and', this.#low32(first!), this.#low32(second!));
      case 'i64.or':
        return this.pure('i32', 'i32.or', this.#low32(first!), this.#low32(second!));
      case 'i64.xor':
        return this.pure('i32', 'i32.xor', this.#low32(first!), this.#low32(second!));
      case 'i64.add':
        return this.pure('i32', 'i32.add', this.#low32(first!), this.#low32(second!));
      case 'i64.sub':
        return this.pure('i32', 'i32.sub', this.#low32(first!), this.#low32(second!));
      case 'i64.mul':
        return this.pure('i32', 'i32.mul', this.#low32(first!), this.#low32(second!));
      case 'i64.shl':
        if (second!.constant === undefined || second!.constant > 31n) break;
        return this.pure('i32', 'i32.shl', this.#low32(first!), this.#low32(second!));
    }
    return this.pure('i32', 'i32.wrap_i64', x);
  }

  #extended(low: Node): Node {
    const node = this.pure('i64', 'i64.extend_i32_u', low);
    node.unsigned32 = true;
    return node;
  }
}

/** The sum of two constant shift counts, when `x` is itself such a shift and the sum is below `width`. */
function sumOfCounts(x: Node, opcode: OpcodeName, y: Node, width: bigint): bigint | undefined {
  const inner = x.operands[1]?.constant;
  if (x.opcode !== opcode || inner === undefined || y.constant === undefined) return undefined;
  const sum = inner + y.constant;
  return sum < width ? sum : undefined;
}
