import { foldedSum, onesSum, readWord } from './checksum.ts';

/** Where the parts of a TCP segment lie in an Ethernet frame. Frames come from guests and networks: nothing is trusted. */
export interface TcpLayout {
  readonly version: 4 | 6;
  readonly ip: number;
  readonly tcp: number;
  readonly payload: number;
  /** Behind the last byte of the packet; what the wire filled up lies beyond. */
  readonly end: number;
}

const ETHERTYPE_AT = 12;
const ETHERTYPE = { ipv4: 0x0800, ipv6: 0x86dd, vlan: 0x8100 } as const;
const VLAN_TAG_BYTES = 4;
const PROTOCOL_TCP = 6;
const IPV4_HEADER_MIN = 20;
const IPV6_HEADER = 40;
const TCP_HEADER_MIN = 20;
/** More fragments, or not the first one [RFC 791]. */
const FRAGMENT = 0x3fff;
/** Extension headers of one form: hop-by-hop, routing, destination options [RFC 8200 4]. */
const EXTENSIONS: readonly number[] = [0, 43, 60];
const EXTENSIONS_MAX = 4;

/** Undefined for anything but a whole TCP segment over IPv4 or IPv6, with one VLAN tag at most. */
export function tcpLayoutOf(frame: Uint8Array): TcpLayout | undefined {
  if (frame.length < ETHERTYPE_AT + 2 + VLAN_TAG_BYTES) return undefined;
  const tagged = readWord(frame, ETHERTYPE_AT) === ETHERTYPE.vlan;
  const at = tagged ? ETHERTYPE_AT + VLAN_TAG_BYTES : ETHERTYPE_AT;
  switch (readWord(frame, at)) {
    case ETHERTYPE.ipv4:
      return overIpv4(frame, at + 2);
    case ETHERTYPE.ipv6:
      return overIpv6(frame, at + 2);
    default:
      return undefined;
  }
}

function overIpv4(frame: Uint8Array, ip: number): TcpLayout | undefined {
  if (frame.length < ip + IPV4_HEADER_MIN) return undefined;
  const first = frame[ip]!;
  const header = (first & 15) * 4;
  const end = ip + readWord(frame, ip + 2);
  if (first >> 4 !== 4 || header < IPV4_HEADER_MIN || frame[ip + 9] !== PROTOCOL_TCP) return undefined;
  if ((readWord(frame, ip + 6) & FRAGMENT) !== 0) return undefined;
  return withTcp(frame, 4, ip, ip + header, end);
}

function overIpv6(frame: Uint8Array, ip: number): TcpLayout | undefined {
  if (frame.length < ip + IPV6_HEADER || frame[ip]! >> 4 !== 6) return undefined;
  const end = ip + IPV6_HEADER + readWord(frame, ip + 4);
  let kind = frame[ip + 6]!;
  let tcp = ip + IPV6_HEADER;
  for (let extensions = 0; kind !== PROTOCOL_TCP; extensions++) {
    if (!EXTENSIONS.includes(kind) || extensions === EXTENSIONS_MAX || tcp + 2 > frame.length)
      return undefined;
    kind = frame[tcp]!;
    tcp += (frame[tcp + 1]! + 1) * 8;
  }
  return withTcp(frame, 6, ip, tcp, end);
}

function withTcp(
  frame: Uint8Array,
  version: 4 | 6,
  ip: number,
  tcp: number,
  end: number,
): TcpLayout | undefined {
  if (end > frame.length || tcp + TCP_HEADER_MIN > end) return undefined;
  const payload = tcp + (frame[tcp + 12]! >> 4) * 4;
  if (payload < tcp + TCP_HEADER_MIN || payload > end) return undefined;
  return { version, ip, tcp, payload, end };
}

/** The sum of the pseudo header of a segment of so many bytes from the TCP header on [RFC 9293 3.1, RFC 8200 8.1]. */
export function pseudoHeaderSum(
  frame: Uint8Array,
  { version, ip }: Pick<TcpLayout, 'version' | 'ip'>,
  length: number,
): number {
  const [from, to] = version === 4 ? [ip + 12, ip + 20] : [ip + 8, ip + 40];
  return foldedSum(onesSum(frame, from, to) + PROTOCOL_TCP + length);
}
