import { assert, unreachable } from '../base/assert.ts';
import { ByteReader, ByteWriter, TruncatedError } from '../base/bytes.ts';
import { OFFLOAD_BYTES, offloadHeader, type Packet, readOffload } from '../base/packet/offload.ts';
import { failed, ok, type Result } from '../base/result.ts';
import { guestNanoseconds, instructionCount } from '../base/units.ts';
import type { ControlInput, DiskCompletedInput, DiskOperationKind, Input, Output } from '../machine/door.ts';
import { FRAME_HEADER_BYTES, FRAME_TAG, type Frame, finishFrame } from './frame.ts';
import type { LogEntry, LogPayload } from './log-entry.ts';

/** Log entries to frames and back. Decoding is strict: every byte has to mean something. */

const DISK_STATUS = ['ok', 'error'] as const satisfies readonly DiskCompletedInput['status'][];
const CONTROL_ACTION = [
  'power-button',
  'power-off',
  'reset',
  'pause',
  'resume',
  'restart',
  'end-protection',
  'limit',
  'disconnect',
  'connect',
] as const satisfies readonly ControlInput['action'][];
const OUTPUT_KIND = [
  'frame',
  'disk-request',
  'console',
  'power',
] as const satisfies readonly Output['kind'][];
const DIGEST_PARTS_MAX = 1024;
/** A live machine's rates have sixteen fractional bits, its caps lie whole milliseconds ahead. */
const RATE_UNIT = 1n << 16n;
const CAP_UNIT = 1_000_000n;
const END_REASON = ['powered-off', 'stopped', 'handed-over'] as const;
const DISK_OPERATION = [
  'read',
  'write',
  'flush',
  'discard',
  'write-zeroes',
] as const satisfies readonly DiskOperationKind[];
const POWER_STATE = ['off', 'reset', 'debug-exit', 'triple-fault'] as const;

export function encodeEntry(entry: LogEntry): Uint8Array {
  // Room for all of it at once: a long packet is not copied as it is written.
  const writer = new ByteWriter(128 + dataBytes(entry)).raw(FRAME_HEADER).varint(entry.sequence);
  const tag = writePayload(writer.varint(entry.at), entry);
  return finishFrame(tag, writer.take());
}

/** Where the frame's header comes. */
const FRAME_HEADER = new Uint8Array(FRAME_HEADER_BYTES);

/** About how long the variable part is. */
function dataBytes(entry: LogPayload): number {
  if (entry.kind === 'digest') return entry.parts?.length ?? 0;
  if (entry.kind !== 'input') return 0;
  switch (entry.input.kind) {
    case 'frame':
      return entry.input.frame.length;
    case 'disk-completed':
      return entry.input.data.length;
    case 'console':
      return entry.input.bytes.length;
    default:
      return 0;
  }
}

function writePayload(body: ByteWriter, entry: LogPayload): number {
  switch (entry.kind) {
    case 'input':
      return entry.afterHalt ? writeAfterHalt(body, entry.input) : writeInput(body, entry.input);
    case 'read-reference':
      body.u8(entry.disk).uint(entry.request).uint(entry.length).raw(hexBytes(entry.hash));
      return FRAME_TAG['read-reference'];
    case 'output-mark':
      body.varint(entry.output).u8(OUTPUT_KIND.indexOf(entry.outputKind)).raw(hexBytes(entry.hash));
      return FRAME_TAG['output-mark'];
    case 'released':
      body.varint(entry.output);
      return FRAME_TAG.released;
    case 'digest':
      body.raw(hexBytes(entry.digest));
      if (entry.parts) body.raw(entry.parts);
      return FRAME_TAG.digest;
    case 'end':
      body.u8(END_REASON.indexOf(entry.reason));
      return FRAME_TAG.end;
    default:
      return unreachable(entry);
  }
}

function writeAfterHalt(body: ByteWriter, input: Input): number {
  assert(input.kind === 'clock', 'a wake from a halt begins with a clock entry');
  writeInput(body, input);
  return FRAME_TAG['clock-after-halt'];
}

