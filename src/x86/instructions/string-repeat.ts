import {
  ABORTED,
  AGAIN,
  type Cpu,
  DONE,
  type Outcome,
  type SystemOperation,
  systemOperation,
} from '../cpu.ts';
import {
  ACCESS_SEGMENT,
  type CpuState,
  FLAG,
  FLAGS_AUX,
  FLAGS_REST,
  FLAGS_RESULT,
  RAX,
  RCX,
  RDI,
  RSI,
  SEGMENT_ACCESS,
  SEGMENT_BASE,
  SEGMENT_UNNAMED,
  type Size,
  ZERO,
} from '../state.ts';
import { ACCESS, protectedMode } from '../system/mode.ts';

/**
 * Repeated string instructions [SDM 1 7.3.9.2]. One call makes as many iterations as the budget allows and plain
 * RAM lets go on: in bulk inside a page, one by one elsewhere. An access that may fault is always the first of its
 * call, so a fault finds the registers as the finished iterations left them, and each iteration is counted once.
 */

const PAGE = 4096;
const GP = 13;

/** What the immediate holds. */
export interface RepeatForm {
  readonly size: Size;
  readonly addressSize: 2 | 4 | 8;
  /** REPNE: SCAS and CMPS go on while elements differ. */
  readonly whileDifferent: boolean;
  readonly long: boolean;
}

export function packRepeatForm(form: RepeatForm): bigint {
  return BigInt(
    form.size | (form.addressSize << 4) | (form.whileDifferent ? 0x100 : 0) | (form.long ? 0x200 : 0),
  );
}

function unpackRepeatForm(imm: bigint): RepeatForm {
  const word = Number(imm);
  return {
    size: (word & 15) as Size,
    addressSize: ((word >> 4) & 15) as 2 | 4 | 8,
    whileDifferent: (word & 0x100) !== 0,
    long: (word & 0x200) !== 0,
  };
}

/** rSI or rDI with its segment: where the next elements are. */
class Cursor {
  readonly #state: CpuState;
  readonly #register: number;
  readonly #base: bigint;
  readonly #segment: number;
  readonly #form: RepeatForm;
  readonly #down: boolean;

  constructor(state: CpuState, register: number, baseOffset: number, form: RepeatForm) {
    this.#state = state;
    this.#register = register;
    this.#base = state.get64(baseOffset);
    this.#segment = baseOffset === ZERO ? SEGMENT_UNNAMED : (baseOffset - SEGMENT_BASE) / 8;
    this.#form = form;
    this.#down = (state.get64(FLAGS_REST) & BigInt(FLAG.df)) !== 0n;
  }

