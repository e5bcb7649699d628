import { CODE_ARENA, DATA_ARENA, PAGE } from './case.ts';
import type { Form, ImmediateKind } from './form.ts';
import type { Random } from './random.ts';
import { integer } from './values.ts';

/** Instruction bytes for a form, with random operands, prefixes and immediates. */
export interface Encoded {
  readonly code: Uint8Array;
  readonly at: number;
  readonly mode: 32 | 64;
  readonly operandSize: 2 | 4 | 8;
  readonly addressSize: 2 | 4 | 8;
  /** A repeat prefix is there. */
  readonly repeat: boolean;
  /** Linear address of the memory operand when it is one that we chose. */
  readonly target: number | undefined;
  /** There is a memory operand, by ModRM or by an offset. */
  readonly memory: boolean;
  /** Register numbers of ModRM. */
  readonly reg: number;
  readonly rm: number | undefined;
  /** The last immediate, as encoded. */
  readonly immediate: bigint;
}

const BRANCH = /^(jcc|jmp|call|ret|loop)$/;
/** Undefined opcodes: how far they are fetched before they are refused is not defined. */
const UNDEFINED = /^(sweep|ud|invalid-in-64)$/;
const CODE_AT = CODE_ARENA.start + 0x800;

/** Sets registers in `gpr` so that the memory operand lies where it should. */
export function encode(random: Random, form: Form, mode: 32 | 64, gpr: bigint[]): Encoded {
  const long = mode === 64;
  const branch = BRANCH.test(form.mnemonic);
  const prefixes: number[] = [];

  const small = form.prefix === 'any' && random.chance(20);
  if (form.prefix === '66' || small) prefixes.push(0x66);
  let repeat = 0;
  if (form.prefix === 'f2') repeat = 0xf2;
  else if (form.prefix === 'f3') repeat = 0xf3;
  else if (form.setup === 'string') repeat = random.pick([0, 0, 0xf2, 0xf3, 0xf3]);
  else if (form.prefix === 'any' && form.opcode.length === 1 && form.opcode[0] !== 0x90 && !branch) {
    if (random.chance(1)) repeat = random.pick([0xf2, 0xf3]);
  }
  if (repeat) prefixes.push(repeat);
  const addressPrefix = random.chance(form.opcode[0] === 0x8d ? 20 : 4);
  if (addressPrefix) prefixes.push(0x67);
  const addressSize = long ? (addressPrefix ? 4 : 8) : addressPrefix ? 2 : 4;
  if (random.chance(4))
    prefixes.push(random.pick(long ? [0x2e, 0x36, 0x3e, 0x26, 0x64, 0x65] : [0x3e, 0x36]));

  const wantsMemory = form.operand ? form.operand === 'memory' : random.chance(55);
  const memory = form.modrm && wantsMemory;
  // LOCK MOV CR0 is AMD's second name of CR8.
  const mayLock = form.mnemonic !== 'privileged' && random.chance(0.4);
  if (form.lock && memory ? random.chance(12) : mayLock) prefixes.push(0xf0);
  shuffle(random, prefixes);

  const rex = long && random.chance(60) ? 0x40 | random.below(16) : 0;
  const wide = (rex & 8) !== 0 && !(form.mnemonic === 'cmpxchg8b');
  const rexByte = wide ? rex : rex & ~8;
  const operandSize = wide ? 8 : small || form.prefix === '66' ? 2 : 4;
  const extend = (bit: number) => (rexByte & bit ? 8 : 0);

  const opcode = [...form.opcode];
  let rm: number | undefined;
  if (form.plusRegister) {
    const low = random.below(8);
    opcode[opcode.length - 1]! |= low;
    rm = low + extend(1);
  }
  const bytes = [...prefixes, ...(rexByte ? [rexByte] : []), ...opcode];
  const immediates = form.immediates.map((kind) => immediate(random, kind, operandSize, addressSize, mode));
  // INT 80h would be a system call of the harness.
  if (form.mnemonic === 'int' && immediates[0]?.[0] === 0x80) immediates[0] = [random.below(8)];
  const immediateLength = immediates.reduce((sum, value) => sum + value.length, 0);

  const digit = form.digit ?? random.below(8);
  const reg = digit + extend(4);
  let target: number | undefined;
  let at = CODE_AT;
  if (memory) {
    const far = random.chance(1) ? farAddress(random, long) : undefined;
    target = far ?? chooseTarget(random, form);
    const operand =
      addressSize === 2
        ? operand16(random, digit)
        : operand32(random, {
            digit,
            rex: rexByte,
            long,
            addressSize,
            target,
            gpr,
            codeBytes: bytes.length,
            immediateLength,
          });
    bytes.push(...operand.bytes);
    if (!operand.reached || far !== undefined) target = undefined;
  } else if (form.modrm) {
    const low = random.below(8);
    bytes.push(0xc0 | (digit << 3) | low);
    rm = low + extend(1);
  }
  for (const value of immediates) bytes.push(...value);
  if (form.immediates.includes('mo') && (mode === 32 || random.chance(90))) {
    target = chooseTarget(random, form);
    const view = new DataView(new ArrayBuffer(8));
    view.setBigUint64(0, BigInt(target), true);
    for (let index = 0; index < addressSize; index += 1) {
      bytes[bytes.length - addressSize + index] = view.getUint8(index);
    }
    if (addressSize === 2) target = undefined;
  }
  // Now and then the instruction reaches into the unmapped page behind its own.
  const nearEnd =
    random.chance(1.5) &&
    !form.setup &&
    !UNDEFINED.test(form.mnemonic) &&
    !(form.modrm && (bytes[bytes.length - 5]! & 0xc7) === 5);
  if (nearEnd) at = CODE_ARENA.end - 1 - random.below(Math.min(bytes.length, 15));
  const last = immediates.at(-1) ?? [];
  return {
    code: Uint8Array.from(bytes.slice(0, 15)),
    at: at === CODE_AT || !usesRip(bytes) ? at : CODE_AT,
    mode,
    operandSize,
    addressSize,
    repeat: repeat !== 0,
    target,
    memory: memory || form.immediates.includes('mo'),
    reg,
    rm,
    immediate: last.reduceRight((sum, byte) => (sum << 8n) | BigInt(byte), 0n),
  };
}

