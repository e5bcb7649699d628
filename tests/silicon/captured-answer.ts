import type { StepOutcome } from '../../src/host/debug-step/stepped-state.ts';
import type { ByteReader, ByteWriter } from './captured-bytes.ts';
import type { SiliconCase } from './case.ts';

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
  writer.byte(
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
  if (distance >= 0n && distance < FAR) writer.byte(Number(distance));
  else {
    writer.byte(FAR);
    writer.quad(outcome.rip);
  }
  if (exception) {
    writer.byte(exception.vector);
    writer.word(exception.errorCode);
    if (exception.vector === 14) writer.quad(exception.cr2);
  }
  if (outcome.retired !== retired) writer.number(outcome.retired);
  if (gpr) {
    writer.word(gpr);
    for (const index of bits(gpr)) writer.quad(outcome.gpr[index]!);
  }
  // All flags that user code can change lie in three bytes.
  if (outcome.rflags !== given.rflags) writer.number(Number(outcome.rflags));
  if (xmm) {
    writer.word(xmm);
    for (const index of bits(xmm)) {
      writer.quad(outcome.xmm[index]!);
      writer.quad(outcome.xmm[index]! >> 64n);
    }
  }
  if (outcome.mxcsr !== given.mxcsr) writer.word(outcome.mxcsr);
  if (words) {
    writer.word(fcw);
    writer.word(fsw);
    writer.byte(ftw);
  }
  if (st) {
    writer.byte(st);
    for (const index of bits(st)) {
      writer.quad(stackAfter[index]!);
      writer.word(Number(stackAfter[index]! >> 64n));
    }
  }
  writeMemory(writer, given, outcome);
}

export function readAnswer(reader: ByteReader, given: SiliconCase): StepOutcome {
  const changed = reader.byte();
  const distance = reader.byte();
  const rip = distance === FAR ? reader.quad() : given.at + BigInt(distance);
  let exception: StepOutcome['exception'] = null;
  if (changed & CHANGED.exception) {
    const vector = reader.byte();
    const errorCode = reader.word();
    exception = { vector, errorCode, cr2: vector === 14 ? reader.quad() : 0n };
  }
  const retired = changed & CHANGED.retired ? reader.number() : exception ? 0 : 1;
  const gpr = given.gpr.slice();
  if (changed & CHANGED.gpr) for (const index of bits(reader.word())) gpr[index] = reader.quad();
  const rflags = changed & CHANGED.rflags ? BigInt(reader.number()) : given.rflags;
  const xmm = given.xmm.slice();
  if (changed & CHANGED.xmm) {
    for (const index of bits(reader.word())) xmm[index] = reader.quad() | (reader.quad() << 64n);
  }
  const mxcsr = changed & CHANGED.mxcsr ? reader.word() : given.mxcsr;
  const x87 = { fcw: given.x87.fcw, fsw: given.x87.fsw, ftw: given.x87.ftw, st: given.x87.st };
  if (changed & CHANGED.words) {
    x87.fcw = reader.word();
    x87.fsw = reader.word();
    x87.ftw = reader.byte();
  }
  const stack = physical(given.x87.st, given.x87.fsw);
  if (changed & CHANGED.st) {
    for (const index of bits(reader.byte())) stack[index] = reader.quad() | (BigInt(reader.word()) << 64n);
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
  writer.number(runs.length);
  let last = 0;
  for (const [start, bytes] of runs) {
    writer.number(start - last);
    writer.number(bytes.length);
    writer.run(bytes);
    last = start + bytes.length;
  }
}

function readMemory(reader: ByteReader, given: SiliconCase): StepOutcome['memory'] {
  const memory = given.memory.map(({ address, bytes }) => ({ address, bytes: bytes.slice() }));
  let left = reader.number();
  let position = 0;
  let chunk = 0;
  let chunkStart = 0;
  for (; left > 0; left -= 1) {
    position += reader.number();
    const length = reader.number();
    while (position >= chunkStart + memory[chunk]!.bytes.length) {
      chunkStart += memory[chunk]!.bytes.length;
      chunk += 1;
    }
    memory[chunk]!.bytes.set(reader.run(length), position - chunkStart);
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
