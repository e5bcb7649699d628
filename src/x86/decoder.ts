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

interface Prefixes {
  readonly end: number;
  readonly segment: SegmentName | undefined;
  readonly repeat: 0 | 0xf2 | 0xf3;
  readonly operandSize: boolean;
  readonly addressSize: boolean;
  readonly lock: boolean;
  /** 0 or 0x40..0x4f. */
  readonly rex: number;
}

function prefixes(bytes: Uint8Array, long: boolean): Prefixes {
  let segment: SegmentName | undefined;
  let repeat: 0 | 0xf2 | 0xf3 = 0;
  let operandSize = false;
  let addressSize = false;
  let lock = false;
  let rex = 0;
  let end = 0;
  for (; end < bytes.length; end += 1) {
    const byte = bytes[end]!;
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
  return { end, segment, repeat, operandSize, addressSize, lock, rex };
}

/** Little-endian signed value of 1, 2, 4 or 8 bytes. */
function signed(bytes: Uint8Array, at: number, size: number): bigint {
  let value = 0n;
  for (let index = size - 1; index >= 0; index -= 1) value = (value << 8n) | BigInt(bytes[at + index]!);
  return BigInt.asIntN(size * 8, value);
}

function signed32(bytes: Uint8Array, at: number, size: 0 | 1 | 2 | 4): number {
  const byte = (index: number) => bytes[at + index]!;
  if (size === 0) return 0;
  if (size === 1) return (byte(0) << 24) >> 24;
  if (size === 2) return ((byte(0) << 16) | (byte(1) << 24)) >> 16;
  return byte(0) | (byte(1) << 8) | (byte(2) << 16) | (byte(3) << 24);
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
  return {
    base,
    index: undefined,
    scale: 0,
    displacement: 0,
    absolute: undefined,
    ripRelative: false,
    segment,
  };
}

/** Decodes the instruction at the start of `bytes`: up to 15 of them, fewer when the page ends. */
export function decode(bytes: Uint8Array, codeSize: CodeSize, map: OpcodeMap): DecodeResult {
  const long = codeSize === 64;
  const prefix = prefixes(bytes, long);
  const available = Math.min(bytes.length, INSTRUCTION_LENGTH_MAX);
  let at = prefix.end;
  const missing = (count: number): 'truncated' | 'too-long' | undefined =>
    at + count > INSTRUCTION_LENGTH_MAX ? 'too-long' : at + count > available ? 'truncated' : undefined;

  let short = missing(1);
  if (short) return short;
  let opcode = bytes[at++]!;
  if (opcode === 0x0f) {
    short = missing(1);
    if (short) return short;
    opcode = 0x0f00 | bytes[at++]!;
    if (opcode === 0x0f38 || opcode === 0x0f3a) {
      short = missing(1);
      if (short) return short;
      opcode = (opcode << 8) | bytes[at++]!;
    }
  }
  const slots = map[opcodeIndex(opcode)];
  if (slots === undefined) return 'undefined';

  const { rex } = prefix;
  const rexW = (rex & 8) !== 0;
  const addressSize = long ? (prefix.addressSize ? 4 : 8) : (codeSize === 32) !== prefix.addressSize ? 4 : 2;
  const prefixClass =
    prefix.repeat === 0xf3
      ? PREFIX_CLASS.f3
      : prefix.repeat === 0xf2
        ? PREFIX_CLASS.f2
        : prefix.operandSize
          ? PREFIX_CLASS['66']
          : PREFIX_CLASS.np;

  let modrm = 0;
  let reg = 0;
  let rm = (opcode & 7) | ((rex & 1) << 3);
  let memory = implicitMemory(opcode, prefix.segment);
  let row: Row | undefined;
  if (!slots.modrm) {
    row = slots.rows[slotIndex(long, prefixClass, 0, false)];
  } else {
    short = missing(1);
    if (short) return short;
    modrm = bytes[at++]!;
    // MOV to and from control and debug registers ignores mod [SDM 2 MOV].
    const mod = (opcode & ~3) === 0x0f20 ? 3 : modrm >> 6;
    const digit = (modrm >> 3) & 7;
    // Even of an undefined instruction the address bytes are fetched, and may fault, first.
    row = slots.rows[slotIndex(long, prefixClass, digit, mod === 3)];
    reg = digit | ((rex & 4) << 1);
    rm = (modrm & 7) | ((rex & 1) << 3);
    if (mod !== 3) {
      let base: number | undefined = rm;
      let index: number | undefined;
      let scale = 0;
      let size: 0 | 1 | 2 | 4 = mod === 1 ? 1 : mod === 2 ? (addressSize === 2 ? 2 : 4) : 0;
      let ripRelative = false;
      if (addressSize === 2) {
        base = BASE_16[modrm & 7];
        index = INDEX_16[modrm & 7];
        if (mod === 0 && (modrm & 7) === 6) {
          base = undefined;
          size = 2;
        }
      } else if ((modrm & 7) === 4) {
        short = missing(1);
        if (short) return short;
        const sib = bytes[at++]!;
        scale = sib >> 6;
        index = ((sib >> 3) & 7) | ((rex & 2) << 2);
        if (index === 4) index = undefined;
        base = (sib & 7) | ((rex & 1) << 3);
        if (mod === 0 && (sib & 7) === 5) {
          base = undefined;
          size = 4;
        }
      } else if (mod === 0 && (modrm & 7) === 5) {
        base = undefined;
        size = 4;
        ripRelative = long;
      }
      short = missing(size);
      if (short) return short;
      const displacement = signed32(bytes, at, size);
      at += size;
      const segment = prefix.segment ?? (base === 4 || base === 5 ? 'ss' : 'ds');
      memory = { base, index, scale, displacement, absolute: undefined, ripRelative, segment };
    }
  }
  if (row === undefined) return 'undefined';

  // In 64-bit code 66 shortens stack operations and, as AMD processors have it, near branches too.
  const narrow = (codeSize === 16) !== prefix.operandSize;
  const operandSize = rexW ? 8 : narrow ? 2 : long && row.defaults64 ? 8 : 4;

  let immediate = 0n;
  let immediate2 = 0;
  const size = immediateSize(row.immediate, operandSize, addressSize);
  if (size > 0) {
    const extra = row.immediate === 'wb' ? 1 : row.immediate === 'far' ? 2 : 0;
    short = missing(size + extra);
    if (short) return short;
    immediate = signed(bytes, at, size);
    at += size;
    if (extra === 1) immediate2 = bytes[at]!;
    if (extra === 2) immediate2 = bytes[at]! | (bytes[at + 1]! << 8);
    at += extra;
    if (row.immediate === 'offset') {
      memory = {
        base: undefined,
        index: undefined,
        scale: 0,
        displacement: 0,
        absolute: BigInt.asUintN(addressSize * 8, immediate),
        ripRelative: false,
        segment: prefix.segment ?? 'ds',
      };
      immediate = 0n;
    }
  }
  if (prefix.lock && !(row.lockable && memory !== undefined)) return 'undefined';

  return {
    row,
    instruction: {
      codeSize,
      opcode,
      length: at,
      repeat: prefix.repeat,
      operandSizePrefix: prefix.operandSize,
      lock: prefix.lock,
      rex: rex !== 0,
      rexW,
      operandSize,
      addressSize,
      reg,
      rm,
      modrm,
      memory,
      immediate,
      immediate2,
    },
  };
}