/** Whether any byte could be a RIP-relative ModRM: such code must stay where its distance was worked out. */
function usesRip(bytes: readonly number[]): boolean {
  return bytes.some((byte) => (byte & 0xc7) === 5);
}

function chooseTarget(random: Random, form: Form): number {
  const wide = form.setup === 'fxsave' || form.setup === 'fxrstor';
  const kind = random.below(100);
  const middle = DATA_ARENA.start + 0x400 + random.below(0x3800);
  if (kind < (wide ? 90 : 60)) return middle & ~15;
  if (kind < 84) return middle;
  if (kind < 93) return DATA_ARENA.start + PAGE * (1 + random.below(3)) - random.below(16);
  if (kind < 97) return DATA_ARENA.end - random.below(16);
  if (kind < 98) return DATA_ARENA.start - random.below(16);
  return 0x3000_0000 + random.below(0x1000_0000);
}

/**
 * Addresses at which the processor refuses rather than looks for a page: not canonical, or across the end of the
 * segment. Only some forms of operand can reach them.
 */
export function farAddress(random: Random, long: boolean): number {
  // The longest operands are aligned.
  if (!long) return 0x1_0000_0000 - (random.chance(70) ? random.below(16) : random.below(36) * 16);
  switch (random.below(4)) {
    case 0:
      return 2 ** 47 - random.below(16);
    case 1:
      return 2 ** 47 + random.below(PAGE);
    case 2:
      return 2 ** 48 + DATA_ARENA.start + random.below(PAGE);
    default:
      return random.below(0x10_0000) * 2 ** 32 + DATA_ARENA.start + random.below(PAGE);
  }
}

interface OperandRequest {
  readonly digit: number;
  readonly rex: number;
  readonly long: boolean;
  readonly addressSize: 4 | 8;
  readonly target: number;
  readonly gpr: bigint[];
  readonly codeBytes: number;
  readonly immediateLength: number;
}

interface EncodedOperand {
  readonly bytes: readonly number[];
  /** The operand lies at the target. */
  readonly reached: boolean;
}

