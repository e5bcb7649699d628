import { checksumOf, onesSum, readLong, readWord, writeLong, writeWord } from './checksum.ts';
import type { Offload, Packet } from './offload.ts';
import { pseudoHeaderSum, type TcpLayout, tcpLayoutOf } from './tcp-layout.ts';

/** Does what an offload has left for later: ordinary frames with right checksums. Pure: the same bytes everywhere. */

const TCP_CHECKSUM_AT = 16;
const FLAGS_AT = 13;
const FLAG = { fin: 1, push: 8, windowReduced: 0x80 } as const;

/** What a wire carries in place of this packet. */
export function wireFrames({ frame, offload }: Packet): readonly Uint8Array[] {
  if (offload === undefined) return [frame];
  if (offload.segments === 'none') return [withChecksum(frame, offload)];
  const layout = tcpLayoutOf(frame);
  // Whoever made the offload has looked: it cannot be anything else.
  return layout === undefined ? [] : segmentsOf(frame, layout, offload.segmentBytes);
}

/** The packet in one frame, however long, with right checksums: for peers that know no longest frame. */
export function wholeFrame({ frame, offload }: Packet): Uint8Array {
  if (offload === undefined) return frame;
  if (offload.segments === 'none') return withChecksum(frame, offload);
  const layout = tcpLayoutOf(frame);
  const whole = frame.slice();
  if (layout !== undefined) finish(whole, layout);
  return whole;
}

function withChecksum(frame: Uint8Array, { checksumStart, checksumOffset }: Offload): Uint8Array {
  const whole = frame.slice();
  writeWord(whole, checksumStart + checksumOffset, checksumOf(onesSum(whole, checksumStart, whole.length)));
  return whole;
}

function segmentsOf(frame: Uint8Array, layout: TcpLayout, segmentBytes: number): readonly Uint8Array[] {
  const { version, ip, tcp, payload, end } = layout;
  const sequence = readLong(frame, tcp + 4);
  const identification = readWord(frame, ip + 4);
  const flags = frame[tcp + FLAGS_AT]!;
  const segments: Uint8Array[] = [];
  for (let from = payload; from < end || from === payload; from += segmentBytes) {
    const to = Math.min(end, from + segmentBytes);
    const segment = new Uint8Array(payload + to - from);
    segment.set(frame.subarray(0, payload));
    segment.set(frame.subarray(from, to), payload);
    // The number of an IPv4 packet counts on [RFC 6864 4.1 allows any for those that are not fragmented].
    if (version === 4) writeWord(segment, ip + 4, (identification + segments.length) & 0xffff);
    writeLong(segment, tcp + 4, (sequence + (from - payload)) >>> 0);
    let own = flags;
    if (from > payload) own &= ~FLAG.windowReduced;
    if (to < end) own &= ~(FLAG.fin | FLAG.push);
    segment[tcp + FLAGS_AT] = own;
    finish(segment, { ...layout, end: segment.length });
    segments.push(segment);
  }
  return segments;
}

/** Lengths and checksums of a packet that ends where the frame does. */
export function finish(frame: Uint8Array, layout: TcpLayout): void {
  const { tcp, end } = layout;
  writeIpLength(frame, layout);
  writeWord(frame, tcp + TCP_CHECKSUM_AT, 0);
  const sum = onesSum(frame, tcp, end, pseudoHeaderSum(frame, layout, end - tcp));
  writeWord(frame, tcp + TCP_CHECKSUM_AT, checksumOf(sum));
}

/** The length in the IP header, and an IPv4 header's checksum. */
export function writeIpLength(frame: Uint8Array, { version, ip, tcp, end }: TcpLayout): void {
  if (version === 6) {
    writeWord(frame, ip + 4, end - ip - 40);
    return;
  }
  writeWord(frame, ip + 2, end - ip);
  writeWord(frame, ip + 10, 0);
  writeWord(frame, ip + 10, checksumOf(onesSum(frame, ip, tcp)));
}
