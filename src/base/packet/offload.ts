import { tcpLayoutOf } from './tcp-layout.ts';

/**
 * What the sender of a frame has left for later: a checksum, and the cutting into segments [virtio 5.1.6.2]. It travels
 * with the frame as the first ten bytes of virtio's header, which Linux's TAPs have too.
 */
export interface Offload {
  /** The sum of all bytes from here on goes to `checksumStart + checksumOffset`, where the pseudo header's sum is. */
  readonly checksumStart: number;
  readonly checksumOffset: number;
  /** Payload of each TCP segment, the last one's may be less; 0: the frame is not cut. */
  readonly segmentBytes: number;
  readonly segments: 'none' | 'tcp4' | 'tcp6';
  /** The first segment alone says that the congestion window was reduced [RFC 3168 6.1.2]. */
  readonly ecn: boolean;
}

/** A frame, without frame check sequence, and what is left to do to it. */
export interface Packet {
  readonly frame: Uint8Array;
  readonly offload?: Offload | undefined;
}

/** struct virtio_net_hdr without num_buffers [virtio 5.1.6]; little-endian. */
export const OFFLOAD_BYTES = 10;

const NEEDS_CHECKSUM = 1;
const SEGMENTS = { none: 0, tcp4: 1, tcp6: 4 } as const;
const ECN = 0x80;
const TCP_CHECKSUM_AT = 16;
/** A packet is cut into no more: Linux cuts into 46 usually, 1,365 for a peer that takes 48 bytes at once. */
export const SEGMENTS_MAX = 2048;
/**
 * Headers of a packet that is cut, which each of its segments has again. 138 is the longest without extensions of IPv6;
 * with them one packet of 64 KiB could become 17 MB.
 */
export const SEGMENT_HEADERS_MAX = 256;

export type OffloadReading =
  /** `offload` undefined: the frame is an ordinary one. */
  { readonly fits: true; readonly offload: Offload | undefined } | { readonly fits: false };

const UNFIT: OffloadReading = { fits: false };
const ORDINARY: OffloadReading = { fits: true, offload: undefined };

/**
 * What the ten bytes ask for, if the frame is one that it can be done to. hdr_len is a hint and is not looked at
 * [virtio 5.1.6.2.2]; flags that are not known are ignored.
 */
export function readOffload(header: Uint8Array, frame: Uint8Array): OffloadReading {
  const kind = header[1]! & ~ECN;
  const needsChecksum = (header[0]! & NEEDS_CHECKSUM) !== 0;
  const ecn = (header[1]! & ECN) !== 0;
  if (!needsChecksum) return kind === SEGMENTS.none && !ecn ? ORDINARY : UNFIT;
  const checksumStart = header[6]! | (header[7]! << 8);
  const checksumOffset = header[8]! | (header[9]! << 8);
  if (checksumStart + checksumOffset + 2 > frame.length) return UNFIT;
  if (kind === SEGMENTS.none) {
    if (ecn) return UNFIT;
    return {
      fits: true,
      offload: { checksumStart, checksumOffset, segmentBytes: 0, segments: 'none', ecn },
    };
  }
  const segments = kind === SEGMENTS.tcp4 ? 'tcp4' : kind === SEGMENTS.tcp6 ? 'tcp6' : undefined;
  const segmentBytes = header[4]! | (header[5]! << 8);
  const layout = tcpLayoutOf(frame);
  if (segments === undefined || segmentBytes === 0 || layout === undefined) return UNFIT;
  const version = segments === 'tcp4' ? 4 : 6;
  const wellPlaced = checksumStart === layout.tcp && checksumOffset === TCP_CHECKSUM_AT;
  if (layout.version !== version || layout.end !== frame.length || !wellPlaced) return UNFIT;
  if (layout.payload > SEGMENT_HEADERS_MAX) return UNFIT;
  if (layout.end - layout.payload > SEGMENTS_MAX * segmentBytes) return UNFIT;
  return { fits: true, offload: { checksumStart, checksumOffset, segmentBytes, segments, ecn } };
}

/** The ten bytes of a packet. */
export function offloadHeader(packet: Packet): Uint8Array {
  const header = new Uint8Array(OFFLOAD_BYTES);
  writeOffload(header, 0, packet);
  return header;
}

/** Ten bytes at `at`; all zero for an ordinary frame. */
export function writeOffload(header: Uint8Array, at: number, { frame, offload }: Packet): void {
  if (offload === undefined) {
    header.fill(0, at, at + OFFLOAD_BYTES);
    return;
  }
  const { checksumStart, checksumOffset, segmentBytes, segments, ecn } = offload;
  header[at] = NEEDS_CHECKSUM;
  header[at + 1] = SEGMENTS[segments] | (ecn ? ECN : 0);
  const headers = segments === 'none' ? 0 : checksumStart + (frame[checksumStart + 12]! >> 4) * 4;
  [headers, segmentBytes, checksumStart, checksumOffset].forEach((value, index) => {
    header[at + 2 + 2 * index] = value & 0xff;
    header[at + 3 + 2 * index] = value >>> 8;
  });
}
