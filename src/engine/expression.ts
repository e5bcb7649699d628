import type { Code } from '../wasm/code.ts';
import type { OpcodeName, SimdName, ValueType } from '../wasm/opcode.ts';
import type {
  Field,
  FlagsOrigin,
  FloatOperation,
  FloatUnary,
  Semantics,
  VectorFloat,
  VectorOperation,
  VectorShift,
  VectorUnary,
} from '../x86/semantics.ts';
import type { Size } from '../x86/state.ts';

/**
 * Turns a meaning (x86/semantics.ts) into wasm. The meaning is first recorded as a list of statements over
 * expression nodes, so that a value used once is computed where it is used and only shared values get a local.
 * Where registers live and what a memory access or a jump is differs between the interpreter and compiled regions;
 * this is what they share.
 */
export class Node {
  /** How often it is pushed, once counted by emit(). */
  uses = 0;
  local = -1;
  readonly type: ValueType;
  readonly operands: readonly Node[];
  readonly write: (code: Code) => void;
  /**
   * `constant`: repeated at each use. `pure`: may move to its only use, and is not computed without one. `fixed`:
   * computed where it stands.
   */
  readonly kind: 'constant' | 'pure' | 'fixed';
  /** Of a 64-bit constant, unsigned. */
  readonly constant: bigint | undefined;
  /** Stands for a local that a later statement may write. */
  readonly register: boolean;
  /** Of a pure value that is one instruction on its operands. */
  opcode: OpcodeName | undefined;
  /** It is this lane of its only operand. */
  lane: number | undefined;
  /** Bits 63:32 are known to be zero. */
  unsigned32 = false;
  /** An address by RSP or RBP and what is known. */
  stack = false;
  /** The low 32 bits as i32, once asked for where that stays in sight. */
  low: Node | undefined;

  constructor(
    type: ValueType,
    kind: Node['kind'],
    operands: readonly Node[],
    write: (code: Code) => void,
    constant?: bigint,
    register = false,
  ) {
    this.type = type;
    this.kind = kind;
    this.operands = operands;
    this.write = write;
    this.constant = constant;
    this.register = register;
    if (constant !== undefined) this.unsigned32 = constant < 1n << 32n;
  }
}

export type Statement =
  | { readonly kind: 'bind'; readonly node: Node }
  /** Evaluates the operands in order, then writes. `later`: pushed by `write`, this many times each. */
  | {
      readonly kind: 'effect';
      readonly operands: readonly Node[];
      readonly write: (code: Code) => void;
      readonly later: readonly Node[];
    }
  | {
      readonly kind: 'choice';
      readonly condition: Node;
      readonly yes: Statement[];
      readonly no: Statement[];
    };

export const LOAD: Record<Size, OpcodeName> = {
  1: 'i64.load8_u',
  2: 'i64.load16_u',
  4: 'i64.load32_u',
  8: 'i64.load',
};
export const LOAD_SIGNED: Record<Size, OpcodeName> = {
  1: 'i64.load8_s',
  2: 'i64.load16_s',
  4: 'i64.load32_s',
  8: 'i64.load',
};
export const STORE: Record<Size, OpcodeName> = {
  1: 'i64.store8',
  2: 'i64.store16',
  4: 'i64.store32',
  8: 'i64.store',
};

const ONES = 0xffff_ffff_ffff_ffffn;
const LOW = 0xffff_ffffn;

export abstract class WasmExpressions implements Semantics<Node, Node, Node> {
  protected readonly code: Code;
  protected statements: Statement[] = [];
  /** Whether registers have to be read where the meaning reads them. */
  protected keepRegisters = true;
  /** Compute 32-bit results with i32 instructions: right where nothing else needs the 64-bit ones. */
  protected readonly narrows: boolean = false;
  #choices = 0;

  constructor(code: Code) {
    this.code = code;
  }

  protected abstract newLocal(type: ValueType): number;

