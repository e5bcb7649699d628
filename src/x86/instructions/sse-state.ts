import { emitOperandAddress } from '../address.ts';
import { ABORTED, type Cpu, DONE, type Outcome, type SystemOperation, systemOperation } from '../cpu.ts';
import { registersFromBytes, registersToBytes } from '../float/x87-environment.ts';
import { loadControlWord, loadStatusWord } from '../float/x87-unit.ts';
import type { Row } from '../instruction.ts';
import { STORE_MXCSR } from '../micro-operations/sse-move.ts';
import { type CpuState, CR0, FCW, FDP, FIP, FLAG, FLAGS_REST, FOP, FSW, FTW, MXCSR, XMM } from '../state.ts';
import { CR0_BIT, canonical, code64, privilegeLevel } from '../system/mode.ts';
import { emitMemory, sseRow } from './sse-operand.ts';

/** Group 15 (0F AE): MXCSR, FXSAVE and FXRSTOR. */

const GENERAL_PROTECTION = 13;
const ALIGNMENT = 17;
/** Writable bits of MXCSR; the value FXSAVE stores as MXCSR_MASK. */
const MXCSR_MASK = 0xffff;

const LDMXCSR = systemOperation('ldmxcsr', (cpu: Cpu, b): Outcome => {
  const value = cpu.load(4, cpu.state.get64(b));
  if (value === undefined) return ABORTED;
  if (value & ~BigInt(MXCSR_MASK)) return cpu.fault(GENERAL_PROTECTION, 0);
  cpu.state.set32(MXCSR, Number(value));
  return DONE;
});

/** Layouts of the FXSAVE area [SDM 1 10.5.1], as flags in imm. */
const WIDE_POINTERS = 1n;
const LONG_MODE = 2n;
/** Above the flags: the size of addresses. */
const ADDRESS_SIZE_SHIFT = 4n;

/** All 512 bytes must be accessible; like AMD processors, look at the last one first. */
function lastByte(address: bigint, imm: bigint): bigint {
  return BigInt.asUintN(Number(imm >> ADDRESS_SIZE_SHIFT) * 8, address + 511n);
}

/** The part that is written. */
function imageLength(imm: bigint): number {
  return imm & LONG_MODE ? 160 + 16 * 16 : 160 + 8 * 16;
}

function image(state: CpuState, imm: bigint): Uint8Array {
  const bytes = new Uint8Array(imageLength(imm));
  const view = new DataView(bytes.buffer);
  view.setUint16(0, state.get32(FCW), true);
  view.setUint16(2, state.get32(FSW), true);
  view.setUint8(4, state.get32(FTW));
  // As on AMD processors the pointers are only meaningful, and otherwise zero, while an exception waits.
  if (state.get32(FSW) & 0x80) {
    view.setUint16(6, state.get32(FOP), true);
    if (imm & WIDE_POINTERS) {
      view.setBigUint64(8, state.get64(FIP), true);
      view.setBigUint64(16, state.get64(FDP), true);
    } else {
      view.setUint32(8, Number(state.get64(FIP) & 0xffff_ffffn), true);
      view.setUint32(16, Number(state.get64(FDP) & 0xffff_ffffn), true);
    }
  }
  view.setUint32(24, state.get32(MXCSR), true);
  view.setUint32(28, MXCSR_MASK, true);
  // Ten bytes in each sixteen.
  const registers = new Uint8Array(80);
  registersToBytes(state, registers, 0);
  for (let i = 0; i < 8; i++) bytes.set(registers.subarray(i * 10, i * 10 + 10), 32 + i * 16);
  bytes.set(state.bytes.subarray(XMM, XMM + bytes.length - 160), 160);
  return bytes;
}

/**
 * An area that does not lie at a multiple of 16. As on AMD processors its first 4 bytes must be canonical and within
 * the segment, then comes #AC, which asks for multiples of 4.
 */
