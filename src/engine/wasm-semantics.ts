import type { Code, Label } from '../wasm/code.ts';
import type { OpcodeName, SimdName, ValueType } from '../wasm/opcode.ts';
import type {
  Field,
  FloatOperation,
  FloatUnary,
  Semantics,
  VectorOperation,
  VectorShift,
  VectorUnary,
} from '../x86/semantics.ts';
import {
  BLOCK_PC,
  FLAGS_AUX,
  FLAGS_RESULT,
  REMAINING,
  type Size,
  SLOW_ADDRESS,
  SLOW_VALUE,
} from '../x86/state.ts';
import { TLB_ENTRY } from './layout.ts';

/**
 * Turns a meaning (x86/semantics.ts) into wasm. The meaning is first recorded as a list of statements over
 * expression nodes, so that a value used once is computed where it is used and only shared values get a local.
 */
export class Node {
  uses = 0;
  local = -1;
  readonly type: ValueType;
  readonly operands: readonly Node[];
  readonly write: (code: Code) => void;
  /** `constant`: repeated at each use. `pure`: may move to its only use. `fixed`: stays where it stands. */
  readonly kind: 'constant' | 'pure' | 'fixed';

  constructor(type: ValueType, kind: Node['kind'], operands: readonly Node[], write: (code: Code) => void) {
    this.type = type;
    this.kind = kind;
    this.operands = operands;
    this.write = write;
  }
}

type Statement =
  | { readonly kind: 'bind'; readonly node: Node }
  /** Evaluates the operands in order, then writes. */
  | { readonly kind: 'effect'; readonly operands: readonly Node[]; readonly write: (code: Code) => void }
  | {
      readonly kind: 'choice';
      readonly condition: Node;
      readonly yes: Statement[];
      readonly no: Statement[];
    };

/** Locals that every emitted function has, and how the record's fields are reached in it. */
export interface Frame {
  /** i32: vCPU base pointer. */
  readonly cpu: number;
  /** i32: current record (also handed to slow paths). */
  readonly record: number;
  /** i32: translation cache. */
  readonly tlb: number;
  /** i32: instructions that may still be charged. */
  readonly remaining: number;
  /** Scratch. */
  readonly address: number;
  readonly entry: number;
  readonly tlbEntries: number;
  /** Leaves the function; the reason was stored or is the slow path's. */
  readonly exit: Label;
  /** Function index of the import slow(record, access) -> status. */
  readonly slow: number;
  local(type: ValueType): number;
  /** Pushes the i32 address (without the constant part) of a field; returns the constant part. */
  fieldAddress(code: Code, field: Field): number;
  fieldNumber(code: Code, field: Field): void;
  immediate(code: Code): void;
  immediateHalf(code: Code, half: 'low' | 'high'): void;
  fault(code: Code, vector: number, errorCode: number | undefined): void;
  /** BLOCK_PC is already advanced; goes to the direct target of the record. `conditional`: refunds first. */
  takeBranch(code: Code, conditional: boolean): void;
  takeIndirect(code: Code): void;
  skipNext(code: Code): void;
}

/** Slow-path access kinds, with the size in the low bits. */
export const ACCESS = { load: 0x000, loadForWrite: 0x100, store: 0x200 } as const;

const LOAD: Record<Size, OpcodeName> = {
  1: 'i64.load8_u',
  2: 'i64.load16_u',
  4: 'i64.load32_u',
  8: 'i64.load',
};
const LOAD_SIGNED: Record<Size, OpcodeName> = {
  1: 'i64.load8_s',
  2: 'i64.load16_s',
  4: 'i64.load32_s',
  8: 'i64.load',
};
const STORE: Record<Size, OpcodeName> = {
  1: 'i64.store8',
  2: 'i64.store16',
  4: 'i64.store32',
  8: 'i64.store',
};

export class WasmSemantics implements Semantics<Node, Node, Node> {
  readonly #frame: Frame;
  readonly #code: Code;
  #statements: Statement[] = [];
  /** Whether the meaning contains a direct branch. */
  branches = false;

  constructor(frame: Frame, code: Code) {
    this.#frame = frame;
    this.#code = code;
  }

  /** Writes what was recorded. */
  emit(): void {
    this.#emitAll(this.#statements);
    this.#statements = [];
  }

