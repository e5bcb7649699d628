import { foldedSum, onesSum, readLong, readWord, writeWord } from './checksum.ts';
import type { Packet } from './offload.ts';
import { writeIpLength } from './segmentation.ts';
import { pseudoHeaderSum, type TcpLayout, tcpLayoutOf } from './tcp-layout.ts';

/**
 * Joins TCP segments that arrived together and follow each other into one packet that is cut again later, or never: a guest
 * that takes long packets handles one instead of forty. Only what segmentation would give back bit for bit is joined (but
 * for PSH, which the last one's stands for, and the number of an IPv4 packet whose number says nothing).
 */

const FLAG = { push: 8, ack: 16 } as const;
const FLAGS_AT = 13;
const DO_NOT_FRAGMENT = 0x4000;
/** The longest IP packet of a joined frame: what 16 bits of its length can say. */
const PACKET_BYTES_MAX = 65_535;

interface Segment {
  readonly frame: Uint8Array;
  readonly layout: TcpLayout;
}

/** Consecutive segments of one flow; nothing is copied until it ends. */
interface Run {
  readonly segments: Segment[];
  readonly segmentBytes: number;
  next: number;
  /** IP packet so far. */
  bytes: number;
  open: boolean;
}

/** The packets of frames that arrived together, in order of their first segments; within a flow in order. */
export function coalesced(frames: readonly Uint8Array[]): readonly Packet[] {
  if (frames.length === 1) return [{ frame: frames[0]! }];
  const packets: (Packet | Run)[] = [];
  const runs: Run[] = [];
  for (const frame of frames) {
    const layout = tcpLayoutOf(frame);
    const own = layout && runs.findLast((run) => isSameFlow(run.segments[0]!, { frame, layout }));
    if (layout === undefined || !isJoinable(frame, layout)) {
      // What is behind it in its flow must not be given out before it.
      if (own) own.open = false;
      packets.push({ frame });
      continue;
    }
    if (own?.open && extend(own, { frame, layout })) continue;
    if (own) own.open = false;
    const run: Run = {
      segments: [{ frame, layout }],
      segmentBytes: layout.end - layout.payload,
      next: (readLong(frame, layout.tcp + 4) + layout.end - layout.payload) >>> 0,
      bytes: layout.end - layout.ip,
      open: (frame[layout.tcp + FLAGS_AT]! & FLAG.push) === 0,
    };
    runs.push(run);
    packets.push(run);
  }
  return packets.map((item) => ('segments' in item ? joined(item) : item));
}

/** Data and nothing unusual, and all of its checksums are right. */
function isJoinable(frame: Uint8Array, layout: TcpLayout): boolean {
  const { version, ip, tcp, payload, end } = layout;
  if ((frame[tcp + FLAGS_AT]! & ~FLAG.push) !== FLAG.ack || payload === end) return false;
  if (version === 6 ? tcp !== ip + 40 : tcp !== ip + 20) return false;
  if (version === 4) {
    // Numbers that count mean something where a packet may still be fragmented; passt's are all zero.
    if ((readWord(frame, ip + 6) & DO_NOT_FRAGMENT) === 0 && readWord(frame, ip + 4) !== 0) return false;
    if (onesSum(frame, ip, tcp) !== 0xffff) return false;
  }
  return onesSum(frame, tcp, end, pseudoHeaderSum(frame, layout, end - tcp)) === 0xffff;
}

function isSameFlow(a: Segment, b: Segment): boolean {
  const { ip, tcp, version } = a.layout;
  if (b.layout.ip !== ip || b.layout.tcp !== tcp || b.layout.version !== version) return false;
  const addresses = version === 4 ? ip + 12 : ip + 8;
  return isEqual(a.frame, b.frame, addresses, tcp + 4) && isEqual(a.frame, b.frame, 0, ip);
}

function extend(run: Run, segment: Segment): boolean {
  const { frame, layout } = segment;
  const { version, ip, tcp, payload, end } = layout;
  const first = run.segments[0]!;
  const length = end - payload;
  if (readLong(frame, tcp + 4) !== run.next || payload !== first.layout.payload) return false;
  if (length > run.segmentBytes || run.bytes + length > PACKET_BYTES_MAX) return false;
  // Acknowledgement, window, urgent pointer and options alike; of the IP header all but length, number and checksum.
  const alike =
    isEqual(first.frame, frame, tcp + 8, tcp + FLAGS_AT) &&
    isEqual(first.frame, frame, tcp + 14, tcp + 16) &&
    isEqual(first.frame, frame, tcp + 18, payload) &&
    (version === 6
      ? isEqual(first.frame, frame, ip, ip + 4) && frame[ip + 7] === first.frame[ip + 7]
      : isEqual(first.frame, frame, ip, ip + 2) && isEqual(first.frame, frame, ip + 6, ip + 10));
  if (!alike) return false;
  run.segments.push(segment);
  run.next = (run.next + length) >>> 0;
  run.bytes += length;
  run.open = length === run.segmentBytes && (frame[tcp + FLAGS_AT]! & FLAG.push) === 0;
  return true;
}

function joined({ segments, segmentBytes, bytes }: Run): Packet {
  const [first] = segments;
  const { frame: head, layout } = first!;
  if (segments.length === 1) return { frame: head };
  const { version, ip, tcp, payload } = layout;
  const frame = new Uint8Array(ip + bytes);
  frame.set(head.subarray(0, payload));
  let at = payload;
  for (const segment of segments) {
    frame.set(segment.frame.subarray(payload, segment.layout.end), at);
    at += segment.layout.end - payload;
    frame[tcp + FLAGS_AT]! |= segment.frame[tcp + FLAGS_AT]!;
  }
  const whole = { ...layout, end: frame.length };
  writeIpLength(frame, whole);
  writeWord(frame, tcp + 16, foldedSum(pseudoHeaderSum(frame, whole, frame.length - tcp)));
  const offload = {
    checksumStart: tcp,
    checksumOffset: 16,
    segmentBytes,
    segments: version === 4 ? 'tcp4' : 'tcp6',
    ecn: false,
  } as const;
  return { frame, offload };
}

function isEqual(a: Uint8Array, b: Uint8Array, from: number, to: number): boolean {
  for (let at = from; at < to; at++) if (a[at] !== b[at]) return false;
  return true;
}