function misaligned(cpu: Cpu, address: bigint): Outcome {
  const { state } = cpu;
  const end = address + 3n;
  // In 64-bit code the addresses go on from the last one to the first.
  const reachable = code64(state)
    ? canonical(address) && canonical(BigInt.asUintN(64, end))
    : end <= 0xffff_ffffn;
  if (!reachable && !cpu.probe(address, 4, 'read')) return ABORTED;
  const wanted = (state.get32(FLAGS_REST) & FLAG.ac) !== 0 && (state.get32(CR0) & CR0_BIT.am) !== 0;
  const checked = wanted && privilegeLevel(state) === 3;
  return checked && address & 3n ? cpu.fault(ALIGNMENT, 0) : cpu.fault(GENERAL_PROTECTION, 0);
}

const FXSAVE = systemOperation('fxsave', (cpu: Cpu, b, _c, imm): Outcome => {
  const address = cpu.state.get64(b);
  if (address & 15n) return misaligned(cpu, address);
  if (!cpu.probe(lastByte(address, imm), 1, 'write')) return ABORTED;
  const bytes = image(cpu.state, imm);
  const area = cpu.span(address, bytes.length, 'write');
  if (area === undefined) return cpu.storeBytes(address, bytes) ? DONE : ABORTED;
  area.set(bytes);
  return DONE;
});

const FXRSTOR = systemOperation('fxrstor', (cpu: Cpu, b, _c, imm): Outcome => {
  const { state } = cpu;
  const address = state.get64(b);
  if (address & 15n) return misaligned(cpu, address);
  if (!cpu.probe(lastByte(address, imm), 1, 'read')) return ABORTED;
  const length = imageLength(imm);
  const bytes = cpu.span(address, length, 'read') ?? cpu.loadBytes(address, length);
  if (bytes === undefined) return ABORTED;
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  const mxcsr = view.getUint32(24, true);
  if (mxcsr & ~MXCSR_MASK) return cpu.fault(GENERAL_PROTECTION, 0);
  loadControlWord(state, view.getUint16(0, true));
  loadStatusWord(state, view.getUint16(2, true));
  state.set32(FTW, view.getUint8(4));
  state.set32(FOP, view.getUint16(6, true) & 0x7ff);
  const wide = (imm & WIDE_POINTERS) !== 0n;
  state.set64(FIP, wide ? view.getBigUint64(8, true) : BigInt(view.getUint32(8, true)));
  state.set64(FDP, wide ? view.getBigUint64(16, true) : BigInt(view.getUint32(16, true)));
  state.set32(MXCSR, mxcsr);
  const registers = new Uint8Array(80);
  for (let i = 0; i < 8; i++) registers.set(bytes.subarray(32 + i * 16, 42 + i * 16), i * 10);
  registersFromBytes(state, registers, 0);
  state.bytes.set(bytes.subarray(160), XMM);
  return DONE;
});

function areaRow(digit: number, operation: SystemOperation): Row {
  return sseRow(
    0x0fae,
    'np',
    operation.name,
    (instruction, out) => {
      const imm =
        (instruction.rexW ? WIDE_POINTERS : 0n) |
        (instruction.codeSize === 64 ? LONG_MODE : 0n) |
        (BigInt(instruction.addressSize) << ADDRESS_SIZE_SHIFT);
      out.call(operation, { b: emitOperandAddress(instruction, out), imm });
    },
    { digit, operand: 'memory', unit: 'x87' },
  );
}

export const SSE_STATE_ROWS: readonly Row[] = [
  areaRow(0, FXSAVE),
  areaRow(1, FXRSTOR),
  sseRow(
    0x0fae,
    'np',
    'ldmxcsr',
    (instruction, out) => out.call(LDMXCSR, { b: emitOperandAddress(instruction, out) }),
    { digit: 2, operand: 'memory' },
  ),
  sseRow(0x0fae, 'np', 'stmxcsr', (instruction, out) => emitMemory(instruction, out, STORE_MXCSR, 0), {
    digit: 3,
    operand: 'memory',
  }),
];
