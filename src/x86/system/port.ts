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
  FLAG,
  FLAGS_REST,
  RAX,
  RCX,
  RDI,
  RDX,
  RSI,
  SEGMENT,
  SEGMENT_ACCESS,
  SEGMENT_BASE,
  SEGMENT_LIMIT,
} from '../state.ts';
import { portBreakpointsAt } from './debug-register.ts';
import { ACCESS, code64, ioPrivilege, longMode, privilegeLevel, protectedMode } from './mode.ts';

/** Port input and output [SDM 1 18]. All of it ends a block: a port access may move an interrupt line. */
type PortSize = 1 | 2 | 4;

const GP = 13;

/** IOPL, and below it the bitmap of the task state segment [SDM 1 18.5.2]. False: a fault is pending. */
function permitted(cpu: Cpu, port: number, size: PortSize): boolean {
  const state = cpu.state;
  if (!protectedMode(state) || privilegeLevel(state) <= ioPrivilege(state)) return true;
  const access = state.get32(SEGMENT_ACCESS + SEGMENT.tr * 4);
  const limit = state.get32(SEGMENT_LIMIT + SEGMENT.tr * 4);
  // Only a 32- or 64-bit TSS (type 9 or 11) has a bitmap.
  if ((access & ACCESS.present) !== 0 && (access & 0xd) === 9 && limit >= 103) {
    const base = state.get64(SEGMENT_BASE + SEGMENT.tr * 8);
    const mask = longMode(state) ? 0xffff_ffff_ffff_ffffn : 0xffff_ffffn;
    const bitmap = cpu.load(2, (base + 102n) & mask, 'supervisor');
    if (bitmap === undefined) return false;
    const offset = Number(bitmap) + (port >>> 3);
    if (offset + 1 <= limit) {
      const bits = cpu.load(2, (base + BigInt(offset)) & mask, 'supervisor');
      if (bits === undefined) return false;
      if (((Number(bits) >>> (port & 7)) & ((1 << size) - 1)) === 0) return true;
    }
  }
  cpu.fault(GP, 0);
  return false;
}

/** Low `size` bytes; AL and AX keep the rest of RAX, EAX clears its upper half. */
function readInto(cpu: Cpu, port: number, size: PortSize): Outcome {
  if (!permitted(cpu, port, size)) return ABORTED;
  cpu.state.set(RAX, size, BigInt(cpu.environment.readPort(port, size) >>> 0));
  cpu.meet(portBreakpointsAt(cpu.state, port, size));
  return DONE;
}

function writeFrom(cpu: Cpu, port: number, size: PortSize): Outcome {
  if (!permitted(cpu, port, size)) return ABORTED;
  const { view } = cpu.state;
  const value =
    size === 1 ? view.getUint8(RAX) : size === 2 ? view.getUint16(RAX, true) : view.getUint32(RAX, true);
  cpu.environment.writePort(port, size, value);
  cpu.meet(portBreakpointsAt(cpu.state, port, size));
  return DONE;
}

/** IN: b is the size, c the port. */
export const IN_IMMEDIATE = systemOperation('in-immediate', (cpu, b, c) => readInto(cpu, c, b as PortSize));
export const IN_DX = systemOperation('in-dx', (cpu, b) =>
  readInto(cpu, cpu.state.view.getUint16(RDX, true), b as PortSize),
);
export const OUT_IMMEDIATE = systemOperation('out-immediate', (cpu, b, c) =>
  writeFrom(cpu, c, b as PortSize),
);
export const OUT_DX = systemOperation('out-dx', (cpu, b) =>
  writeFrom(cpu, cpu.state.view.getUint16(RDX, true), b as PortSize),
);

/**
 * INS and OUTS [SDM 2A INS, 2B OUTS]. One iteration each time: each may move an interrupt line, and interrupts
 * are looked at between two of them. b is the operand size, c the address size; the immediate is 1 with a
 * repeat prefix, plus the segment of the source times 2.
 */
function stringPort(cpu: Cpu, b: number, c: number, imm: bigint, input: boolean): Outcome {
  const state = cpu.state;
  const size = b as PortSize;
  const addressSize = c as 2 | 4 | 8;
  const repeated = (imm & 1n) !== 0n;
  const count = state.get(RCX, addressSize);
  const port = state.view.getUint16(RDX, true);
  // Looked at before the count, as AMD Zen processors do (measured).
  if (!permitted(cpu, port, size)) return ABORTED;
  if (repeated && count === 0n) return DONE;

  const pointer = input ? RDI : RSI;
  const segment = input ? SEGMENT.es : Number(imm >> 1n);
  const offset = state.get(pointer, addressSize);
  const is64 = code64(state);
  const based = !is64 || segment === SEGMENT.fs || segment === SEGMENT.gs;
  const sum = offset + (based ? state.get64(SEGMENT_BASE + segment * 8) : 0n);
  if (!is64) state.set32(ACCESS_SEGMENT, segment);
  const access = state.get32(SEGMENT_ACCESS + segment * 4);
  if (!is64 && protectedMode(state) && (access & ACCESS.present) === 0) return cpu.fault(GP, 0);
  const linear = is64 ? BigInt.asUintN(64, sum) : sum & 0xffff_ffffn;
  if (input) {
    // The port is read only when its value can be stored: reading may have side effects.
    if (!cpu.probe(linear, size, 'write')) return ABORTED;
    if (!cpu.store(size, linear, BigInt(cpu.environment.readPort(port, size) >>> 0))) return ABORTED;
  } else {
    const value = cpu.load(size, linear);
    if (value === undefined) return ABORTED;
    cpu.environment.writePort(port, size, Number(value));
  }
  cpu.meet(portBreakpointsAt(state, port, size));
  const step = (state.get32(FLAGS_REST) & FLAG.df) !== 0 ? -size : size;
  const addressMask = (1n << BigInt(addressSize * 8)) - 1n;
  state.set(pointer, addressSize, (offset + BigInt(step)) & addressMask);
  if (!repeated) return DONE;
  state.set(RCX, addressSize, count - 1n);
  return count === 1n ? DONE : AGAIN;
}

export const INS = systemOperation('ins', (cpu, b, c, imm) => stringPort(cpu, b, c, imm, true));
export const OUTS = systemOperation('outs', (cpu, b, c, imm) => stringPort(cpu, b, c, imm, false));

export const PORT_OPERATIONS: readonly SystemOperation[] = [
  IN_IMMEDIATE,
  IN_DX,
  OUT_IMMEDIATE,
  OUT_DX,
  INS,
  OUTS,
];
