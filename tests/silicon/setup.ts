import { CODE_ARENA, DATA_ARENA, PAGE } from './case.ts';
import { farAddress } from './encode.ts';
import type { Draft } from './generator.ts';
import type { Random } from './random.ts';

const RAX = 0;
const RCX = 1;
const RDX = 2;
const RBX = 3;
const RSP = 4;
const RBP = 5;
const RSI = 6;
const RDI = 7;
const OF = 0x800;
const AF = 0x10;
const CF = 0x1;

/** Puts registers, flags and memory into a state in which the form does something worth comparing. */
export function applySetup(draft: Draft): void {
  const { random, gpr, encoded } = draft;
  const target = encoded.target;
  switch (draft.form.setup) {
    case undefined:
      return;
    case 'string':
      string(draft);
      return;
    case 'count':
      if (random.chance(60)) gpr[RCX] = BigInt(random.below(3)) | (random.chance(20) ? 1n << 32n : 0n);
      return;
    case 'divide':
      divide(draft);
      return;
    case 'shift':
      if (random.chance(85)) gpr[RCX] = (gpr[RCX]! & ~0xffn) | BigInt(random.below(70));
      if (
        encoded.operandSize === 2 &&
        draft.form.mnemonic.startsWith('sh') &&
        draft.form.opcode.length === 2
      ) {
        // More than 16 bits shifted through 16: the result is undefined.
        gpr[RCX] = (gpr[RCX]! & ~0xffn) | BigInt(random.below(17));
        if (draft.form.immediates.length > 0) encoded.code[encoded.code.length - 1] = random.below(17);
      }
      return;
    case 'bit-offset':
      if (target === undefined) return;
      draft.regions.push([target, 140, 140]);
      gpr[encoded.reg] = encoded.reg === RSP ? gpr[RSP]! : keepAddress(draft, encoded.reg);
      return;
    case 'table':
      gpr[RBX] = BigInt(arena(random));
      draft.regions.push([Number(gpr[RBX]), 0, 256]);
      return;
    case 'compare-exchange':
      compareExchange(draft);
      return;
    case 'frame':
      gpr[RBP] = BigInt(DATA_ARENA.start + PAGE * 3 + random.below(PAGE / 16) * 8);
      if (random.chance(5)) gpr[RBP] = BigInt(DATA_ARENA.end - random.below(16));
      draft.regions.push([Number(gpr[RBP]), 260, 16], [Number(gpr[RSP]), 320, 16]);
      // Small nesting levels mostly: ENTER's last byte.
      if (draft.form.immediates.length === 2 && random.chance(60)) {
        encoded.code[encoded.code.length - 1] = random.below(4);
      }
      if (draft.form.immediates.length === 2 && random.chance(80)) encoded.code[encoded.code.length - 2] = 0;
      return;
    case 'branch': {
      const to = bytes8(branchTarget(random));
      if (target !== undefined) draft.contents.push([target, to]);
      else if (encoded.rm !== undefined && encoded.rm !== RSP) gpr[encoded.rm] = from(to);
      draft.contents.push([Number(gpr[RSP]), to]);
      return;
    }
    case 'push-flags':
      return;
    case 'pop-flags':
      // TF would trap behind the next instruction.
      draft.contents.push([Number(gpr[RSP]), Uint8Array.of(random.below(256), random.below(256) & ~1)]);
      draft.contents.push([Number(gpr[RSP]) + 2, Uint8Array.of(random.below(256), 0, 0, 0, 0, 0)]);
      return;
    case 'ldmxcsr':
      if (target === undefined) return;
      draft.contents.push([
        target,
        Uint8Array.of(random.below(256), random.below(256), 0, random.chance(4) ? 1 : 0),
      ]);
      return;
    case 'fxsave':
      if (target !== undefined) draft.regions.push([target, 0, 512]);
      return;
    case 'fxrstor':
      if (target === undefined) return;
      draft.regions.push([target, 0, 512]);
      draft.contents.push([target, random.bytes(24)]);
      // FCW's reserved bit, and a status word whose ES agrees, are left to the environment forms.
      draft.contents.push([target, Uint8Array.of(0x7f, 0x03, 0, random.below(8) * 8, random.below(256), 0)]);
      draft.contents.push([
        target + 24,
        Uint8Array.of(random.below(256), random.below(256), 0, random.chance(4) ? 1 : 0),
      ]);
      return;
    case 'environment': {
      if (target === undefined) return;
      draft.regions.push([target, 0, 108]);
      const control = 0x40 | random.below(64) | (random.pick([0, 2, 3]) << 8) | (random.below(4) << 10);
      draft.contents.push([target, Uint8Array.of(random.chance(80) ? 0x7f : control & 0xff, control >> 8)]);
      return;
    }
    case 'mask-store':
      gpr[RDI] = BigInt(arena(random));
      draft.regions.push([Number(gpr[RDI]), 16, 32]);
      return;
    case 'ascii':
      if (random.chance(50)) gpr[RAX] = (gpr[RAX]! & ~0xffffn) | BigInt(random.below(0x1000));
      return;
  }
}