function writeInput(body: ByteWriter, input: Input): number {
  switch (input.kind) {
    case 'clock':
      // The cap lies a little above guest time, so the difference is shorter.
      body.varint(input.guestTime);
      writeMultiple(body, input.rate, RATE_UNIT);
      writeMultiple(body, BigInt.asUintN(64, input.cap - input.guestTime), CAP_UNIT);
      return FRAME_TAG.clock;
    case 'frame':
      writePacket(body.u8(input.nic), input);
      return FRAME_TAG.frame;
    case 'disk-completed':
      body.u8(input.disk).uint(input.request).u8(DISK_STATUS.indexOf(input.status)).bytes(input.data);
      return FRAME_TAG['disk-completed'];
    case 'console':
      body.u8(input.port).bytes(input.bytes);
      return FRAME_TAG.console;
    case 'entropy':
      body.bytes(input.seed);
      return FRAME_TAG.entropy;
    case 'control':
      body.u8(CONTROL_ACTION.indexOf(input.action));
      if (input.action === 'limit') body.u8(input.cpuPercent);
      else if (input.action === 'disconnect' || input.action === 'connect') body.u8(input.nic);
      return FRAME_TAG.control;
    default:
      return unreachable(input);
  }
}

/** Whether there is an offload, its ten bytes if there is, the frame. */
function writePacket(body: ByteWriter, packet: Packet): ByteWriter {
  body.bool(packet.offload !== undefined);
  if (packet.offload !== undefined) body.raw(offloadHeader(packet));
  return body.bytes(packet.frame);
}

function readPacket(body: ByteReader): Packet {
  const flag = body.u8();
  if (flag > 1) throw new TruncatedError('a frame has an offload or has none');
  if (flag === 0) return { frame: body.bytes() };
  const header = body.raw(OFFLOAD_BYTES);
  const frame = body.bytes();
  const reading = readOffload(header, frame);
  if (!reading.fits || reading.offload === undefined)
    throw new TruncatedError('an offload does not fit its frame');
  const packet = { frame, offload: reading.offload };
  // One spelling for each offload.
  if (offloadHeader(packet).some((byte, index) => byte !== header[index]))
    throw new TruncatedError('an offload has bits that mean nothing');
  return packet;
}

/** Numbers that are usually multiples: how many units, plus one; or a zero and the number itself. */
function writeMultiple(body: ByteWriter, value: bigint, unit: bigint): void {
  if (value % unit === 0n) body.varint(value / unit + 1n);
  else body.varint(0n).varint(value);
}

function readMultiple(body: ByteReader, unit: bigint): bigint {
  const units = body.varint();
  if (units > 0n) {
    const value = (units - 1n) * unit;
    if (value >= 1n << 64n) throw new TruncatedError('integer out of range');
    return value;
  }
  const value = body.varint();
  if (value % unit === 0n) throw new TruncatedError('a multiple is not written as one');
  return value;
}

export function decodeEntry(frame: Frame): Result<LogEntry> {
  const body = new ByteReader(frame.body);
  let place = 'a log entry';
  try {
    const sequence = body.varint();
    const at = instructionCount(body.varint());
    place = `log entry ${sequence} at count ${at}`;
    const payload = readPayload(frame.tag, body);
    if (payload === undefined) return failed(`${place} has the unknown tag ${frame.tag}`);
    if (body.remaining > 0) return failed(`${place} has ${body.remaining} bytes too many`);
    return ok({ sequence, at, ...payload });
  } catch (error) {
    if (error instanceof TruncatedError) return failed(`${place} is malformed: ${error.message}`);
    throw error;
  }
}

function readPayload(tag: number, body: ByteReader): LogPayload | undefined {
  switch (tag) {
    case FRAME_TAG['read-reference']:
      return {
        kind: 'read-reference',
        disk: body.u8(),
        request: body.uint(),
        length: body.uint(),
        hash: hexText(body.raw(16)),
      };
    case FRAME_TAG['output-mark']:
      return {
        kind: 'output-mark',
        output: body.varint(),
        outputKind: choice(body, OUTPUT_KIND),
        hash: hexText(body.raw(16)),
      };
    case FRAME_TAG.released:
      return { kind: 'released', output: body.varint() };
    case FRAME_TAG.digest:
      return readDigest(body);
    case FRAME_TAG.end:
      return { kind: 'end', reason: choice(body, END_REASON) };
    case FRAME_TAG['clock-after-halt']: {
      const input = readInput(FRAME_TAG.clock, body);
      return input && { kind: 'input', input, afterHalt: true };
    }
    default: {
      const input = readInput(tag, body);
      return input && { kind: 'input', input };
    }
  }
}

