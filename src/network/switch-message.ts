import { type Epoch, epoch } from '../ft/identity.ts';
import { FRAME_LENGTH_MAX } from './frame-stream.ts';

/**
 * Between a VM process and the switch: the magic once, then messages in stream framing, each with its tag first.
 * As a frame's length the magic would be far too long, so a plain QEMU peer on the same port is told apart.
 */
export const SWITCH_MAGIC = Buffer.from('LOCKSTEPNET1');

export const SWITCH_MESSAGE_LENGTH_MAX = FRAME_LENGTH_MAX + 16;

const TAG = { open: 1, frame: 2, announce: 3, opened: 4, refused: 5, delivered: 6 } as const;

export type SwitchMessage =
  /** To the switch: this connection is this interface of this VM in this epoch. May come again with a newer one. */
  | { readonly kind: 'open'; readonly vm: string; readonly nic: number; readonly epoch: Epoch }
  | { readonly kind: 'frame'; readonly output: bigint; readonly frame: Uint8Array }
  | { readonly kind: 'announce'; readonly mac: Uint8Array }
  /** From the switch. */
  | { readonly kind: 'opened'; readonly epoch: Epoch }
  | { readonly kind: 'refused'; readonly epoch: Epoch }
  | { readonly kind: 'delivered'; readonly frame: Uint8Array };

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
      const bytes = Buffer.allocUnsafe(9 + message.frame.length);
      bytes.writeUInt8(TAG.frame, 0);
      bytes.writeBigUInt64BE(message.output, 1);
      bytes.set(message.frame, 9);
      return bytes;
    }
    case 'announce':
      return Buffer.concat([Buffer.of(TAG.announce), message.mac]);
    case 'opened':
    case 'refused': {
      const bytes = Buffer.alloc(9);
      bytes.writeUInt8(TAG[message.kind], 0);
      bytes.writeBigUInt64BE(BigInt(message.epoch), 1);
      return bytes;
    }
    case 'delivered':
      return Buffer.concat([Buffer.of(TAG.delivered), message.frame]);
  }
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
    case TAG.announce:
      return bytes.length === 7 ? { kind: 'announce', mac: bytes.subarray(1) } : undefined;
    case TAG.opened: {
      const at = epochAt(bytes, 1);
      return at === undefined ? undefined : { kind: 'opened', epoch: at };
    }
    case TAG.refused: {
      const at = epochAt(bytes, 1);
      return at === undefined ? undefined : { kind: 'refused', epoch: at };
    }
    case TAG.delivered:
      return { kind: 'delivered', frame: bytes.subarray(1) };
    default:
      return undefined;
  }
}

function epochAt(bytes: Buffer, at: number): Epoch | undefined {
  if (bytes.length < at + 8) return undefined;
  const value = Number(bytes.readBigUInt64BE(at));
  return Number.isSafeInteger(value) ? epoch(value) : undefined;
}
