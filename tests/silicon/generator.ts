import { DATA_ARENA, PAGE, type SiliconCase } from './case.ts';
import { type Encoded, encode, farAddress } from './encode.ts';
import type { Form } from './form.ts';
import { INTEGER_FORMS } from './forms-integer.ts';
import { MMX_FORMS } from './forms-mmx.ts';
import { SSE_FORMS } from './forms-sse.ts';
import { X87_FORMS } from './forms-x87.ts';
import { Random } from './random.ts';
import { applySetup, shiftUndefined } from './setup.ts';
import { fill, float80, integer } from './values.ts';

export const FORMS: readonly Form[] = [...INTEGER_FORMS, ...SSE_FORMS, ...X87_FORMS, ...MMX_FORMS];
/** Their x87 registers hold integers mostly. */
const MMX = new Set(MMX_FORMS);

const RSP = 4;
const ARITHMETIC = 0x8d5;
const DIRECTION = 0x400;
const ALIGNMENT_CHECK = 0x40000;

/** A mutable case under construction; setups change it before the memory is filled. */
export interface Draft {
  readonly random: Random;
  readonly form: Form;
  readonly encoded: Encoded;
  readonly gpr: bigint[];
  rflags: number;
  /** Where memory is of interest: [address, before, after]. */
  readonly regions: [number, number, number][];
  /** Bytes that must stand at an address, applied in order. */
  readonly contents: [number, Uint8Array][];
}

/** The same form and seed always give the same case. */
export function generateCase(form: Form, seed: number): SiliconCase {
  const random = new Random(seed, hash(`${form.mnemonic} ${form.encoding}`));
  const mode = form.modes === 'legacy' || (form.modes === 'both' && random.chance(12)) ? 32 : 64;
  const gpr = Array.from({ length: 16 }, () => register(random));
  gpr[RSP] = BigInt(random.chance(1) ? farAddress(random, mode === 64) : stackPointer(random));
  const encoded = encode(random, form, mode, gpr);
  const draft: Draft = {
    random,
    form,
    encoded,
    gpr,
    rflags:
      0x202 |
      (random.u32() & ARITHMETIC) |
      (random.chance(8) ? DIRECTION : 0) |
      (random.chance(3) ? ALIGNMENT_CHECK : 0),
    regions: [],
    contents: [],
  };
  if (encoded.target !== undefined) {
    draft.regions.push([encoded.target, 64, 64]);
    draft.contents.push([encoded.target, fill(random, 40, form.data)]);
  }
  applySetup(draft);
  if (mode === 32) for (let index = 0; index < 16; index += 1) gpr[index] = BigInt.asUintN(32, gpr[index]!);
  draft.regions.push([Number(BigInt.asUintN(48, gpr[RSP]!)), 80, 80]);

  const noTrapFlag = form.setup === 'push-flags' || form.setup === 'pop-flags';
  return {
    form,
    seed,
    mode,
    code: encoded.code,
    at: BigInt(encoded.at),
    gpr,
    rflags: BigInt(draft.rflags),
    xmm: vectors(random, form),
    mxcsr: mxcsr(random),
    x87: x87(random, form),
    memory: memory(draft),
    repeated: form.setup === 'string' && encoded.repeat,
    noTrapFlag,
    undefinedFlags: form.setup === 'shift' ? shiftUndefined(draft) : form.undefinedFlags,
    operandKind: operandKind(form, encoded),
    reg: encoded.reg,
    rm: encoded.rm,
    operand: encoded.target,
    operandSize: encoded.operandSize,
  };
}

function operandKind(form: Form, encoded: Encoded): SiliconCase['operandKind'] {
  if (encoded.memory || form.setup === 'string') return 'memory';
  return form.modrm || form.plusRegister ? 'register' : 'none';
}

export function register(random: Random): bigint {
  return random.chance(20) ? BigInt(DATA_ARENA.start + random.below(PAGE * 4)) : integer(random);
}

export function stackPointer(random: Random): number {
  const kind = random.below(100);
  if (kind < 3) return DATA_ARENA.start + random.below(24);
  if (kind < 6) return DATA_ARENA.end - random.below(24);
  if (kind < 16) return DATA_ARENA.start + PAGE + random.below(PAGE);
  return DATA_ARENA.start + PAGE + random.below(PAGE / 8) * 8;
}

