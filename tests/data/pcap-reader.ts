/** A packet of a capture, and when it passed, in nanoseconds since 1970. */
export interface CapturedPacket {
  readonly ns: bigint;
  readonly frame: Buffer;
}

const BILLION = 1_000_000_000n;

/**
 * Reads a capture of Ethernet as the format's draft says it, little-endian and with nanoseconds [draft-ietf-opsawg-pcap];
 * throws on anything else, and on a last packet that is not whole.
 */
export function readPcap(bytes: Buffer): CapturedPacket[] {
  const head = [bytes.readUInt32LE(0), bytes.readUInt16LE(4), bytes.readUInt16LE(6), bytes.readUInt32LE(20)];
  if (`${head}` !== `${[0xa1b23c4d, 2, 4, 1]}`) throw new Error(`no capture: ${head}`);
  const packets: CapturedPacket[] = [];
  let at = 24;
  while (at < bytes.length) {
    const [seconds = 0, ns = 0, captured = 0, length = 0] = [0, 4, 8, 12].map((offset) =>
      bytes.readUInt32LE(at + offset),
    );
    if (captured !== length || ns >= 1e9) throw new Error(`a bad packet at ${at}`);
    at += 16 + length;
    if (at > bytes.length) throw new Error('the last packet is not whole');
    packets.push({ ns: BigInt(seconds) * BILLION + BigInt(ns), frame: bytes.subarray(at - length, at) });
  }
  return packets;
}
