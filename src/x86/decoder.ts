import type { CodeSize, ImmediateForm, Instruction, MemoryOperand, Row } from './instruction.ts';
import { type OpcodeMap, opcodeIndex, PREFIX_CLASS, slotIndex } from './opcode-map.ts';
import type { SegmentName } from './state.ts';

/** No instruction is longer; one that would be raises #GP(0) [SDM 2 2.3.11]. */
export const INSTRUCTION_LENGTH_MAX = 15;

export interface Decoded {
  readonly instruction: Instruction;
  readonly row: Row;
}

/** 'truncated': more bytes are needed to tell. 'undefined': #UD. 'too-long': #GP(0). */
export type DecodeResult = Decoded | 'truncated' | 'undefined' | 'too-long';

const SEGMENT_PREFIX: Readonly<Record<number, SegmentName>> = {
  38: 'es', // 26
  46: 'cs', // 2E
  54: 'ss', // 36
  62: 'ds', // 3E
  100: 'fs', // 64
  101: 'gs', // 65
};

/** Base and index of the 16-bit ModRM forms [SDM 2 table 2-1]. */
const BASE_16 = [3, 3, 5, 5, 6, 7, 5, 3] as const;
const INDEX_16 = [6, 7, 6, 7, undefined, undefined, undefined, undefined] as const;

/**
 * Reads the bytes of one instruction. Behind their end it reads zeros: how far it got tells in the end whether
 * they were enough.
 */
class Cursor {
  readonly #bytes: Uint8Array;
  at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  peek(): number {
    return this.#bytes[this.at] ?? 0;
  }

  next(): number {
    return this.#bytes[this.at++] ?? 0;
  }

  /** Little-endian, sign-extended; 0 for a size of 0. */
  signed(size: 0 | 1 | 2 | 4): number {
    let value = 0;
    for (let index = 0; index < size; index++) value |= this.next() << (index * 8);
    const unused = 32 - size * 8;
    return size === 0 ? 0 : (value << unused) >> unused;
  }

  signedWide(size: number): bigint {
    if (size !== 8) return BigInt(this.signed(size as 0 | 1 | 2 | 4));
    const low = BigInt(this.signed(4) >>> 0);
    return (BigInt(this.signed(4)) << 32n) | low;
  }

  /** Why what was read is no instruction, if it is none. */
  get short(): 'truncated' | 'too-long' | undefined {
    if (this.at > INSTRUCTION_LENGTH_MAX) return 'too-long';
    return this.at > this.#bytes.length ? 'truncated' : undefined;
  }
}

interface Prefixes {
  readonly segment: SegmentName | undefined;
  readonly repeat: 0 | 0xf2 | 0xf3;
  readonly operandSize: boolean;
  readonly addressSize: boolean;
  readonly lock: boolean;
  /** 0 or 0x40..0x4f. */
  readonly rex: number;
}

/** Leaves the cursor at the opcode. */
function prefixes(cursor: Cursor, long: boolean): Prefixes {
  let segment: SegmentName | undefined;
  let repeat: 0 | 0xf2 | 0xf3 = 0;
  let operandSize = false;
  let addressSize = false;
  let lock = false;
  let rex = 0;
  for (; cursor.at < INSTRUCTION_LENGTH_MAX; cursor.at += 1) {
    const byte = cursor.peek();
    if (long && (byte & 0xf0) === 0x40) {
      rex = byte;
      continue;
    }
    if (byte === 0x66) operandSize = true;
    else if (byte === 0x67) addressSize = true;
    else if (byte === 0xf2 || byte === 0xf3) repeat = byte;
    else if (byte === 0xf0) lock = true;
    else {
      const override = SEGMENT_PREFIX[byte];
      if (override === undefined) break;
      // In 64-bit code the four old segments' prefixes are ignored [SDM 1 3.4.2.1].
      if (!long || override === 'fs' || override === 'gs') segment = override;
    }
    // A REX prefix counts only just before the opcode [SDM 2 2.2.1].
    rex = 0;
  }
  return { segment, repeat, operandSize, addressSize, lock, rex };
}

/** Bytes that the immediate takes, before the second one of ENTER and far pointers. */
function immediateSize(form: ImmediateForm, operandSize: 2 | 4 | 8, addressSize: number): number {
  switch (form) {
    case 'none':
      return 0;
    case 'b':
      return 1;
    case 'w':
    case 'wb':
      return 2;
    case 'z':
      return operandSize === 2 ? 2 : 4;
    case 'far':
      return operandSize === 2 ? 2 : 4;
    case 'v':
      return operandSize;
    case 'offset':
      return addressSize;
  }
}

const NO_ADDRESS = {
  index: undefined,
  scale: 0,
  displacement: 0,
  absolute: undefined,
  ripRelative: false,
} as const;

/** The operand of the MOV moffs forms. */
function absoluteMemory(absolute: bigint, segment: SegmentName): MemoryOperand {
  return { base: undefined, ...NO_ADDRESS, absolute, segment };
}

/**
 * The operand that string forms, XLAT and MASKMOVDQU name implicitly: the source at rSI with any override, or
 * the destination at rDI, which is always in ES (MASKMOVDQU: in DS, may be overridden).
 */