  /** Nothing is reached through a null segment; segments that are checked take care of that themselves. */
  get isNull(): boolean {
    if (this.#form.long || this.#segment === SEGMENT_UNNAMED || !protectedMode(this.#state)) return false;
    return (this.#state.get32(SEGMENT_ACCESS + this.#segment * 4) & ACCESS.present) === 0;
  }

  get down(): boolean {
    return this.#down;
  }

  /** The next access goes there. */
  get linear(): bigint {
    const index = this.#state.get(this.#register, this.#form.addressSize);
    if (!this.#form.long) this.#state.set32(ACCESS_SEGMENT, this.#segment);
    return BigInt.asUintN(this.#form.long ? 64 : 32, this.#base + index);
  }

  /** Elements that lie in the current page before the address wraps. */
  get room(): number {
    const { size, addressSize } = this.#form;
    const inPage = Number(this.linear & BigInt(PAGE - 1));
    const index = this.#state.get(this.#register, addressSize);
    if (this.#down) {
      if (inPage + size > PAGE) return 0;
      const beforeWrap = index >= BigInt(PAGE) ? PAGE : Math.floor(Number(index) / size) + 1;
      return Math.min(Math.floor(inPage / size) + 1, beforeWrap);
    }
    const toWrap = (1n << BigInt(addressSize * 8)) - index;
    return Math.floor(Math.min(PAGE - inPage, toWrap >= BigInt(PAGE) ? PAGE : Number(toWrap)) / size);
  }

  /** Host bytes of the next `count` elements, in address order. */
  span(cpu: Cpu, count: number, access: 'read' | 'write'): Uint8Array | undefined {
    const { size } = this.#form;
    const start = this.#down ? this.linear - BigInt((count - 1) * size) : this.linear;
    return cpu.span(start, count * size, access);
  }

  /** Byte offset in a span of `count` elements of the one that is number `index` in order of execution. */
  at(index: number, count: number): number {
    return (this.#down ? count - 1 - index : index) * this.#form.size;
  }

  advance(count: number): void {
    const { size, addressSize } = this.#form;
    const step = BigInt(this.#down ? -size : size) * BigInt(count);
    const index = this.#state.get(this.#register, addressSize) + step;
    this.#state.set(this.#register, addressSize, BigInt.asUintN(addressSize * 8, index));
  }
}

interface Progress {
  /** Iterations made. */
  readonly done: number;
  /** SCAS and CMPS: the last comparison ends the repetition. */
  readonly stopped: boolean;
}

interface Repetition {
  readonly cursors: readonly Cursor[];
  /** One iteration, anywhere; undefined when a fault is pending. */
  one(): Progress | undefined;
  /** Up to `count` iterations, all within the cursors' pages; undefined when the pages are not plain RAM. */
  bulk(count: number): Progress | undefined;
}

type Prepare = (cpu: Cpu, form: RepeatForm, source: Cursor, destination: Cursor) => Repetition;

function repeated(name: string, prepare: Prepare): SystemOperation {
  return systemOperation(name, (cpu, b, c, imm): Outcome => {
    const { state } = cpu;
    const form = unpackRepeatForm(imm);
    let remaining = state.get(RCX, form.addressSize);
    if (remaining === 0n) return DONE;
    const budget = BigInt(Math.max(cpu.budget, 1));
    const limit = Number(remaining < budget ? remaining : budget);
    const source = new Cursor(state, RSI, b, form);
    const destination = new Cursor(state, RDI, c, form);
    const repetition = prepare(cpu, form, source, destination);
    if (repetition.cursors.some((cursor) => cursor.isNull)) return cpu.fault(GP, 0);
    let total = 0;
    let stopped = false;
    let alone = false;
    while (total < limit && !stopped && !alone) {
      const count = Math.min(limit - total, ...repetition.cursors.map((cursor) => cursor.room));
      let progress = count > 0 ? repetition.bulk(count) : undefined;
      if (progress === undefined) {
        // Only the first access of a call may fault.
        if (total > 0) break;
        progress = repetition.one();
        if (progress === undefined) return ABORTED;
        // It may have overwritten this very instruction, or brought an interrupt: look before the next one.
        alone = true;
      }
      for (const cursor of repetition.cursors) cursor.advance(progress.done);
      remaining -= BigInt(progress.done);
      state.set(RCX, form.addressSize, remaining);
      total += progress.done;
      stopped = progress.stopped;
    }
    cpu.charge(total - 1);
    return remaining === 0n || stopped ? DONE : AGAIN;
  });
}

function ran(done: number): Progress {
  return { done, stopped: false };
}

/**
 * Copies element by element as far as the result shows it: where the destination overlaps what is still to be
 * read, pieces no longer than the distance are copied in the order of execution.
 */
function copy(from: Uint8Array, to: Uint8Array, size: number, down: boolean): void {
  const { length } = from;
  const distance = down ? from.byteOffset - to.byteOffset : to.byteOffset - from.byteOffset;
  if (from.buffer !== to.buffer || distance <= 0 || distance >= length) {
    to.set(from);
    return;
  }
  const piece = Math.max(size, distance - (distance % size));
  for (let done = 0; done < length; done += piece) {
    const take = Math.min(piece, length - done);
    const at = down ? length - done - take : done;
    to.set(from.subarray(at, at + take), at);
  }
}

export const REPEAT_MOVS = repeated('rep-movs', (cpu, form, source, destination) => ({
  cursors: [source, destination],
  one() {
    const value = cpu.load(form.size, source.linear);
    if (value === undefined || !cpu.store(form.size, destination.linear, value)) return undefined;
    return ran(1);
  },
  bulk(count) {
    const from = source.span(cpu, count, 'read');
    if (from === undefined) return undefined;
    const to = destination.span(cpu, count, 'write');
    if (to === undefined) return undefined;
    copy(from, to, form.size, source.down);
    return ran(count);
  },
}));

export const REPEAT_STOS = repeated('rep-stos', (cpu, form, _source, destination) => {
  const { size } = form;
  const element = cpu.state.bytes.slice(RAX, RAX + size);
  return {
    cursors: [destination],
    one: () => (cpu.store(size, destination.linear, cpu.state.get(RAX, size)) ? ran(1) : undefined),
    bulk(count) {
      const to = destination.span(cpu, count, 'write');
      if (to === undefined) return undefined;
      if (element.every((byte) => byte === element[0])) {
        to.fill(element[0]!);
      } else {
        to.set(element);
        for (let filled = size; filled < to.length; filled *= 2) to.copyWithin(filled, 0, filled);
      }
      return ran(count);
    },
  };
});

export const REPEAT_LODS = repeated('rep-lods', (cpu, form, source) => ({
  cursors: [source],
  one() {
    const value = cpu.load(form.size, source.linear);
    if (value === undefined) return undefined;
    cpu.state.set(RAX, form.size, value);
    return ran(1);
  },
  bulk(count) {
    const from = source.span(cpu, count, 'read');
    if (from === undefined) return undefined;
    cpu.state.set(RAX, form.size, element(from, source.at(count - 1, count), form.size));
    return ran(count);
  },
}));

/** Zero-extended little-endian value. */
function element(bytes: Uint8Array, at: number, size: Size): bigint {
  let value = 0n;
  for (let index = size - 1; index >= 0; index--) value = (value << 8n) | BigInt(bytes[at + index]!);
  return value;
}

/** The flags of x - y: what micro-operations/flags.ts says, for the slow path. */
function setCompareFlags(state: CpuState, x: bigint, y: bigint, size: Size): void {
  const r = BigInt.asUintN(64, x - y);
  const borrows = x ^ ((x ^ y) | (x ^ r));
  const top = BigInt.asUintN(64, borrows << BigInt(64 - 8 * size)) & 0xc000_0000_0000_0000n;
  state.set64(FLAGS_RESULT, BigInt.asUintN(64, BigInt.asIntN(8 * size, r)));
  state.set64(FLAGS_AUX, top | (borrows & 8n));
}

/** Index of the first element whose equality ends the repetition, or -1. */
function findEnd(
  x: Uint8Array,
  xAt: (index: number) => number,
  y: Uint8Array,
  yAt: (index: number) => number,
  count: number,
  form: RepeatForm,
): number {
  for (let index = 0; index < count; index++) {
    const a = xAt(index);
    const b = yAt(index);
    let equal = true;
    for (let byte = 0; byte < form.size && equal; byte++) equal = x[a + byte] === y[b + byte];
    if (equal === form.whileDifferent) return index;
  }
  return -1;
}

export const REPEAT_CMPS = repeated('rep-cmps', (cpu, form, source, destination) => ({
  cursors: [source, destination],
  one() {
    // Which of two faults comes first is as on AMD Zen processors (measured): only their fast path, REPE CMPSB, reads
    // the source first.
    const fast = form.size === 1 && !form.whileDifferent;
    const first = cpu.load(form.size, fast ? source.linear : destination.linear);
    if (first === undefined) return undefined;
    const second = cpu.load(form.size, fast ? destination.linear : source.linear);
    if (second === undefined) return undefined;
    const [x, y] = fast ? [first, second] : [second, first];
    setCompareFlags(cpu.state, x, y, form.size);
    return { done: 1, stopped: (x === y) === form.whileDifferent };
  },
  bulk(count) {
    const from = source.span(cpu, count, 'read');
    if (from === undefined) return undefined;
    const to = destination.span(cpu, count, 'read');
    if (to === undefined) return undefined;
    const at = (index: number) => source.at(index, count);
    const end = findEnd(from, at, to, at, count, form);
    const last = end < 0 ? count - 1 : end;
    setCompareFlags(
      cpu.state,
      element(from, at(last), form.size),
      element(to, at(last), form.size),
      form.size,
    );
    return { done: last + 1, stopped: end >= 0 };
  },
}));

export const REPEAT_SCAS = repeated('rep-scas', (cpu, form, _source, destination) => {
  const sought = cpu.state.bytes.slice(RAX, RAX + form.size);
  const x = cpu.state.get(RAX, form.size);
  return {
    cursors: [destination],
    one() {
      const y = cpu.load(form.size, destination.linear);
      if (y === undefined) return undefined;
      setCompareFlags(cpu.state, x, y, form.size);
      return { done: 1, stopped: (x === y) === form.whileDifferent };
    },
    bulk(count) {
      const to = destination.span(cpu, count, 'read');
      if (to === undefined) return undefined;
      const at = (index: number) => destination.at(index, count);
      const end = findEnd(sought, () => 0, to, at, count, form);
      const last = end < 0 ? count - 1 : end;
      setCompareFlags(cpu.state, x, element(to, at(last), form.size), form.size);
      return { done: last + 1, stopped: end >= 0 };
    },
  };
});
