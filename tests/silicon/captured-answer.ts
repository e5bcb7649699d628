import type { ByteReader, ByteWriter } from '../../src/base/bytes.ts';
import type { StepOutcome } from '../../src/host/debug-step/stepped-state.ts';
import type { SiliconCase } from './case.ts';
import { readShort, writeShort } from './short-number.ts';

/** One answer as it is stored: which parts of the state changed, and their values afterwards. */

const CHANGED = {
  exception: 1,
  retired: 2,
  gpr: 4,
  rflags: 8,
  xmm: 16,
  mxcsr: 32,
  words: 64,
  st: 128,
} as const;
/** In place of a distance: RIP itself follows. */
const FAR = 0xff;

const sixteen = [...Array(16).keys()];

export function writeAnswer(writer: ByteWriter, given: SiliconCase, outcome: StepOutcome): void {
  const gpr = changedMask(given.gpr, outcome.gpr);
  const xmm = changedMask(given.xmm, outcome.xmm);
  const stack = physical(given.x87.st, given.x87.fsw);
  const stackAfter = physical(outcome.x87.st, outcome.x87.fsw);
  const st = changedMask(stack, stackAfter);
  const { exception } = outcome;
  const { fcw, fsw, ftw } = outcome.x87;
  const words = fcw !== given.x87.fcw || fsw !== given.x87.fsw || ftw !== given.x87.ftw;
  const retired = exception ? 0 : 1;
  writer.u8(
    (exception ? CHANGED.exception : 0) |
      (outcome.retired !== retired ? CHANGED.retired : 0) |
      (gpr ? CHANGED.gpr : 0) |
      (outcome.rflags !== given.rflags ? CHANGED.rflags : 0) |
      (xmm ? CHANGED.xmm : 0) |
      (outcome.mxcsr !== given.mxcsr ? CHANGED.mxcsr : 0) |
      (words ? CHANGED.words : 0) |
      (st ? CHANGED.st : 0),
  );
  const distance = outcome.rip - given.at;
  if (distance >= 0n && distance < FAR) writer.u8(Number(distance));
  else {
    writer.u8(FAR);
    writer.u64(outcome.rip);
  }
  if (exception) {
    writer.u8(exception.vector);
    writer.u16(exception.errorCode);
    if (exception.vector === 14) writer.u64(exception.cr2);
  }
  if (outcome.retired !== retired) writeShort(writer, outcome.retired);
  if (gpr) {
    writer.u16(gpr);
    for (const index of bits(gpr)) writer.u64(outcome.gpr[index]!);
  }
  // All flags that user code can change lie in three bytes.
  if (outcome.rflags !== given.rflags) writeShort(writer, Number(outcome.rflags));
  if (xmm) {
    writer.u16(xmm);
    for (const index of bits(xmm)) {
      writer.u64(outcome.xmm[index]!);
      writer.u64(outcome.xmm[index]! >> 64n);
    }
  }
  if (outcome.mxcsr !== given.mxcsr) writer.u16(outcome.mxcsr);
  if (words) {
    writer.u16(fcw);
    writer.u16(fsw);
    writer.u8(ftw);
  }
  if (st) {
    writer.u8(st);
    for (const index of bits(st)) {
      writer.u64(stackAfter[index]!);
      writer.u16(Number(stackAfter[index]! >> 64n));
    }
  }
  writeMemory(writer, given, outcome);
}

export function readAnswer(reader: ByteReader, given: SiliconCase): StepOutcome {
  const changed = reader.u8();
  const distance = reader.u8();
  const rip = distance === FAR ? reader.u64() : given.at + BigInt(distance);
  let exception: StepOutcome['exception'] = null;
  if (changed & CHANGED.exception) {
    const vector = reader.u8();
    const errorCode = reader.u16();
    exception = { vector, errorCode, cr2: vector === 14 ? reader.u64() : 0n };
  }
  const retired = changed & CHANGED.retired ? readShort(reader) : exception ? 0 : 1;
  const gpr = given.gpr.slice();
  if (changed & CHANGED.gpr) for (const index of bits(reader.u16())) gpr[index] = reader.u64();
  const rflags = changed & CHANGED.rflags ? BigInt(readShort(reader)) : given.rflags;
  const xmm = given.xmm.slice();
  if (changed & CHANGED.xmm) {
    for (const index of bits(reader.u16())) xmm[index] = reader.u64() | (reader.u64() << 64n);
  }
  const mxcsr = changed & CHANGED.mxcsr ? reader.u16() : given.mxcsr;
  const x87 = { fcw: given.x87.fcw, fsw: given.x87.fsw, ftw: given.x87.ftw, st: given.x87.st };
  if (changed & CHANGED.words) {
    x87.fcw = reader.u16();
    x87.fsw = reader.u16();
    x87.ftw = reader.u8();
  }
  const stack = physical(given.x87.st, given.x87.fsw);
  if (changed & CHANGED.st) {
    for (const index of bits(reader.u8())) stack[index] = reader.u64() | (BigInt(reader.u16()) << 64n);
  }
  x87.st = sixteen.slice(0, 8).map((index) => stack[(top(x87.fsw) + index) & 7]!);
  const memory = readMemory(reader, given);
  return { rip, retired, exception, gpr, rflags, xmm, mxcsr, x87, memory };
}

/** Runs of changed bytes: how far behind the last run (chunk after chunk), how many, the bytes. */
function writeMemory(writer: ByteWriter, given: SiliconCase, outcome: StepOutcome): void {
  const runs: [start: number, bytes: Uint8Array][] = [];
  let chunkStart = 0;
  for (const [chunk, { bytes }] of given.memory.entries()) {
    const after = outcome.memory[chunk]!.bytes;
    for (let index = 0; index < bytes.length; index += 1) {
      if (bytes[index] === after[index]) continue;
      let end = index + 1;
      while (end < bytes.length && bytes[end] !== after[end]) end += 1;
      runs.push([chunkStart + index, after.subarray(index, end)]);
      index = end;
    }
    chunkStart += bytes.length;
  }
  writeShort(writer, runs.length);
  let last = 0;
  for (const [start, bytes] of runs) {
    writeShort(writer, start - last);
    writeShort(writer, bytes.length);
    writer.raw(bytes);
    last = start + bytes.length;
  }
}

function readMemory(reader: ByteReader, given: SiliconCase): StepOutcome['memory'] {
  const memory = given.memory.map(({ address, bytes }) => ({ address, bytes: bytes.slice() }));
  let left = readShort(reader);
  let position = 0;
  let chunk = 0;
  let chunkStart = 0;
  for (; left > 0; left -= 1) {
    position += readShort(reader);
    const length = readShort(reader);
    while (position >= chunkStart + memory[chunk]!.bytes.length) {
      chunkStart += memory[chunk]!.bytes.length;
      chunk += 1;
    }
    memory[chunk]!.bytes.set(reader.raw(length), position - chunkStart);
    position += length;
  }
  return memory;
}

function changedMask(before: readonly bigint[], after: readonly bigint[]): number {
  let mask = 0;
  for (const [index, value] of after.entries()) if (value !== before[index]) mask |= 1 << index;
  return mask;
}

function bits(mask: number): number[] {
  return sixteen.filter((index) => (mask >> index) & 1);
}

function top(fsw: number): number {
  return (fsw >> 11) & 7;
}

/** The x87 registers in their fixed order: a push or pop moves none of them. */
function physical(st: readonly bigint[], fsw: number): bigint[] {
  return sixteen.slice(0, 8).map((index) => st[(index - top(fsw)) & 7]!);
}