function implicitMemory(opcode: number, override: SegmentName | undefined): MemoryOperand | undefined {
  let base: number;
  let segment: SegmentName = override ?? 'ds';
  switch (opcode) {
    case 0x6e: // OUTS
    case 0x6f:
    case 0xa4: // MOVS: the source
    case 0xa5:
    case 0xa6: // CMPS: the first operand
    case 0xa7:
    case 0xac: // LODS
    case 0xad:
      base = 6;
      break;
    case 0x6c: // INS
    case 0x6d:
    case 0xaa: // STOS
    case 0xab:
    case 0xae: // SCAS
    case 0xaf:
      base = 7;
      segment = 'es';
      break;
    case 0xd7: // XLAT
      base = 3;
      break;
    case 0x0ff7: // MASKMOVDQU
      base = 7;
      break;
    default:
      return undefined;
  }
  return { base, ...NO_ADDRESS, segment };
}

/** Opcode as instruction.ts numbers it, with the escape bytes. */
function opcodeBytes(cursor: Cursor): number {
  const first = cursor.next();
  if (first !== 0x0f) return first;
  const second = 0x0f00 | cursor.next();
  return second === 0x0f38 || second === 0x0f3a ? (second << 8) | cursor.next() : second;
}

/** The memory that ModRM names, with the SIB byte and the displacement that follow it [SDM 2 2.1.5]. */
function modrmMemory(
  cursor: Cursor,
  modrm: number,
  prefix: Prefixes,
  addressSize: number,
  long: boolean,
): MemoryOperand {
  const { rex } = prefix;
  const mod = modrm >> 6;
  const low = modrm & 7;
  let base: number | undefined = low | ((rex & 1) << 3);
  let index: number | undefined;
  let scale = 0;
  let size: 0 | 1 | 2 | 4 = mod === 1 ? 1 : mod === 2 ? (addressSize === 2 ? 2 : 4) : 0;
  let ripRelative = false;
  if (addressSize === 2) {
    base = BASE_16[low];
    index = INDEX_16[low];
    if (mod === 0 && low === 6) {
      base = undefined;
      size = 2;
    }
  } else if (low === 4) {
    const sib = cursor.next();
    scale = sib >> 6;
    index = ((sib >> 3) & 7) | ((rex & 2) << 2);
    if (index === 4) index = undefined;
    base = (sib & 7) | ((rex & 1) << 3);
    if (mod === 0 && (sib & 7) === 5) {
      base = undefined;
      size = 4;
    }
  } else if (mod === 0 && low === 5) {
    base = undefined;
    size = 4;
    ripRelative = long;
  }
  const displacement = cursor.signed(size);
  const segment = prefix.segment ?? (base === 4 || base === 5 ? 'ss' : 'ds');
  return { base, index, scale, displacement, absolute: undefined, ripRelative, segment };
}

function prefixClass(prefix: Prefixes): number {
  if (prefix.repeat === 0xf3) return PREFIX_CLASS.f3;
  if (prefix.repeat === 0xf2) return PREFIX_CLASS.f2;
  return prefix.operandSize ? PREFIX_CLASS['66'] : PREFIX_CLASS.np;
}

/** Decodes the instruction at the start of `bytes`: up to 15 of them, fewer when the page ends. */
export function decode(bytes: Uint8Array, codeSize: CodeSize, map: OpcodeMap): DecodeResult {
  const cursor = new Cursor(bytes);
  const long = codeSize === 64;
  const prefix = prefixes(cursor, long);
  const opcode = opcodeBytes(cursor);
  const slots = map[opcodeIndex(opcode)];
  if (slots === undefined) return cursor.short ?? 'undefined';

  const { rex } = prefix;
  const addressSize = long ? (prefix.addressSize ? 4 : 8) : (codeSize === 32) !== prefix.addressSize ? 4 : 2;
  let modrm = 0;
  let digit = 0;
  let rm = opcode & 7;
  let register = false;
  let memory = implicitMemory(opcode, prefix.segment);
  if (slots.modrm) {
    modrm = cursor.next();
    digit = (modrm >> 3) & 7;
    rm = modrm & 7;
    // MOV to and from control and debug registers ignores mod [SDM 2 MOV].
    register = modrm >= 0xc0 || (opcode & ~3) === 0x0f20;
    if (!register) memory = modrmMemory(cursor, modrm, prefix, addressSize, long);
  }
  // Even of an undefined instruction the address bytes are fetched, and may fault, first.
  const row = slots.rows[slotIndex(long, prefixClass(prefix), digit, register)];
  if (row === undefined) return cursor.short ?? 'undefined';

  const rexW = (rex & 8) !== 0;
  // In 64-bit code 66 shortens stack operations and, as AMD processors have it, near branches too.
  const narrow = (codeSize === 16) !== prefix.operandSize;
  const operandSize = rexW ? 8 : narrow ? 2 : long && row.defaults64 ? 8 : 4;
  let immediate = cursor.signedWide(immediateSize(row.immediate, operandSize, addressSize));
  const immediate2 =
    row.immediate === 'wb' ? cursor.next() : row.immediate === 'far' ? cursor.signed(2) & 0xffff : 0;
  if (row.immediate === 'offset') {
    memory = absoluteMemory(BigInt.asUintN(addressSize * 8, immediate), prefix.segment ?? 'ds');
    immediate = 0n;
  }
  const { short } = cursor;
  if (short) return short;
  if (prefix.lock && !(row.lockable && memory !== undefined)) return 'undefined';

  return {
    row,
    instruction: {
      codeSize,
      opcode,
      length: cursor.at,
      repeat: prefix.repeat,
      operandSizePrefix: prefix.operandSize,
      lock: prefix.lock,
      rex: rex !== 0,
      rexW,
      operandSize,
      addressSize,
      reg: digit | (slots.modrm ? (rex & 4) << 1 : 0),
      rm: rm | ((rex & 1) << 3),
      modrm,
      memory,
      immediate,
      immediate2,
    },
  };
}