  #emitAll(statements: readonly Statement[]): void {
    for (const statement of statements) {
      switch (statement.kind) {
        case 'bind': {
          const { node } = statement;
          if (node.uses === 0 && node.kind === 'pure') break;
          if (node.uses === 1 && node.kind === 'pure') break;
          this.#compute(node);
          node.local = this.#frame.local(node.type);
          this.#code.set(node.local);
          break;
        }
        case 'effect':
          for (const operand of statement.operands) this.#push(operand);
          statement.write(this.#code);
          break;
        case 'choice':
          this.#push(statement.condition);
          this.#code.open('if');
          this.#emitAll(statement.yes);
          if (statement.no.length > 0) {
            this.#code.otherwise();
            this.#emitAll(statement.no);
          }
          this.#code.close();
          break;
      }
    }
  }

  #push(node: Node): void {
    if (node.local >= 0) this.#code.get(node.local);
    else this.#compute(node);
  }

  #compute(node: Node): void {
    for (const operand of node.operands) this.#push(operand);
    node.write(this.#code);
  }

  #node(type: ValueType, kind: Node['kind'], operands: readonly Node[], write: (code: Code) => void): Node {
    const node = new Node(type, kind, operands, write);
    for (const operand of operands) operand.uses++;
    if (kind !== 'constant') this.#statements.push({ kind: 'bind', node });
    return node;
  }

  #pure(type: ValueType, opcode: OpcodeName, ...operands: Node[]): Node {
    return this.#node(type, 'pure', operands, (code) => code.op(opcode));
  }

  #effect(operands: readonly Node[], write: (code: Code) => void): void {
    for (const operand of operands) operand.uses++;
    this.#statements.push({ kind: 'effect', operands, write });
  }

  // ---------------------------------------------------------------------------------------- registers

  get(field: Field, size: Size): Node {
    return this.#node('i64', 'fixed', [], (code) => {
      const offset = this.#frame.fieldAddress(code, field);
      code.memory(LOAD[size], offset);
    });
  }

  getSigned(field: Field, size: Size): Node {
    return this.#node('i64', 'fixed', [], (code) => {
      const offset = this.#frame.fieldAddress(code, field);
      code.memory(LOAD_SIGNED[size], offset);
    });
  }

  set(field: Field, size: Size, value: Node): void {
    const whole = size === 4 ? this.zeroExtend(value, 4) : value;
    whole.uses++;
    this.#effect([], (code) => {
      const offset = this.#frame.fieldAddress(code, field);
      this.#push(whole);
      code.memory(STORE[size === 4 ? 8 : size], offset);
    });
  }

  number(field: Field): Node {
    return this.#node('i64', 'fixed', [], (code) => this.#frame.fieldNumber(code, field));
  }

  immediate(): Node {
    return this.#node('i64', 'fixed', [], (code) => this.#frame.immediate(code));
  }

  immediateLow(): Node {
    return this.#node('i64', 'fixed', [], (code) => this.#frame.immediateHalf(code, 'low'));
  }

  immediateHigh(): Node {
    return this.#node('i64', 'fixed', [], (code) => this.#frame.immediateHalf(code, 'high'));
  }

  state(offset: number, size: Size): Node {
    return this.#node('i64', 'fixed', [], (code) => code.get(this.#frame.cpu).memory(LOAD[size], offset));
  }

  setState(offset: number, size: Size, value: Node): void {
    const whole = size === 4 ? this.zeroExtend(value, 4) : value;
    whole.uses++;
    this.#effect([], (code) => {
      code.get(this.#frame.cpu);
      this.#push(whole);
      code.memory(STORE[size === 4 ? 8 : size], offset);
    });
  }

  // ---------------------------------------------------------------------------------------- arithmetic

  constant(value: bigint | number): Node {
    return new Node('i64', 'constant', [], (code) => code.i64(BigInt(value)));
  }

  add(x: Node, y: Node): Node {
    return this.#pure('i64', 'i64.add', x, y);
  }

  sub(x: Node, y: Node): Node {
    return this.#pure('i64', 'i64.sub', x, y);
  }

  mul(x: Node, y: Node): Node {
    return this.#pure('i64', 'i64.mul', x, y);
  }

  // Divisions stay where they stand: moved out of their guard they could trap.
  #division(opcode: OpcodeName, x: Node, y: Node): Node {
    return this.#node('i64', 'fixed', [x, y], (code) => code.op(opcode));
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
    return this.#pure('i64', 'i64.and', x, y);
  }

  or(x: Node, y: Node): Node {
    return this.#pure('i64', 'i64.or', x, y);
  }

  xor(x: Node, y: Node): Node {
    return this.#pure('i64', 'i64.xor', x, y);
  }

  shl(x: Node, y: Node): Node {
    return this.#pure('i64', 'i64.shl', x, y);
  }

  shrU(x: Node, y: Node): Node {
    return this.#pure('i64', 'i64.shr_u', x, y);
  }

  shrS(x: Node, y: Node): Node {
    return this.#pure('i64', 'i64.shr_s', x, y);
  }

  rotl(x: Node, y: Node): Node {
    return this.#pure('i64', 'i64.rotl', x, y);
  }

  rotr(x: Node, y: Node): Node {
    return this.#pure('i64', 'i64.rotr', x, y);
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
        return this.#pure('i64', 'i64.extend32_s', x);
      case 8:
        return x;
    }
  }

  zeroExtend(x: Node, size: Size): Node {
    if (size === 8) return x;
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
    condition.uses++;
    const outer = this.#statements;
    this.#statements = [];
    then();
    const yes = this.#statements;
    this.#statements = [];
    otherwise?.();
    const no = this.#statements;
    this.#statements = outer;
    outer.push({ kind: 'choice', condition, yes, no });
  }

  setFlags(result: Node, aux: Node): void {
    this.setState(FLAGS_RESULT, 8, result);
    this.setState(FLAGS_AUX, 8, aux);
  }

  // ---------------------------------------------------------------------------------------- memory

  load(size: Size, address: Node): Node {
    return this.#load(size, address, 'readTag', ACCESS.load);
  }

  loadForWrite(size: Size, address: Node): Node {
    return this.#load(size, address, 'writeTag', ACCESS.loadForWrite);
  }

  #load(size: Size, address: Node, tag: 'readTag' | 'writeTag', access: number): Node {
    return this.#node('i64', 'fixed', [address], (code) => {
      this.#translate(code, size, tag);
      code.open('if', 'i64');
      this.#hostAddress(code);
      code.memory(LOAD[size], 0);
      code.otherwise();
      this.#slow(code, access | size);
      code.get(this.#frame.cpu).memory('i64.load', SLOW_VALUE);
      code.close();
    });
  }

  store(size: Size, address: Node, value: Node): void {
    value.uses += 2;
    this.#effect([address], (code) => {
      this.#translate(code, size, 'writeTag');
      code.open('if');
      this.#hostAddress(code);
      this.#push(value);
      code.memory(STORE[size], 0);
      code.otherwise();
      code.get(this.#frame.cpu);
      this.#push(value);
      code.memory('i64.store', SLOW_VALUE);
      this.#slow(code, ACCESS.store | size);
      code.close();
    });
  }

  /** Pops the linear address; pushes whether the translation cache has all of the access. */
  #translate(code: Code, size: number, tag: 'readTag' | 'writeTag'): void {
    const { address, entry, tlb, tlbEntries } = this.#frame;
    // One compare settles page, permission and page crossing: the last byte must lie in the entry's page.
    code.tee(address).i64(7n).op('i64.shr_u').op('i32.wrap_i64');
    code
      .i32((tlbEntries - 1) << 5)
      .op('i32.and')
      .get(tlb)
      .op('i32.add')
      .set(entry);
    code.get(address);
    if (size > 1) code.i64(BigInt(size - 1)).op('i64.add');
    code.i64(-4096n).op('i64.and');
    code.get(entry).memory('i64.load', TLB_ENTRY[tag]).op('i64.eq');
  }

  #hostAddress(code: Code): void {
    code.get(this.#frame.address).op('i32.wrap_i64');
    code.get(this.#frame.entry).memory('i32.load', TLB_ENTRY.addend).op('i32.add');
  }

  #slow(code: Code, access: number): void {
    const { cpu, address, remaining, record, slow, exit } = this.#frame;
    code.get(cpu).get(address).memory('i64.store', SLOW_ADDRESS);
    code.get(cpu).get(remaining).memory('i32.store', REMAINING);
    code.get(record).i32(access).call(slow).branchIf(exit);
  }

  // ---------------------------------------------------------------------------------------- vectors

  loadVector(address: Node, aligned: boolean): Node {
    if (aligned) this.#requireAligned(address);
    return this.#node('v128', 'fixed', [address], (code) => {
      this.#translate(code, 16, 'readTag');
      code.open('if', 'v128');
      this.#hostAddress(code);
      code.simdMemory('v128.load', 0);
      code.otherwise();
      this.#slow(code, ACCESS.load | 16);
      code.get(this.#frame.cpu).simdMemory('v128.load', SLOW_VALUE);
      code.close();
    });
  }

  storeVector(address: Node, value: Node, aligned: boolean): void {
    if (aligned) this.#requireAligned(address);
    value.uses += 2;
    this.#effect([address], (code) => {
      this.#translate(code, 16, 'writeTag');
      code.open('if');
      this.#hostAddress(code);
      this.#push(value);
      code.simdMemory('v128.store', 0);
      code.otherwise();
      code.get(this.#frame.cpu);
      this.#push(value);
      code.simdMemory('v128.store', SLOW_VALUE);
      this.#slow(code, ACCESS.store | 16);
      code.close();
    });
  }

  #requireAligned(address: Node): void {
    const misaligned = this.not(this.isZero(this.and(address, this.constant(15n))));
    this.when(misaligned, () => this.fault(13, 0));
  }

  getVector(field: Field): Node {
    return this.#node('v128', 'fixed', [], (code) => {
      const offset = this.#frame.fieldAddress(code, field);
      code.simdMemory('v128.load', offset);
    });
  }

  setVector(field: Field, value: Node): void {
    value.uses++;
    this.#effect([], (code) => {
      const offset = this.#frame.fieldAddress(code, field);
      this.#push(value);
      code.simdMemory('v128.store', offset);
    });
  }

  vector(low: Node, high: Node): Node {
    const splat = this.#node('v128', 'pure', [low], (code) => code.simd('i64x2.splat'));
    return this.#node('v128', 'pure', [splat, high], (code) => code.lane('i64x2.replace_lane', 1));
  }

  lane(x: Node, index: 0 | 1): Node {
    return this.#node('i64', 'pure', [x], (code) => code.lane('i64x2.extract_lane', index));
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
    return this.#node(type, 'pure', operands, (code) => code.simd(operation));
  }

  shuffle(x: Node, y: Node, indices: readonly number[]): Node {
    return this.#node('v128', 'pure', [x, y], (code) => {
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
    if (width === 'f64') return this.#pure('f64', 'f64.reinterpret_i64', x);
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
        return this.#node('i64', 'fixed', [this.#fromBits('f32', x)], (code) => code.op(operation));
      case 'i64.trunc_f64_s':
        return this.#node('i64', 'fixed', [this.#fromBits('f64', x)], (code) => code.op(operation));
    }
  }

  floatLess(width: 'f32' | 'f64', x: Node, y: Node): Node {
    return this.#pure('i32', `${width}.lt`, this.#fromBits(width, x), this.#fromBits(width, y));
  }

  // ---------------------------------------------------------------------------------------- control

  skipNext(): void {
    this.#effect([], (code) => this.#frame.skipNext(code));
  }

  fault(vector: number, errorCode?: number): void {
    this.#effect([], (code) => this.#frame.fault(code, vector, errorCode));
  }

  pc(offset: Node): Node {
    return this.add(this.state(BLOCK_PC, 8), offset);
  }

  branch(): void {
    this.branches = true;
    this.setState(BLOCK_PC, 8, this.pc(this.immediateLow()));
    this.#effect([], (code) => this.#frame.takeBranch(code, false));
  }

  branchIf(condition: Node): void {
    this.branches = true;
    this.when(condition, () => {
      this.setState(BLOCK_PC, 8, this.pc(this.immediateLow()));
      this.#effect([], (code) => this.#frame.takeBranch(code, true));
    });
  }

  branchTo(target: Node): void {
    this.setState(BLOCK_PC, 8, target);
    this.#effect([], (code) => this.#frame.takeIndirect(code));
  }
}