function readDigest(body: ByteReader): LogPayload {
  const digest = hexText(body.raw(16));
  if (body.remaining === 0) return { kind: 'digest', digest };
  if (body.remaining > DIGEST_PARTS_MAX) throw new TruncatedError('the parts of a digest are too many');
  return { kind: 'digest', digest, parts: body.raw(body.remaining) };
}

function readInput(tag: number, body: ByteReader): Input | undefined {
  switch (tag) {
    case FRAME_TAG.clock: {
      const guestTime = guestNanoseconds(body.varint());
      const rate = readMultiple(body, RATE_UNIT);
      const cap = guestNanoseconds(BigInt.asUintN(64, guestTime + readMultiple(body, CAP_UNIT)));
      return { kind: 'clock', guestTime, rate, cap };
    }
    case FRAME_TAG.frame:
      return { kind: 'frame', nic: body.u8(), ...readPacket(body) };
    case FRAME_TAG['disk-completed']:
      return {
        kind: 'disk-completed',
        disk: body.u8(),
        request: body.uint(),
        status: choice(body, DISK_STATUS),
        data: body.bytes(),
      };
    case FRAME_TAG.console:
      return { kind: 'console', port: body.u8(), bytes: body.bytes() };
    case FRAME_TAG.entropy:
      return { kind: 'entropy', seed: body.bytes() };
    case FRAME_TAG.control:
      return readControl(body);
    default:
      return undefined;
  }
}

function readControl(body: ByteReader): ControlInput {
  const action = choice(body, CONTROL_ACTION);
  if (action === 'disconnect' || action === 'connect') return { kind: 'control', action, nic: body.u8() };
  if (action !== 'limit') return { kind: 'control', action };
  const cpuPercent = body.u8();
  if (cpuPercent < 1 || cpuPercent > 100) throw new TruncatedError(`${cpuPercent} is no share in percent`);
  return { kind: 'control', action, cpuPercent };
}

/** An output's content, for its hash and for the hold queue inside a snapshot. */
export function encodeOutput(output: Output): Uint8Array {
  const data = 'frame' in output ? output.frame : 'data' in output ? output.data : undefined;
  const body = new ByteWriter(128 + (data?.length ?? 0)).u8(OUTPUT_KIND.indexOf(output.kind));
  switch (output.kind) {
    case 'frame':
      return writePacket(body.u8(output.nic), output).take();
    case 'disk-request':
      body.u8(output.disk).uint(output.request).u8(DISK_OPERATION.indexOf(output.operation));
      return body.uint(output.offset).uint(output.length).bytes(output.data).take();
    case 'console':
      return body.u8(output.port).bytes(output.bytes).finish();
    case 'power':
      return body.u8(POWER_STATE.indexOf(output.state)).u32(output.value).finish();
    default:
      return unreachable(output);
  }
}

/** Throws TruncatedError on anything that encodeOutput did not write. */
export function decodeOutput(bytes: Uint8Array): Output {
  const body = new ByteReader(bytes);
  const output = readOutput(choice(body, OUTPUT_KIND), body);
  if (body.remaining > 0) throw new TruncatedError('an output has bytes too many');
  return output;
}

function readOutput(kind: Output['kind'], body: ByteReader): Output {
  switch (kind) {
    case 'frame':
      return { kind, nic: body.u8(), ...readPacket(body) };
    case 'disk-request':
      return {
        kind,
        disk: body.u8(),
        request: body.uint(),
        operation: choice(body, DISK_OPERATION),
        offset: body.uint(),
        length: body.uint(),
        data: body.bytes(),
      };
    case 'console':
      return { kind, port: body.u8(), bytes: body.bytes() };
    case 'power':
      return { kind, state: choice(body, POWER_STATE), value: body.u32() };
    default:
      return unreachable(kind);
  }
}

function choice<Value>(body: ByteReader, values: readonly Value[]): Value {
  const index = body.u8();
  const value = values[index];
  if (value === undefined) throw new TruncatedError(`${index} is not one of ${values.length} known values`);
  return value;
}

/** 32 hexadecimal digits as 16 bytes. */
export function hexBytes(text: string): Uint8Array {
  const bytes = new Uint8Array(16);
  for (let index = 0; index < 16; index++)
    bytes[index] = Number.parseInt(text.slice(index * 2, index * 2 + 2), 16);
  return bytes;
}

export function hexText(bytes: Uint8Array): string {
  let text = '';
  for (const byte of bytes) text += byte.toString(16).padStart(2, '0');
  return text;
}