  abstract get(field: Field, size: Size): Node;
  abstract getSigned(field: Field, size: Size): Node;
  abstract set(field: Field, size: Size, value: Node): void;
  abstract number(field: Field): Node;
  abstract immediate(): Node;
  abstract immediateLow(): Node;
  abstract immediateHigh(): Node;
  abstract state(offset: number, size: Size): Node;
  abstract setState(offset: number, size: Size, value: Node): void;
  abstract setFlags(result: Node, aux: Node, origin?: FlagsOrigin<Node>): void;
  abstract knownCondition(code: number): Node | undefined;
  abstract putOff(what: 'carry-and-overflow' | 'carry', value: Node): boolean;
  abstract load(size: Size, address: Node): Node;
  abstract loadForWrite(size: Size, address: Node): Node;
  abstract store(size: Size, address: Node, value: Node): void;
  abstract loadVector(address: Node, aligned: boolean): Node;
  abstract storeVector(address: Node, value: Node, aligned: boolean): void;
  abstract getVector(field: Field): Node;
  abstract setVector(field: Field, value: Node): void;
  abstract blockMove(kind: 'move' | 'fill', size: Size): Node;
  abstract skipNext(): void;
  abstract fault(vector: number, errorCode?: number): void;
  abstract remaining(): Node;
  abstract switchContext(): void;
  abstract pc(offset: Node): Node;
  abstract branch(): void;
  abstract branchIf(condition: Node): void;
  abstract branchTo(target: Node, noted?: 'noted'): void;

  // ---------------------------------------------------------------------------------------- writing

  /** Writes what was recorded. */
  emit(): void {
    this.#countAll(this.statements);
    this.#emitAll(this.statements);
    this.statements = [];
  }

