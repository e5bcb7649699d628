import { OFFLOAD_BYTES, type Packet, readOffload, writeOffload } from '../base/packet/offload.ts';
import { type Epoch, epoch } from '../ft/identity.ts';
import { FRAME_LENGTH_MAX } from './frame-stream.ts';

/**
 * Between a VM process and the switch: the magic once, then messages in stream framing, each with its tag first.
 * As a frame's length the magic would be far too long, so a plain QEMU peer on the same port is told apart.
 */
export const SWITCH_MAGIC = Buffer.from('LOCKSTEPNET1');

export const SWITCH_MESSAGE_LENGTH_MAX = FRAME_LENGTH_MAX + 32;

const TAG = {
  open: 1,
  frame: 2,
  announce: 3,
  opened: 4,
  refused: 5,
  delivered: 6,
  'takes-offloads': 7,
  'frame-with-offload': 8,
  'delivered-with-offload': 9,
} as const;

/** In the byte behind an opened's epoch, which older programs do not look at. */
const OFFLOADS = 1;

export type SwitchMessage =
  /** To the switch: this connection is this interface of this VM in this epoch. May come again with a newer one. */
  | { readonly kind: 'open'; readonly vm: string; readonly nic: number; readonly epoch: Epoch }
  | ({ readonly kind: 'frame'; readonly output: bigint } & Packet)
  | { readonly kind: 'announce'; readonly mac: Uint8Array }
  /** To a switch that has said the same in its opened: from now on frames may come with offloads. */
  | { readonly kind: 'takes-offloads' }
  /** From the switch. */
  | { readonly kind: 'opened'; readonly epoch: Epoch; readonly offloads: boolean }
  | { readonly kind: 'refused'; readonly epoch: Epoch }
  | ({ readonly kind: 'delivered' } & Packet);

/** Without the length in front. */
export function encodeSwitchMessage(message: SwitchMessage): Buffer {
  switch (message.kind) {
    case 'open': {
      const vm = Buffer.from(message.vm);
      const bytes = Buffer.alloc(10);
      bytes.writeUInt8(TAG.open, 0);
      bytes.writeUInt8(message.nic, 1);
      bytes.writeBigUInt64BE(BigInt(message.epoch), 2);
      return Buffer.concat([bytes, vm]);
    }
    case 'frame': {
      const bytes = withPacket(message.offload ? TAG['frame-with-offload'] : TAG.frame, 9, message);
      bytes.writeBigUInt64BE(message.output, 1);
      return bytes;
    }
    case 'takes-offloads':
      return Buffer.of(TAG['takes-offloads']);
    case 'announce':
      return Buffer.concat([Buffer.of(TAG.announce), message.mac]);
    case 'opened':
    case 'refused': {
      const bytes = Buffer.alloc(message.kind === 'opened' ? 10 : 9);
      bytes.writeUInt8(TAG[message.kind], 0);
      bytes.writeBigUInt64BE(BigInt(message.epoch), 1);
      if (message.kind === 'opened') bytes.writeUInt8(message.offloads ? OFFLOADS : 0, 9);
      return bytes;
    }
    case 'delivered':
      return withPacket(message.offload ? TAG['delivered-with-offload'] : TAG.delivered, 1, message);
  }
}

/** So many bytes of head, the first of them the tag; the offload if there is one; the frame. */
function withPacket(tag: number, head: number, packet: Packet): Buffer {
  const at = head + (packet.offload ? OFFLOAD_BYTES : 0);
  const bytes = Buffer.allocUnsafe(at + packet.frame.length);
  bytes.writeUInt8(tag, 0);
  if (packet.offload) writeOffload(bytes, head, packet);
  bytes.set(packet.frame, at);
  return bytes;
}

/** The packet behind a head of so many bytes; undefined when its offload is none, or does not fit it. */
function packetBehind(bytes: Buffer, head: number): Packet | undefined {
  const at = head + OFFLOAD_BYTES;
  if (bytes.length < at) return undefined;
  const frame = bytes.subarray(at);
  const reading = readOffload(bytes.subarray(head, at), frame);
  return reading.fits && reading.offload !== undefined ? { frame, offload: reading.offload } : undefined;
}

/** Undefined when the bytes are no message. */
export function decodeSwitchMessage(bytes: Buffer): SwitchMessage | undefined {
  if (bytes.length === 0) return undefined;
  switch (bytes.readUInt8(0)) {
    case TAG.open: {
      const at = epochAt(bytes, 2);
      const vm = bytes.toString('utf8', 10);
      if (at === undefined || vm === '' || vm.length > 256) return undefined;
      return { kind: 'open', vm, nic: bytes.readUInt8(1), epoch: at };
    }
    case TAG.frame:
      if (bytes.length < 9) return undefined;
      return { kind: 'frame', output: bytes.readBigUInt64BE(1), frame: bytes.subarray(9) };
    case TAG['frame-with-offload']: {
      const packet = packetBehind(bytes, 9);
      return packet && { kind: 'frame', output: bytes.readBigUInt64BE(1), ...packet };
    }
    case TAG['takes-offloads']:
      return bytes.length === 1 ? { kind: 'takes-offloads' } : undefined;
    case TAG.announce:
      return bytes.length === 7 ? { kind: 'announce', mac: bytes.subarray(1) } : undefined;
    case TAG.opened: {
      const at = epochAt(bytes, 1);
      const offloads = ((bytes[9] ?? 0) & OFFLOADS) !== 0;
      return at === undefined ? undefined : { kind: 'opened', epoch: at, offloads };
    }
    case TAG.refused: {
      const at = epochAt(bytes, 1);
      return at === undefined ? undefined : { kind: 'refused', epoch: at };
    }
    case TAG.delivered:
      return { kind: 'delivered', frame: bytes.subarray(1) };
    case TAG['delivered-with-offload']: {
      const packet = packetBehind(bytes, 1);
      return packet && { kind: 'delivered', ...packet };
    }
    default:
      return undefined;
  }
}

function epochAt(bytes: Buffer, at: number): Epoch | undefined {
  if (bytes.length < at + 8) return undefined;
  const value = Number(bytes.readBigUInt64BE(at));
  return Number.isSafeInteger(value) ? epoch(value) : undefined;
}
