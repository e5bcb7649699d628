import type { ValueType } from '../../wasm/opcode.ts';
import type { FlagsOrigin } from '../../x86/semantics.ts';
import type { Size } from '../../x86/state.ts';
import { WasmExpressions } from '../expression.ts';
import type { Node } from '../statement-writer.ts';
import {
  changed,
  type FlagsKind,
  flagsKind,
  KIND_DIRECT,
  priorKind,
  writeChanged,
  writePriorKind,
} from './flags-kind.ts';
import type { RegionFrame } from './region-frame.ts';

/**
 * Flags in a region: the operands they come from stand in locals (flags-kind.ts), and what is known of their kind while
 * the region is written decides how a condition is computed.
 */
export abstract class RegionFlags extends WasmExpressions {
  protected readonly frame: RegionFrame;
  /** How aux follows from the locals; undefined: only the local `kind` knows. */
  protected kind: FlagsKind | undefined;
  /** Whether the local `kind` says so too. */
  protected kindStored = true;
  /** While the kind is an increment's: the kind that its carry comes from, when that is known. */
  #prior: FlagsKind | undefined;
  /** How many choices the recording is inside of. */
  protected choiceDepth = 0;

  constructor(frame: RegionFrame) {
    super(frame.code);
    this.frame = frame;
  }

  protected override newLocal(type: ValueType): number {
    return this.frame.scratch(type);
  }

  /** Control comes from anywhere. */
  protected forgetKind(): void {
    this.kind = undefined;
    this.kindStored = true;
  }

  /** What the local `kind` has to be set to on a way that leaves from here. */
  protected kindToStore(): FlagsKind | undefined {
    return this.kindStored ? undefined : this.kind;
  }

  /** A local of the flags, as it is now. */
  protected flagLocal(local: number): Node {
    this.frame.usesFlags = true;
    return this.node('i64', 'fixed', [], (code) => code.get(local));
  }

  protected flagsAux(): Node {
    this.frame.usesFlags = true;
    const kind = this.kind;
    return this.node('i64', 'fixed', [], (code) => this.frame.pushAux(code, kind));
  }

  protected replaceAux(value: Node): void {
    this.frame.usesFlags = true;
    this.effect([value], (code) => code.set(this.frame.x));
    this.#setKind(KIND_DIRECT);
  }

  setFlags(result: Node, aux: Node, origin?: FlagsOrigin<Node>): void {
    const frame = this.frame;
    frame.usesFlags = true;
    switch (origin?.kind) {
      case undefined:
        // Both are computed before either is written: they may be made of the old ones.
        this.effect([aux, result], (code) => code.set(frame.result).set(frame.x));
        this.#setKind(KIND_DIRECT);
        return;
      case 'add':
      case 'subtract':
        this.effect([origin.x, origin.y, result], (code) => code.set(frame.result).set(frame.y).set(frame.x));
        break;
      case 'shl':
      case 'shr':
      case 'sar':
        this.effect([origin.x, origin.count, result], (code) =>
          code.set(frame.result).set(frame.y).set(frame.x),
        );
        break;
      case 'logic':
        this.effect([result], (code) => code.set(frame.result).i64(0n).set(frame.x));
        break;
      case 'increment':
      case 'decrement':
        this.#keepPrior();
        this.effect([result], (code) => code.set(frame.result));
        break;
    }
    this.#setKind(flagsKind(origin));
  }