  #countAll(statements: readonly Statement[]): void {
    for (const statement of statements) {
      switch (statement.kind) {
        case 'bind':
          // A pure value counts when something that is written uses it.
          if (statement.node.kind === 'fixed')
            for (const operand of statement.node.operands) this.#count(operand);
          break;
        case 'effect':
          for (const operand of statement.operands) this.#count(operand);
          for (const operand of statement.later) this.#count(operand);
          break;
        case 'choice':
          this.#count(statement.condition);
          this.#countAll(statement.yes);
          this.#countAll(statement.no);
          break;
      }
    }
  }

  #count(node: Node): void {
    node.uses++;
    if (node.uses === 1 && node.kind === 'pure') for (const operand of node.operands) this.#count(operand);
  }

  #emitAll(statements: readonly Statement[]): void {
    for (const statement of statements) {
      switch (statement.kind) {
        case 'bind': {
          const { node } = statement;
          if (node.register ? node.uses === 0 || !this.keepRegisters : node.uses <= 1 && node.kind === 'pure')
            break;
          this.#compute(node);
          node.local = this.newLocal(node.type);
          this.code.set(node.local);
          break;
        }
        case 'effect':
          for (const operand of statement.operands) this.push(operand);
          statement.write(this.code);
          break;
        case 'choice':
          this.push(statement.condition);
          this.code.open('if');
          this.#emitAll(statement.yes);
          if (statement.no.length > 0) {
            this.code.otherwise();
            this.#emitAll(statement.no);
          }
          this.code.close();
          break;
      }
    }
  }

  protected push(node: Node): void {
    if (node.local >= 0) this.code.get(node.local);
    else this.#compute(node);
  }

  #compute(node: Node): void {
    for (const operand of node.operands) this.push(operand);
    node.write(this.code);
  }

  protected node(
    type: ValueType,
    kind: Node['kind'],
    operands: readonly Node[],
    write: (code: Code) => void,
  ): Node {
    const node = new Node(type, kind, operands, write);
    if (kind !== 'constant') this.statements.push({ kind: 'bind', node });
    return node;
  }

  #pure(type: ValueType, opcode: OpcodeName, ...operands: Node[]): Node {
    const node = this.node(type, 'pure', operands, (code) => code.op(opcode));
    node.opcode = opcode;
    return node;
  }

  /** The low half of a 64-bit value as i32. */
  #low32(x: Node): Node {
    if (x.low !== undefined) return x.low;
    const low = this.#makeLow32(x);
    if (this.#choices === 0) x.low = low;
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
        return this.#pure('i32', 'i32.and', this.#low32(first!), this.#low32(second!));
      case 'i64.or':
        return this.#pure('i32', 'i32.or', this.#low32(first!), this.#low32(second!));
      case 'i64.xor':
        return this.#pure('i32', 'i32.xor', this.#low32(first!), this.#low32(second!));
      case 'i64.add':
        return this.#pure('i32', 'i32.add', this.#low32(first!), this.#low32(second!));
      case 'i64.sub':
        return this.#pure('i32', 'i32.sub', this.#low32(first!), this.#low32(second!));
      case 'i64.mul':
        return this.#pure('i32', 'i32.mul', this.#low32(first!), this.#low32(second!));
      case 'i64.shl':
        if (second!.constant === undefined || second!.constant > 31n) break;
        return this.#pure('i32', 'i32.shl', this.#low32(first!), this.#low32(second!));
    }
    return this.#pure('i32', 'i32.wrap_i64', x);
  }

  #extended(low: Node): Node {
    const node = this.#pure('i64', 'i64.extend_i32_u', low);
    node.unsigned32 = true;
    return node;
  }

  /** `later`: nodes that `write` pushes itself, once for each time they stand here. */
  protected effect(
    operands: readonly Node[],
    write: (code: Code) => void,
    later: readonly Node[] = [],
  ): void {
    this.statements.push({ kind: 'effect', operands, write, later });
  }

  // ---------------------------------------------------------------------------------------- arithmetic

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
    const sum = this.#pure('i64', 'i64.add', x, y);
    sum.stack = x.stack && y.constant !== undefined;
    return sum;
  }

  sub(x: Node, y: Node): Node {
    if (x.constant !== undefined && y.constant !== undefined) return this.constant(x.constant - y.constant);
    const difference = this.#pure('i64', 'i64.sub', x, y);
    difference.stack = x.stack && y.constant !== undefined;
    return difference;
  }

  mul(x: Node, y: Node): Node {
    return this.#pure('i64', 'i64.mul', x, y);
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
    return this.#pure('i64', 'i64.and', x, y);
  }

  or(x: Node, y: Node): Node {
    return this.#pure('i64', 'i64.or', x, y);
  }

  xor(x: Node, y: Node): Node {
    return this.#pure('i64', 'i64.xor', x, y);
  }

  shl(x: Node, y: Node): Node {
    if (x.constant !== undefined && y.constant !== undefined)
      return this.constant(x.constant << (y.constant & 63n));
    if (y.constant === 0n || x.constant === 0n) return x;
    const sum = sumOfCounts(x, 'i64.shl', y, 64n);
    if (sum !== undefined) return this.shl(x.operands[0]!, this.constant(sum));
    return this.#pure('i64', 'i64.shl', x, y);
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
      if (whole === undefined) return this.#extended(this.#pure('i32', 'i32.shr_u', low, this.#low32(y)));
      const count = this.#low32(this.constant(whole));
      return this.#extended(this.#pure('i32', 'i32.shr_u', low.operands[0]!, count));
    }
    return this.#pure('i64', 'i64.shr_u', x, y);
  }

  shrS(x: Node, y: Node): Node {
    if (y.constant === 0n) return x;
    const sum = sumOfCounts(x, 'i64.shr_s', y, 64n);
    if (sum !== undefined) return this.shrS(x.operands[0]!, this.constant(sum));
    if (this.narrows && x.opcode === 'i64.extend_i32_s' && y.constant !== undefined && y.constant < 32n) {
      const low = x.operands[0]!;
      const whole = sumOfCounts(low, 'i32.shr_s', y, 32n);
      if (whole === undefined)
        return this.#pure('i64', 'i64.extend_i32_s', this.#pure('i32', 'i32.shr_s', low, this.#low32(y)));
      const count = this.#low32(this.constant(whole));
      return this.#pure('i64', 'i64.extend_i32_s', this.#pure('i32', 'i32.shr_s', low.operands[0]!, count));
    }
    return this.#pure('i64', 'i64.shr_s', x, y);
  }

  rotl(x: Node, y: Node): Node {
    return this.#pure('i64', 'i64.rotl', x, y);
  }

  rotr(x: Node, y: Node): Node {
    return this.#pure('i64', 'i64.rotr', x, y);
  }

  rotl32(x: Node, y: Node): Node {
    return this.#extended(this.#pure('i32', 'i32.rotl', this.#low32(x), this.#low32(y)));
  }

  rotr32(x: Node, y: Node): Node {
    return this.#extended(this.#pure('i32', 'i32.rotr', this.#low32(x), this.#low32(y)));
  }

  clz(x: Node): Node {
    return this.#pure('i64', 'i64.clz', x);
  }

  ctz(x: Node): Node {
    return this.#pure('i64', 'i64.ctz', x);
  }

  popcnt(x: Node): Node {
    return this.#pure('i64', 'i64.popcnt', x);
  }

  signExtend(x: Node, size: Size): Node {
    switch (size) {
      case 1:
        return this.#pure('i64', 'i64.extend8_s', x);
      case 2:
        return this.#pure('i64', 'i64.extend16_s', x);
      case 4:
        if (this.narrows) return this.#pure('i64', 'i64.extend_i32_s', this.#low32(x));
        return this.#pure('i64', 'i64.extend32_s', x);
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
    return this.#pure('i32', 'i64.eq', x, y);
  }

  ne(x: Node, y: Node): Node {
    return this.#pure('i32', 'i64.ne', x, y);
  }

  ltU(x: Node, y: Node): Node {
    return this.#pure('i32', 'i64.lt_u', x, y);
  }

  ltS(x: Node, y: Node): Node {
    return this.#pure('i32', 'i64.lt_s', x, y);
  }

  isZero(x: Node): Node {
    if (x.opcode === 'i64.extend_i32_u' || x.opcode === 'i64.extend_i32_s')
      return this.#pure('i32', 'i32.eqz', x.operands[0]!);
    return this.#pure('i32', 'i64.eqz', x);
  }

  not(x: Node): Node {
    return this.#pure('i32', 'i32.eqz', x);
  }

  bothOf(x: Node, y: Node): Node {
    return this.#pure('i32', 'i32.and', x, y);
  }

  eitherOf(x: Node, y: Node): Node {
    return this.#pure('i32', 'i32.or', x, y);
  }

  differ(x: Node, y: Node): Node {
    return this.#pure('i32', 'i32.xor', x, y);
  }

  value(x: Node): Node {
    return this.#pure('i64', 'i64.extend_i32_u', x);
  }

  select(condition: Node, yes: Node, no: Node): Node {
    return this.#pure('i64', 'select', yes, no, condition);
  }

  when(condition: Node, then: () => void, otherwise?: () => void): void {
    const outer = this.statements;
    this.statements = [];
    this.#choices++;
    then();
    const yes = this.statements;
    this.statements = [];
    otherwise?.();
    const no = this.statements;
    this.#choices--;
    this.statements = outer;
    outer.push({ kind: 'choice', condition, yes, no });
  }

  // ---------------------------------------------------------------------------------------- vectors

  vector(low: Node, high: Node): Node {
    const splat = this.node('v128', 'pure', [low], (code) => code.simd('i64x2.splat'));
    return this.node('v128', 'pure', [splat, high], (code) => code.lane('i64x2.replace_lane', 1));
  }

  vectorConstant(low: bigint, high: bigint): Node {
    return new Node('v128', 'constant', [], (code) => code.v128(low, high));
  }

  lane(x: Node, index: 0 | 1): Node {
    const node = this.node('i64', 'pure', [x], (code) => code.lane('i64x2.extract_lane', index));
    node.lane = index;
    return node;
  }

  withLowLane(x: Node, value: Node): Node {
    // A double needs no way over a general register.
    if (value.opcode === 'i64.reinterpret_f64')
      return this.node('v128', 'pure', [x, value.operands[0]!], (code) => code.lane('f64x2.replace_lane', 0));
    return this.node('v128', 'pure', [x, value], (code) => code.lane('i64x2.replace_lane', 0));
  }

  anyBit(x: Node): Node {
    return this.#simd('i32', 'v128.any_true', x);
  }

  vectorOp(operation: VectorOperation, x: Node, y: Node): Node {
    return this.#simd('v128', operation, x, y);
  }

  vectorUnary(operation: VectorUnary, x: Node): Node {
    return this.#simd('v128', operation, x);
  }

  vectorShift(operation: VectorShift, x: Node, count: Node): Node {
    const wrapped = this.#pure('i32', 'i32.wrap_i64', count);
    return this.#simd('v128', operation, x, wrapped);
  }

  #simd(type: ValueType, operation: SimdName, ...operands: Node[]): Node {
    return this.node(type, 'pure', operands, (code) => code.simd(operation));
  }

  shuffle(x: Node, y: Node, indices: readonly number[]): Node {
    return this.node('v128', 'pure', [x, y], (code) => {
      code.simd('i8x16.shuffle');
      for (const index of indices) code.bytes.byte(index);
    });
  }

  signMask(shape: 'i8x16' | 'i32x4' | 'i64x2', x: Node): Node {
    const mask = this.#simd('i32', `${shape}.bitmask`, x);
    return this.#pure('i64', 'i64.extend_i32_u', mask);
  }

  // ---------------------------------------------------------------------------------------- floating point

  #fromBits(width: 'f32' | 'f64', x: Node): Node {
    if (width === 'f64') {
      const { lane } = x;
      if (lane === undefined) return this.#pure('f64', 'f64.reinterpret_i64', x);
      return this.node('f64', 'pure', x.operands, (code) => code.lane('f64x2.extract_lane', lane));
    }
    return this.#pure('f32', 'f32.reinterpret_i32', this.#pure('i32', 'i32.wrap_i64', x));
  }

  #toBits(width: 'f32' | 'f64', x: Node): Node {
    if (width === 'f64') return this.#pure('i64', 'i64.reinterpret_f64', x);
    return this.#pure('i64', 'i64.extend_i32_u', this.#pure('i32', 'i32.reinterpret_f32', x));
  }

  float(operation: FloatOperation, x: Node, y: Node): Node {
    const width = operation.startsWith('f32') ? 'f32' : 'f64';
    const result = this.#pure(width, operation, this.#fromBits(width, x), this.#fromBits(width, y));
    return this.#toBits(width, result);
  }

  vectorFloat(operation: VectorFloat, x: Node, y: Node): Node {
    return this.#simd('v128', operation, x, y);
  }

  floatUnary(operation: FloatUnary, x: Node): Node {
    switch (operation) {
      case 'f32.sqrt':
      case 'f64.sqrt': {
        const width = operation === 'f32.sqrt' ? 'f32' : 'f64';
        return this.#toBits(width, this.#pure(width, operation, this.#fromBits(width, x)));
      }
      case 'f64.promote_f32':
        return this.#toBits('f64', this.#pure('f64', operation, this.#fromBits('f32', x)));
      case 'f32.demote_f64':
        return this.#toBits('f32', this.#pure('f32', operation, this.#fromBits('f64', x)));
      case 'f32.convert_i64_s':
        return this.#toBits('f32', this.#pure('f32', operation, x));
      case 'f64.convert_i64_s':
        return this.#toBits('f64', this.#pure('f64', operation, x));
      // As with divisions: moved out of its guard it could trap.
      case 'i64.trunc_f32_s':
        return this.node('i64', 'fixed', [this.#fromBits('f32', x)], (code) => code.op(operation));
      case 'i64.trunc_f64_s':
        return this.node('i64', 'fixed', [this.#fromBits('f64', x)], (code) => code.op(operation));
    }
  }

  floatLess(width: 'f32' | 'f64', x: Node, y: Node): Node {
    return this.#pure('i32', `${width}.lt`, this.#fromBits(width, x), this.#fromBits(width, y));
  }
}

/** The sum of two constant shift counts, when `x` is itself such a shift and the sum is below `width`. */
function sumOfCounts(x: Node, opcode: OpcodeName, y: Node, width: bigint): bigint | undefined {
  const inner = x.operands[1]?.constant;
  if (x.opcode !== opcode || inner === undefined || y.constant === undefined) return undefined;
  const sum = inner + y.constant;
  return sum < width ? sum : undefined;
}
