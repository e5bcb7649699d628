/** What the switch reads of a frame. Frames come from guests and peers: nothing in them is trusted. */

export const ETHERNET_HEADER_LENGTH = 14;

const ETHERTYPE = { ipv4: 0x0800, arp: 0x0806, ipv6: 0x86dd } as const;
const PROTOCOL_TCP = 6;

/** A MAC address as a number below 2^48: cheap to compare and to look up. */
export type MacNumber = number;

export function destinationOf(frame: Uint8Array): MacNumber {
  return macAt(frame, 0);
}

export function sourceOf(frame: Uint8Array): MacNumber {
  return macAt(frame, 6);
}

/** Broadcast and multicast addresses have the lowest bit of their first byte set [IEEE 802 8.2]. */
export function isGroupAddress(frame: Uint8Array, at: 0 | 6): boolean {
  return ((frame[at] ?? 0) & 1) !== 0;
}

export function macNumber(bytes: Uint8Array): MacNumber {
  return macAt(bytes, 0);
}

function macAt(bytes: Uint8Array, at: number): MacNumber {
  let value = 0;
  for (let i = 0; i < 6; i++) value = value * 256 + (bytes[at + i] ?? 0);
  return value;
}

/** An IPv4 address as a number below 2^32. */
export type Ipv4Number = number;

/** Who an ARP frame is from, and the IPv4 address it claims [RFC 826]; undefined for anything else, and for a probe. */
export function arpSenderOf(
  frame: Uint8Array,
): { readonly mac: MacNumber; readonly address: Ipv4Number } | undefined {
  if (frame.length < ETHERNET_HEADER_LENGTH + 28) return undefined;
  const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
  // Ethernet, IPv4, addresses of six and four bytes.
  const resolves = view.getUint16(12) === ETHERTYPE.arp && view.getUint16(14) === 1;
  if (!resolves || view.getUint16(16) !== ETHERTYPE.ipv4 || view.getUint16(18) !== 0x0604) return undefined;
  const address = view.getUint32(28);
  return address === 0 ? undefined : { mac: macAt(frame, 22), address };
}

/** The source address of an IPv4 packet. */
export function ipv4SenderOf(frame: Uint8Array): Ipv4Number | undefined {
  if (frame.length < ETHERNET_HEADER_LENGTH + 20) return undefined;
  const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
  return view.getUint16(12) === ETHERTYPE.ipv4 ? view.getUint32(26) : undefined;
}

export interface TcpSegment {
  /** Addresses and ports, the sender's first; `reverse` is the same flow seen from the other side. */
  readonly flow: string;
  readonly reverse: string;
  readonly sequence: number;
  /** Sequence number after the last byte of this segment; SYN and FIN count as one byte each [RFC 9293 3.4]. */
  readonly end: number;
  readonly acknowledges: number | undefined;
  readonly reset: boolean;
}

/** Undefined for anything that is not an unfragmented TCP segment over IPv4 or IPv6. */
export function tcpSegmentOf(frame: Uint8Array): TcpSegment | undefined {
  if (frame.length < ETHERNET_HEADER_LENGTH + 40) return undefined;
  const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
  switch (view.getUint16(12)) {
    case ETHERTYPE.ipv4: {
      const headerLength = (view.getUint8(14) & 15) * 4;
      const fragment = view.getUint16(20) & 0x3fff;
      if (view.getUint8(23) !== PROTOCOL_TCP || headerLength < 20 || fragment !== 0) return undefined;
      const end = ETHERNET_HEADER_LENGTH + view.getUint16(16);
      return segmentAt(
        view,
        ETHERNET_HEADER_LENGTH + headerLength,
        end,
        hex(frame, 26, 4),
        hex(frame, 30, 4),
      );
    }
    case ETHERTYPE.ipv6: {
      if (view.getUint8(20) !== PROTOCOL_TCP) return undefined;
      const end = ETHERNET_HEADER_LENGTH + 40 + view.getUint16(18);
      return segmentAt(view, ETHERNET_HEADER_LENGTH + 40, end, hex(frame, 22, 16), hex(frame, 38, 16));
    }
    default:
      return undefined;
  }
}

function segmentAt(
  view: DataView,
  at: number,
  end: number,
  from: string,
  to: string,
): TcpSegment | undefined {
  if (end > view.byteLength || at + 20 > end) return undefined;
  const payload = at + (view.getUint8(at + 12) >> 4) * 4;
  if (payload < at + 20 || payload > end) return undefined;
  const flags = view.getUint8(at + 13);
  const [fin, syn, reset, ack] = [flags & 1, (flags >> 1) & 1, (flags & 4) !== 0, (flags & 16) !== 0];
  const [sender, receiver] = [`${from}.${view.getUint16(at)}`, `${to}.${view.getUint16(at + 2)}`];
  const sequence = view.getUint32(at + 4);
  return {
    flow: `${sender}-${receiver}`,
    reverse: `${receiver}-${sender}`,
    sequence,
    end: (sequence + (end - payload) + fin + syn) >>> 0,
    acknowledges: ack ? view.getUint32(at + 8) : undefined,
    reset,
  };
}

function hex(bytes: Uint8Array, at: number, length: number): string {
  let text = '';
  for (let i = at; i < at + length; i++) text += (bytes[i] ?? 0).toString(16).padStart(2, '0');
  return text;
}

/** Serial number arithmetic: a <= b on a circle of 2^32 [RFC 9293 3.4]. */
export function isAtOrBefore(a: number, b: number): boolean {
  return ((b - a) | 0) >= 0;
}