  /** An increment changes all flags but CF, so what CF comes from is kept. */
  #keepPrior(): void {
    const frame = this.frame;
    const kind = this.kind;
    if (kind === undefined) {
      this.effect([], (code) => writePriorKind(code, frame));
      this.#prior = undefined;
      return;
    }
    const prior = priorKind(kind);
    if (prior === undefined) return;
    this.effect([], (code) =>
      code.get(frame.result).set(frame.priorResult).i32(prior.number).set(frame.prior),
    );
    this.#prior = prior;
  }

  putOff(change: 'carry-and-overflow' | 'carry', value: Node): boolean {
    const frame = this.frame;
    frame.usesFlags = true;
    this.effect([value], (code) => code.set(change === 'carry' ? frame.bit : frame.pair));
    if (this.kind !== undefined) {
      this.#setKind(changed(this.kind, change));
    } else {
      this.effect([], (code) => {
        code.get(frame.kind);
        writeChanged(code, change);
        code.set(frame.kind);
      });
    }
    return true;
  }

  #setKind(kind: FlagsKind): void {
    this.kind = kind;
    this.kindStored = false;
    if (this.choiceDepth > 0) {
      // The other way through the choice has another kind: the local tells them apart.
      this.effect([], (code) => this.frame.setKind(code, kind));
      this.kindStored = true;
    }
  }

  override when(condition: Node, then: () => void, otherwise?: () => void): void {
    const before = this.kind;
    if (!this.kindStored && before !== undefined) {
      this.effect([], (code) => this.frame.setKind(code, before));
      this.kindStored = true;
    }
    let differs = false;
    const branch = (body: () => void) => () => {
      this.kind = before;
      body();
      if (this.kind !== before) differs = true;
    };
    this.choiceDepth++;
    super.when(condition, branch(then), otherwise && branch(otherwise));
    this.choiceDepth--;
    this.kind = differs ? undefined : before;
    this.kindStored = true;
  }

  knownCondition(code: number): Node | undefined {
    const { result, x, y } = this.frame;
    const kind = this.kind;
    // ZF always is that.
    if (code === 4) return this.isZero(this.flagLocal(result));
    if (kind === undefined) return undefined;
    if (code === 2) return this.#knownCarry(kind, result);
    const zero = this.constant(0);
    const compared = kind.origin === 'subtract' && !kind.carried && kind.change === 'none';
    const plain = kind.origin === 'logic' && kind.change === 'none';
    switch (code) {
      case 0:
        return plain ? this.#never() : undefined;
      case 6:
        if (plain) return this.isZero(this.flagLocal(result));
        return compared ? this.not(this.#less('unsigned', y, x, kind.size)) : undefined;
      case 8:
        return kind.origin === 'direct' ? undefined : this.ltS(this.flagLocal(result), zero);
      case 10: {
        if (kind.origin === 'direct') return undefined;
        const low = this.and(this.flagLocal(result), this.constant(0xff));
        return this.isZero(this.and(this.popcnt(low), this.constant(1)));
      }
      case 12:
        if (plain) return this.ltS(this.flagLocal(result), zero);
        return compared ? this.#less('signed', x, y, kind.size) : undefined;
      case 14:
        if (plain) return this.not(this.ltS(zero, this.flagLocal(result)));
        return compared ? this.not(this.#less('signed', y, x, kind.size)) : undefined;
      default:
        return undefined;
    }
  }

  #knownCarry(kind: FlagsKind, result: number): Node | undefined {
    const { x, y, pair, bit, priorResult } = this.frame;
    const isSet = (value: Node) => this.not(this.isZero(value));
    if (kind.change === 'carry') return isSet(this.flagLocal(bit));
    if (kind.change === 'carry-and-overflow') return isSet(this.and(this.flagLocal(pair), this.constant(2)));
    switch (kind.origin) {
      case 'logic':
        return this.#never();
      case 'direct':
        return this.ltS(this.flagLocal(x), this.constant(0));
      case 'increment':
      case 'decrement':
        return this.#prior === undefined ? undefined : this.#knownCarry(this.#prior, priorResult);
      case 'add':
        return kind.carried ? undefined : this.#less('unsigned', result, x, kind.size);
      case 'subtract':
        return kind.carried ? undefined : this.#less('unsigned', x, y, kind.size);
      case 'shl':
        return undefined;
      case 'shr':
      case 'sar': {
        const before = this.sub(this.flagLocal(y), this.constant(1));
        const shift = kind.origin === 'shr' ? this.shrU : this.shrS;
        return isSet(this.and(shift.call(this, this.flagLocal(x), before), this.constant(1)));
      }
    }
  }

  #never(): Node {
    return this.node('i32', 'pure', [], (code) => code.i32(0));
  }

  /** x < y in their low `size` bytes. */
  #less(order: 'signed' | 'unsigned', x: number, y: number, size: Size): Node {
    this.frame.usesFlags = true;
    return this.node('i32', 'fixed', [], (code) => {
      for (const local of [x, y]) {
        code.get(local);
        if (size === 4) code.op('i32.wrap_i64');
        else if (size !== 8) code.i64(BigInt(64 - size * 8)).op('i64.shl');
      }
      const width = size === 4 ? 'i32' : 'i64';
      code.op(order === 'signed' ? `${width}.lt_s` : `${width}.lt_u`);
    });
  }
}