/** Flags that a shift or rotation leaves undefined, which hangs on its count [SDM 2 SHL, RCL, SHLD]. */
export function shiftUndefined(draft: Draft): number {
  const { encoded, form, gpr } = draft;
  const opcode = form.opcode.at(-1)!;
  const double = form.opcode.length === 2;
  const byte = !double && (opcode & 1) === 0;
  const byImmediate = form.immediates.length > 0;
  const byOne = !double && (opcode === 0xd0 || opcode === 0xd1);
  const given = byImmediate ? Number(encoded.code.at(-1)) : byOne ? 1 : Number(gpr[RCX]! & 0xffn);
  const count = given & (encoded.operandSize === 8 && !byte ? 63 : 31);
  if (count === 0) return 0;
  const bits = byte ? 8 : encoded.operandSize * 8;
  let undefinedFlags = count === 1 ? 0 : OF;
  const rotates = !double && (form.digit ?? 0) < 4;
  if (!rotates) undefinedFlags |= AF;
  const arithmeticRight = form.digit === 7;
  if (!rotates && !arithmeticRight && count >= bits) undefinedFlags |= CF;
  return undefinedFlags;
}

function string(draft: Draft): void {
  const { random, gpr, encoded } = draft;
  const place = () => {
    if (random.chance(92)) return arena(random);
    return random.chance(90) ? DATA_ARENA.end - random.below(40) : farAddress(random, encoded.mode === 64);
  };
  const source = place();
  const near = random.chance(20) ? source + random.below(20) - 10 : place();
  const down = random.chance(25);
  draft.rflags = down ? draft.rflags | 0x400 : draft.rflags & ~0x400;
  const junk = encoded.mode === 64 && encoded.addressSize === 4 ? BigInt(random.below(4)) << 40n : 0n;
  gpr[RSI] = BigInt(source) | junk;
  gpr[RDI] = BigInt(near) | junk;
  gpr[RCX] = BigInt(random.chance(8) ? 0 : random.below(24)) | junk;
  draft.regions.push([source, 200, 200], [near, 200, 200]);
  const scan = draft.form.mnemonic === 'scas' || draft.form.mnemonic === 'cmps';
  if (!scan || random.chance(30)) return;
  // A run that is equal up to a point.
  const same = random.below(256);
  const run = new Uint8Array(400).fill(same);
  run[200 + random.below(40) * (down ? -1 : 1)] = same ^ 1;
  draft.contents.push([source - 200, new Uint8Array(400).fill(same)], [near - 200, run]);
  gpr[RAX] = BigInt(same) * 0x0101_0101_0101_0101n;
}

function divide(draft: Draft): void {
  const { random, gpr, form } = draft;
  const signed = form.mnemonic === 'idiv';
  if (form.opcode[0] === 0xf6) {
    if (random.chance(70)) {
      const small = BigInt(random.below(0x1000) - (signed ? 0x800 : 0));
      gpr[RAX] = BigInt.asUintN(64, (gpr[RAX]! & ~0xffffn) | BigInt.asUintN(16, small));
    }
    return;
  }
  const kind = random.below(10);
  if (kind < 4) gpr[RDX] = 0n;
  else if (kind < 7 && signed) {
    const bits = BigInt(draft.encoded.operandSize * 8);
    const negative = (gpr[RAX]! >> (bits - 1n)) & 1n;
    gpr[RDX] = negative ? 0xffff_ffff_ffff_ffffn : 0n;
  } else if (kind < 9) gpr[RDX] = BigInt.asUintN(64, BigInt(random.below(64) - (signed ? 32 : 0)));
}

function compareExchange(draft: Draft): void {
  const { random, gpr, encoded, form } = draft;
  if (random.chance(50)) return;
  if (encoded.target === undefined) {
    if (encoded.rm !== undefined && encoded.rm !== RSP) gpr[encoded.rm] = gpr[RAX]!;
    return;
  }
  const expected =
    form.mnemonic === 'cmpxchg8b'
      ? ((gpr[RDX]! & 0xffff_ffffn) << 32n) | (gpr[RAX]! & 0xffff_ffffn)
      : gpr[RAX]!;
  draft.contents.push([encoded.target, bytes8(expected)]);
}

/** A bit offset that stays near the operand, unless the register also takes part in the address. */
function keepAddress(draft: Draft, register: number): bigint {
  const { random, encoded, gpr } = draft;
  const modrmNamesIt = encoded.code.some((byte) => (byte & 7) === (register & 7));
  if (modrmNamesIt && random.chance(50)) return gpr[register]!;
  const bits = BigInt(random.below(2000) - 1000);
  return BigInt.asUintN(64, bits);
}

function branchTarget(random: Random): bigint {
  switch (random.below(8)) {
    case 0:
      return random.u64();
    case 1:
      return 1n << 47n;
    case 2:
      return (1n << 47n) - 1n;
    case 3:
    case 4:
      return random.u64() >> 18n;
    default:
      return BigInt(CODE_ARENA.start + random.below(PAGE));
  }
}

function arena(random: Random): number {
  return DATA_ARENA.start + 0x200 + random.below(0x3a00);
}

function bytes8(value: bigint): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt.asUintN(64, value), true);
  return bytes;
}

function from(bytes: Uint8Array): bigint {
  return new DataView(bytes.buffer).getBigUint64(0, true);
}