/** ModRM, SIB and displacement for 32- and 64-bit addresses [SDM 2A 2.1.5]. */
function operand32(random: Random, request: OperandRequest): EncodedOperand {
  const { digit, rex, long, addressSize, target, gpr } = request;
  const reg = digit << 3;
  const baseExtend = rex & 1 ? 8 : 0;
  const indexExtend = rex & 2 ? 8 : 0;
  const target64 = BigInt(target);
  const place = (register: number, value: bigint) => {
    const cut = BigInt.asUintN(addressSize * 8, value);
    // Junk above a 32-bit address must not matter.
    gpr[register] =
      addressSize === 4 && long ? cut | (BigInt(random.below(4)) << 40n) : BigInt.asUintN(64, cut);
  };

  let mod = random.below(3);
  const rmLow = random.below(8);
  if (rmLow !== 4) {
    if (mod === 0 && rmLow === 5) {
      if (!long) return { bytes: [reg | 5, ...signed32(target64)], reached: true };
      const next = CODE_AT + request.codeBytes + 5 + request.immediateLength;
      return { bytes: [reg | 5, ...signed32(target64 - BigInt(next))], reached: true };
    }
    const displacement = chooseDisplacement(random, mod);
    place(rmLow + baseExtend, target64 - displacement);
    return { bytes: [(mod << 6) | reg | rmLow, ...displacementBytes(mod, displacement)], reached: true };
  }

  const scale = random.below(4);
  const indexLow = random.below(8);
  const baseLow = random.below(8);
  const index = indexLow + indexExtend;
  const noIndex = index === 4;
  const noBase = baseLow === 5 && mod === 0;
  const base = baseLow + baseExtend;
  if (!noIndex && !noBase && index === base) mod = 2;
  const sib = (scale << 6) | (indexLow << 3) | baseLow;
  const small = BigInt(random.below(0x2000) - 0x1000);
  if (!noIndex) {
    const wild = !noBase && index !== base && random.chance(25);
    place(index, wild ? random.u64() : small);
  }
  const indexValue = noIndex ? 0n : (gpr[index]! << BigInt(scale)) % (1n << 64n);
  if (noBase) {
    const value = noIndex ? 0n : BigInt.asIntN(addressSize * 8, indexValue);
    return { bytes: [reg | 4, sib, ...signed32(target64 - value)], reached: true };
  }
  if (!noIndex && index === base) {
    // base + index * scale of one register: only the displacement is free.
    const sum = BigInt.asIntN(addressSize * 8, indexValue + gpr[base]!);
    return { bytes: [0x80 | reg | 4, sib, ...signed32(target64 - sum)], reached: true };
  }
  const displacement = chooseDisplacement(random, mod);
  place(base, target64 - displacement - indexValue);
  return { bytes: [(mod << 6) | reg | 4, sib, ...displacementBytes(mod, displacement)], reached: true };
}

/** 16-bit addresses only reach the first 64 KiB, where nothing is mapped: they fault, or are LEA's. */
function operand16(random: Random, digit: number): EncodedOperand {
  const mod = random.below(3);
  const rm = random.below(8);
  const size = mod === 1 ? 1 : mod === 2 || rm === 6 ? 2 : 0;
  return { bytes: [(mod << 6) | (digit << 3) | rm, ...random.bytes(size)], reached: false };
}

function chooseDisplacement(random: Random, mod: number): bigint {
  if (mod === 0) return 0n;
  if (mod === 1) return BigInt(random.below(256) - 128);
  return BigInt.asIntN(32, random.chance(50) ? BigInt(random.below(4096)) : BigInt(random.u32()));
}

function displacementBytes(mod: number, displacement: bigint): number[] {
  if (mod === 0) return [];
  return mod === 1 ? [Number(displacement & 0xffn)] : signed32(displacement);
}

function signed32(value: bigint): number[] {
  return [0n, 8n, 16n, 24n].map((shift) => Number((value >> shift) & 0xffn));
}

function immediate(
  random: Random,
  kind: ImmediateKind,
  operandSize: number,
  addressSize: number,
  mode: 32 | 64,
): number[] {
  const take = (size: number) => {
    const value = integer(random);
    return Array.from({ length: size }, (_, index) => Number((value >> BigInt(index * 8)) & 0xffn));
  };
  switch (kind) {
    case 'ib':
    case 'cb':
      return random.chance(50) ? [random.below(256)] : take(1);
    case 'iw':
      return take(2);
    case 'iz':
      return take(operandSize === 2 ? 2 : 4);
    case 'iv':
      return take(operandSize);
    case 'cz':
      return take(mode === 32 && operandSize === 2 ? 2 : 4);
    case 'mo':
      return take(addressSize);
    case 'xx':
      return take(8);
  }
}

function shuffle(random: Random, items: number[]): void {
  for (let index = items.length - 1; index > 0; index -= 1) {
    const other = random.below(index + 1);
    [items[index], items[other]] = [items[other]!, items[index]!];
  }
}
