import type { GuestMemory } from '../device.ts';

/** A stretch of guest memory named by one descriptor. Whether it is RAM shows when it is read or written. */
export interface Segment {
  readonly address: number;
  readonly length: number;
}

/**
 * A descriptor chain: what the device may read, then what it may write [virtio 2.7.4.2]. Drivers cut buffers
 * as they like, so devices address bytes of the whole chain and never single descriptors [virtio 2.7.4].
 */
export interface Chain {
  readonly kind: 'chain';
  /** Index of the first descriptor: the chain's name in the used ring. */
  readonly head: number;
  readonly readable: readonly Segment[];
  readonly writable: readonly Segment[];
  readonly readableLength: number;
  readonly writableLength: number;
}

/** The driver broke a rule of the queue: the device needs a reset [virtio 2.1.2]. */
export interface QueueFault {
  readonly kind: 'fault';
  readonly reason: string;
}

export function queueFault(reason: string): QueueFault {
  return { kind: 'fault', reason };
}

export interface ChainRules {
  /** Indirect descriptors were negotiated. */
  readonly indirect: boolean;
  /** Longest chain taken, in descriptors; also bounds loops inside an indirect table. */
  readonly lengthMax: number;
}

export interface DescriptorTable {
  readonly address: number;
  readonly size: number;
}

const DESCRIPTOR_BYTES = 16;
const NEXT = 1;
const WRITE = 2;
const INDIRECT = 4;

/** Physical addresses at and above this are not RAM on any machine, and below it a number is exact. */
const ADDRESS_HIGH_END = 2 ** 20;

/** No device has a use for a longer copy; each has a smaller limit of its own. */
const COPY_BYTES_MAX = 64 * 2 ** 20;

/** Follows a chain from its head [virtio 2.7.5]. Touches nothing but the descriptors. */
export function readChain(
  memory: GuestMemory,
  queueTable: DescriptorTable,
  head: number,
  rules: ChainRules,
): Chain | QueueFault {
  const readable: Segment[] = [];
  const writable: Segment[] = [];
  let readableLength = 0;
  let writableLength = 0;
  let table = queueTable;
  let insideIndirect = false;
  let index = head;
  // A chain of more descriptors than its table holds passes one of them twice: a loop.
  let budget = Math.min(table.size, rules.lengthMax);
  for (;;) {
    if (index >= table.size) return queueFault(`descriptor ${index} is outside the table`);
    if (budget === 0) return queueFault('descriptor chain is too long or loops');
    budget -= 1;
    const at = table.address + index * DESCRIPTOR_BYTES;
    const low = memory.readU32(at);
    const high = memory.readU32(at + 4);
    const length = memory.readU32(at + 8);
    const flagsAndNext = memory.readU32(at + 12);
    if (low === undefined || high === undefined || length === undefined || flagsAndNext === undefined) {
      return queueFault('descriptor is not in RAM');
    }
    if (high >= ADDRESS_HIGH_END) return queueFault('buffer address is out of range');
    const address = high * 2 ** 32 + low;
    const flags = flagsAndNext & 0xffff;
    if (flags & INDIRECT) {
      if (!rules.indirect) return queueFault('indirect descriptor was not negotiated');
      if (insideIndirect) return queueFault('indirect descriptor inside an indirect table');
      if (flags & NEXT) return queueFault('indirect descriptor with a next one');
      const size = length / DESCRIPTOR_BYTES;
      if (!Number.isInteger(size) || size === 0) return queueFault('indirect table has a bad length');
      table = { address, size };
      insideIndirect = true;
      index = 0;
      budget = Math.min(size, rules.lengthMax);
      continue;
    }
    if (length === 0) return queueFault('zero-length buffer');
    if (flags & WRITE) {
      writable.push({ address, length });
      writableLength += length;
    } else {
      if (writable.length > 0) return queueFault('readable buffer after a writable one');
      readable.push({ address, length });
      readableLength += length;
    }
    if (!(flags & NEXT)) break;
    index = flagsAndNext >>> 16;
  }
  return { kind: 'chain', head, readable, writable, readableLength, writableLength };
}

/** Copies `length` bytes out of the segments from `start` on; undefined when a part is missing or not RAM. */
export function gather(
  memory: GuestMemory,
  segments: readonly Segment[],
  start: number,
  length: number,
): Uint8Array | undefined {
  const first = segments[0];
  // Refuse before allocating: the length is the guest's and may be terabytes.
  if (length > COPY_BYTES_MAX) return undefined;
  if (first !== undefined && start + length <= first.length)
    return memory.read(first.address + start, length);
  if (start + length > total(segments)) return undefined;
  const bytes = new Uint8Array(length);
  let done = 0;
  let skip = start;
  for (const segment of segments) {
    if (done === length) break;
    if (skip >= segment.length) {
      skip -= segment.length;
      continue;
    }
    const part = memory.read(segment.address + skip, Math.min(segment.length - skip, length - done));
    if (part === undefined) return undefined;
    bytes.set(part, done);
    done += part.length;
    skip = 0;
  }
  return bytes;
}

/** Copies bytes into the segments from `start` on; false when a part is missing or not RAM. */
export function scatter(
  memory: GuestMemory,
  segments: readonly Segment[],
  start: number,
  bytes: Uint8Array,
): boolean {
  let done = 0;
  let skip = start;
  for (const segment of segments) {
    if (done === bytes.length) break;
    if (skip >= segment.length) {
      skip -= segment.length;
      continue;
    }
    const count = Math.min(segment.length - skip, bytes.length - done);
    if (!memory.write(segment.address + skip, bytes.subarray(done, done + count))) return false;
    done += count;
    skip = 0;
  }
  return done === bytes.length;
}

function total(segments: readonly Segment[]): number {
  return segments.reduce((sum, segment) => sum + segment.length, 0);
}
