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
import { IntegerExpressions } from './integer-expressions.ts';
import { Node } from './statement-writer.ts';

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

/**
 * Turns a meaning (x86/semantics.ts) into wasm: integers (integer-expressions.ts), vectors and floating point. Where
 * registers live and what a memory access or a jump is differs between the interpreter and compiled regions; this is what
 * they share.
 */
export abstract class WasmExpressions extends IntegerExpressions implements Semantics<Node, Node, Node> {
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
    const wrapped = this.pure('i32', 'i32.wrap_i64', count);
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
    return this.pure('i64', 'i64.extend_i32_u', mask);
  }

  // ---------------------------------------------------------------------------------------- floating point

  #fromBits(width: 'f32' | 'f64', x: Node): Node {
    if (width === 'f64') {
      const { lane } = x;
      if (lane === undefined) return this.pure('f64', 'f64.reinterpret_i64', x);
      return this.node('f64', 'pure', x.operands, (code) => code.lane('f64x2.extract_lane', lane));
    }
    return this.pure('f32', 'f32.reinterpret_i32', this.pure('i32', 'i32.wrap_i64', x));
  }

  #toBits(width: 'f32' | 'f64', x: Node): Node {
    if (width === 'f64') return this.pure('i64', 'i64.reinterpret_f64', x);
    return this.pure('i64', 'i64.extend_i32_u', this.pure('i32', 'i32.reinterpret_f32', x));
  }

  float(operation: FloatOperation, x: Node, y: Node): Node {
    const width = operation.startsWith('f32') ? 'f32' : 'f64';
    const result = this.pure(width, operation, this.#fromBits(width, x), this.#fromBits(width, y));
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
        return this.#toBits(width, this.pure(width, operation, this.#fromBits(width, x)));
      }
      case 'f64.promote_f32':
        return this.#toBits('f64', this.pure('f64', operation, this.#fromBits('f32', x)));
      case 'f32.demote_f64':
        return this.#toBits('f32', this.pure('f32', operation, this.#fromBits('f64', x)));
      case 'f32.convert_i64_s':
        return this.#toBits('f32', this.pure('f32', operation, x));
      case 'f64.convert_i64_s':
        return this.#toBits('f64', this.pure('f64', operation, x));
      // As with divisions: moved out of its guard it could trap.
      case 'i64.trunc_f32_s':
        return this.node('i64', 'fixed', [this.#fromBits('f32', x)], (code) => code.op(operation));
      case 'i64.trunc_f64_s':
        return this.node('i64', 'fixed', [this.#fromBits('f64', x)], (code) => code.op(operation));
    }
  }

  floatLess(width: 'f32' | 'f64', x: Node, y: Node): Node {
    return this.pure('i32', `${width}.lt`, this.#fromBits(width, x), this.#fromBits(width, y));
  }
}