export function vectors(random: Random, form: Form): bigint[] {
  return Array.from({ length: 16 }, () => {
    // Equal kinds meet equal kinds mostly; integer patterns elsewhere.
    const bytes = fill(random, 16, random.chance(90) ? form.data : undefined);
    const view = new DataView(bytes.buffer);
    return (view.getBigUint64(8, true) << 64n) | view.getBigUint64(0, true);
  });
}

const MASKS = 0x1f80;
export function mxcsr(random: Random): number {
  let value = MASKS;
  if (random.chance(40)) value |= random.below(4) << 13;
  if (random.chance(6)) value |= 0x8000;
  if (random.chance(6)) value |= 0x0040;
  if (random.chance(20)) value |= random.below(64);
  // Inexact results were seen before: the usual state, and the one with a quick way.
  if (random.chance(45)) value |= 0x0020;
  if (random.chance(6)) value &= ~(random.below(64) << 7);
  return value;
}

export function x87(random: Random, form: Form): SiliconCase['x87'] {
  let fcw = 0x37f;
  if (random.chance(40)) fcw = (fcw & ~0xf00) | (random.pick([0, 2, 3]) << 8) | (random.below(4) << 10);
  if (random.chance(10)) fcw &= ~random.below(64);
  const top = random.chance(40) ? 0 : random.below(8);
  let fsw = (top << 11) | (random.u32() & 0x4700);
  if (random.chance(30)) fsw |= random.below(64) & (random.chance(95) ? fcw : 0x3f);
  // A pending exception that is not masked shows in ES and B [SDM 1 8.1.3.3].
  if (fsw & ~fcw & 0x3f) fsw |= 0x8080;
  let ftw = random.chance(70) ? 0xff : random.below(256);
  // Mostly room for a push and two operands.
  if (random.chance(80)) ftw &= ~(1 << ((top + 7) & 7));
  if (random.chance(90)) ftw |= (1 << top) | (1 << ((top + 1) & 7));
  const next = () => {
    if (!MMX.has(form) || random.chance(10)) return float80(random);
    const low = new DataView(fill(random, 8, form.data).buffer).getBigUint64(0, true);
    return (BigInt(random.pick([0xffff, random.below(0x10000)])) << 64n) | low;
  };
  return { fcw, fsw, ftw, st: Array.from({ length: 8 }, next) };
}

/** Joins the regions into chunks that do not overlap, and fills them. */
export function memory(draft: Pick<Draft, 'random' | 'regions' | 'contents'>): SiliconCase['memory'] {
  const ranges = draft.regions
    .map(([address, before, after]) => ({
      start: Math.max(DATA_ARENA.start, address - before),
      end: Math.min(DATA_ARENA.end, address + after),
    }))
    .filter((range) => range.start < range.end)
    .sort((one, other) => one.start - other.start);
  const joined: { start: number; end: number }[] = [];
  for (const range of ranges) {
    const last = joined.at(-1);
    if (last && range.start <= last.end) last.end = Math.max(last.end, range.end);
    else joined.push(range);
  }
  // Every page of the arena is named, if only by no bytes at all: it is mapped then.
  const pages: SiliconCase['memory'] = [];
  for (let page = DATA_ARENA.start; page < DATA_ARENA.end; page += PAGE) {
    pages.push({ address: BigInt(page), bytes: new Uint8Array() });
  }
  const chunks = joined.map(({ start, end }) => {
    const bytes = fill(draft.random, end - start, undefined);
    for (const [address, content] of draft.contents) {
      for (const [index, byte] of content.entries()) {
        const at = address + index - start;
        if (at >= 0 && at < bytes.length) bytes[at] = byte;
      }
    }
    return { address: BigInt(start), bytes };
  });
  return [...chunks, ...pages];
}

/** FNV-1a. */
export function hash(text: string): number {
  let value = 0x811c9dc5;
  for (let index = 0; index < text.length; index += 1) {
    value = Math.imul(value ^ text.charCodeAt(index), 0x01000193) >>> 0;
  }
  return value;
}
