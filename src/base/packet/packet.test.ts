import { describe, expect, test } from 'vitest';
import { onesSum } from './checksum.ts';
import { coalesced } from './coalescing.ts';
import { type Offload, offloadHeader, readOffload, SEGMENT_HEADERS_MAX, SEGMENTS_MAX } from './offload.ts';
import { wholeFrame, wireFrames } from './segmentation.ts';

/** The sum as RFC 1071 writes it down, byte by byte: what the fast one is compared with. */
function plainSum(bytes: readonly number[]): number {
  let sum = 0;
  for (let at = 0; at < bytes.length; at += 2) {
    sum += (bytes[at] ?? 0) * 256 + (bytes[at + 1] ?? 0);
    if (sum > 0xffff) sum -= 0xffff;
  }
  return sum;
}

test('the fast sum is that of RFC 1071, from any place to any place', () => {
  const bytes = Uint8Array.from({ length: 3000 }, (_, index) => (index * 131) ^ (index >> 3));
  for (const shift of [0, 1, 2, 3]) {
    const view = new Uint8Array(bytes.slice().buffer, shift);
    for (let from = 0; from < 6; from++)
      for (const to of [from, from + 1, from + 255, from + 256, from + 257, from + 1001, from + 2042])
        expect(onesSum(view, from, to) % 0xffff, `${shift} ${from} ${to}`).toBe(
          plainSum([...view.subarray(from, to)]) % 0xffff,
        );
  }
  expect(onesSum(new Uint8Array(200_000).fill(0xff), 1, 199_999)).toBe(0xffff);
});

interface Fields {
  readonly version?: 4 | 6;
  readonly payload: number;
  readonly flags?: number;
  readonly sequence?: number;
  readonly port?: number;
  readonly options?: number;
  readonly tag?: boolean;
}

const ACK = 0x10;

/** A segment with a payload that tells its bytes apart, and right checksums. */
function segment(fields: Fields): Uint8Array {
  const { version = 4, payload, flags = ACK, sequence = 1000, port = 5001, options = 12 } = fields;
  const ip = fields.tag === true ? 18 : 14;
  const tcp = ip + (version === 4 ? 20 : 40);
  const length = 20 + options + payload;
  const frame = Buffer.alloc(tcp + length);
  frame.write('020000000001020000000002', 'hex');
  if (fields.tag === true) frame.writeUInt32BE(0x8100_0007, 12);
  frame.writeUInt16BE(version === 4 ? 0x0800 : 0x86dd, ip - 2);
  if (version === 4) {
    frame.write(
      `4500${(20 + length).toString(16).padStart(4, '0')}00074000400600000a0000010a000002`,
      ip,
      'hex',
    );
    frame.writeUInt16BE(~plainSum([...frame.subarray(ip, tcp)]) & 0xffff, ip + 10);
  } else {
    frame.write(`60000000${length.toString(16).padStart(4, '0')}0640`, ip, 'hex');
    frame.fill(0x11, ip + 8, ip + 40);
  }
  frame.writeUInt16BE(port, tcp);
  frame.writeUInt16BE(80, tcp + 2);
  frame.writeUInt32BE(sequence >>> 0, tcp + 4);
  frame.writeUInt32BE(77, tcp + 8);
  frame.writeUInt8(((20 + options) / 4) << 4, tcp + 12);
  frame.writeUInt8(flags, tcp + 13);
  frame.writeUInt16BE(512, tcp + 14);
  for (let at = 0; at < payload; at++) frame[tcp + 20 + options + at] = (sequence + at) * 31;
  frame.writeUInt16BE(~tcpSum(frame, ip, tcp) & 0xffff, tcp + 16);
  return new Uint8Array(frame);
}

function tcpSum(frame: Uint8Array, ip: number, tcp: number): number {
  const addresses =
    frame[ip]! >> 4 === 4 ? frame.subarray(ip + 12, ip + 20) : frame.subarray(ip + 8, ip + 40);
  const length = frame.length - tcp;
  return plainSum([...addresses, 0, 6, length >> 8, length & 255, ...frame.subarray(tcp)]);
}

/** Right lengths and checksums, for whoever looks at it from outside. */
function isSound(frame: Uint8Array, version: 4 | 6, ip = 14): boolean {
  const tcp = ip + (version === 4 ? 20 : 40);
  const length = frame[version === 4 ? ip + 2 : ip + 4]! * 256 + frame[version === 4 ? ip + 3 : ip + 5]!;
  if (length + (version === 4 ? ip : tcp) !== frame.length) return false;
  if (version === 4 && plainSum([...frame.subarray(ip, tcp)]) !== 0xffff) return false;
  return tcpSum(frame, ip, tcp) === 0xffff;
}

function long(version: 4 | 6, payload: number, more: Partial<Fields> & { ecn?: boolean; mss?: number } = {}) {
  const frame = segment({ version, payload, ...more });
  const checksumStart = (more.tag === true ? 18 : 14) + (version === 4 ? 20 : 40);
  // What stands in the checksum's place is nobody's business.
  frame[checksumStart + 16] = 0xab;
  const offload: Offload = {
    ...{ checksumStart, checksumOffset: 16, segmentBytes: more.mss ?? 1448 },
    ...{ segments: version === 4 ? 'tcp4' : 'tcp6', ecn: more.ecn ?? false },
  };
  return { frame, offload };
}

describe.each([4, 6] as const)('a long packet of IPv%d', (version) => {
  test.each([1, 1448, 1449, 2896, 40_001])(
    'of %d bytes becomes sound frames with all of its bytes',
    (payload) => {
      const packet = long(version, payload);
      const frames = wireFrames(packet);
      expect(frames).toHaveLength(Math.ceil(payload / 1448));
      expect(frames.every((frame) => isSound(frame, version))).toBe(true);
      const headers = packet.frame.length - payload;
      const bytes = frames.flatMap((frame) => [...frame.subarray(headers)]);
      expect(bytes).toEqual([...packet.frame.subarray(headers)]);
      expect(isSound(wholeFrame(packet), version)).toBe(true);
      expect([...wholeFrame(packet).subarray(headers)]).toEqual(bytes);
    },
  );

  test('is what its segments are joined to again, and each way gives the other', () => {
    const packet = long(version, 30_000, { flags: ACK | 8, sequence: 0xffff_f000 });
    const frames = wireFrames(packet);
    const [joined, ...others] = coalesced(frames);
    expect(others).toEqual([]);
    expect(joined?.offload).toEqual(packet.offload);
    expect(wireFrames(joined!)).toEqual(frames);
  });

  test('has FIN and PSH on its last segment alone, and CWR on its first', () => {
    const packet = long(version, 4000, { flags: ACK | 1 | 8 | 0x80, ecn: true });
    const at = packet.offload.checksumStart + 13;
    expect(wireFrames(packet).map((frame) => frame[at])).toEqual([ACK | 0x80, ACK, ACK | 1 | 8]);
  });

  test('is cut the same way behind a VLAN tag', () => {
    const frames = wireFrames(long(version, 3000, { tag: true }));
    expect(frames.map((frame) => isSound(frame, version, 18))).toEqual([true, true, true]);
  });
});

test('IPv4 packets are numbered on', () => {
  const numbers = wireFrames(long(4, 4000)).map((frame) => frame[18]! * 256 + frame[19]!);
  expect(numbers).toEqual([7, 8, 9]);
});

test('a checksum alone is filled in, and is never written as zero', () => {
  const frame = new Uint8Array(60);
  const offload: Offload = {
    checksumStart: 20,
    checksumOffset: 6,
    segmentBytes: 0,
    segments: 'none',
    ecn: false,
  };
  frame.set([0xff, 0xff], 30);
  const [first] = wireFrames({ frame, offload });
  expect([...first!.subarray(26, 28)]).toEqual([0xff, 0xff]);
  frame.set([0x12, 0x35], 30);
  const [second] = wireFrames({ frame, offload });
  expect([...second!.subarray(26, 28)]).toEqual([0xed, 0xca]);
  expect(frame[26]).toBe(0);
});

describe('segments that arrived together', () => {
  const frames = (...all: Fields[]) => all.map((fields) => segment(fields));
  const sizes = (all: readonly Uint8Array[]) => coalesced(all).map(({ frame }) => frame.length);
  const row = (count: number, more: Partial<Fields> = {}): Fields[] =>
    Array.from({ length: count }, (_, index) => ({ payload: 100, sequence: 1000 + 100 * index, ...more }));

  test('are joined flow by flow, each in its order', () => {
    const mixed = frames(...row(6).map((each, index) => ({ ...each, port: index % 2 })));
    // Two flows whose numbers have gaps: nothing may be joined.
    expect(coalesced(mixed).map(({ frame }) => frame)).toEqual(mixed);
    const two = [row(3, { port: 1 }), row(3, { port: 2 })];
    const crossed = frames(...[0, 1, 2].flatMap((index) => two.map((each) => each[index]!)));
    expect(sizes(crossed)).toEqual([66 + 300, 66 + 300]);
  });

  test.each<[string, (frame: Uint8Array) => void]>([
    ['a wrong checksum', (frame) => (frame[70]! ^= 1)],
    ['a wrong checksum of the IP header', (frame) => (frame[24]! ^= 1)],
    ['a fragment', (frame) => (frame[20] = 0x20)],
    ['SYN', (frame) => (frame[47]! |= 2)],
    ['urgent data', (frame) => (frame[47]! |= 32)],
  ])('are not joined with one that has %s, and nothing overtakes it', (_, spoil) => {
    const all = frames(...row(5));
    spoil(all[2]!);
    const packets = coalesced(all);
    expect(packets.map(({ frame }) => frame.length)).toEqual([66 + 200, 166, 66 + 200]);
    expect(packets[1]).toEqual({ frame: all[2] });
  });

  test.each<[string, Partial<Fields>]>([
    ['other options', { options: 0 }],
    ['a longer payload', { payload: 101 }],
  ])('are not joined with one that has %s', (_, other) => {
    const all = frames(...row(2), { payload: 100, sequence: 1200, ...other });
    expect(sizes(all)[0]).toBe(66 + 200);
  });

  test('a shorter one and one with PSH end a packet', () => {
    const short = frames(...row(2), { payload: 50, sequence: 1200 }, { payload: 50, sequence: 1250 });
    expect(sizes(short)).toEqual([66 + 250, 66 + 50]);
    const pushed = frames(
      ...row(2),
      { payload: 100, sequence: 1200, flags: ACK | 8 },
      ...row(1, { sequence: 1300 }),
    );
    expect(sizes(pushed)).toEqual([66 + 300, 66 + 100]);
  });

  test('a packet stays as long as its length can say', () => {
    const all = frames(...Array.from({ length: 50 }, (_, i) => ({ payload: 1448, sequence: 1448 * i })));
    expect(sizes(all)).toEqual([66 + 45 * 1448, 66 + 5 * 1448]);
    expect(
      coalesced(all)
        .flatMap((packet) => wireFrames(packet))
        .map((frame) => isSound(frame, 4)),
    ).not.toContain(false);
  });
});

describe('the ten bytes of an offload', () => {
  const packet = long(4, 3000);
  const header = offloadHeader(packet);

  test('say the same when they are read again', () => {
    expect(readOffload(header, packet.frame)).toEqual({ fits: true, offload: packet.offload });
    expect(readOffload(new Uint8Array(10), packet.frame)).toEqual({ fits: true, offload: undefined });
  });

  test('are refused when each segment would repeat long headers', () => {
    // Destination options of so many bytes in front of TCP [RFC 8200 4.6].
    const extended = (bytes: number) => {
      const { frame, offload } = long(6, 3000);
      const options = new Uint8Array(bytes);
      options.set([6, bytes / 8 - 1]);
      const longer = Uint8Array.of(...frame.subarray(0, 54), ...options, ...frame.subarray(54));
      longer[20] = 60;
      new DataView(longer.buffer).setUint16(18, longer.length - 54);
      const whole = { frame: longer, offload: { ...offload, checksumStart: 54 + bytes } };
      return readOffload(offloadHeader(whole), longer).fits;
    };
    const room = SEGMENT_HEADERS_MAX - 54 - 32;
    expect(extended(room - (room % 8))).toBe(true);
    expect(extended(room - (room % 8) + 8)).toBe(false);
    expect(extended(2048)).toBe(false);
  });

  test('are refused for every frame they do not fit', () => {
    const refused = (change: Record<number, number>, frame = packet.frame) => {
      const changed = header.slice();
      for (const [at, value] of Object.entries(change)) changed[Number(at)] = value;
      return !readOffload(changed, frame).fits;
    };
    expect(refused({})).toBe(false);
    // No checksum asked for; a kind that is none or another version's; no segment size; a place that is not TCP's.
    for (const change of [
      { 0: 0 },
      { 1: 3 },
      { 1: 4 },
      { 1: 0x80 },
      { 4: 0, 5: 0 },
      { 6: 35 },
      { 8: 17 },
      { 7: 255 },
    ])
      expect(refused(change), JSON.stringify(change)).toBe(true);
    // One byte a segment: more segments than anybody cuts.
    expect(refused({ 4: 1, 5: 0 })).toBe(true);
    expect(Math.ceil(3000 / 1)).toBeGreaterThan(SEGMENTS_MAX);
    // A frame that is longer or shorter than its packet says, and one of another protocol.
    expect(refused({}, packet.frame.subarray(1))).toBe(true);
    expect(refused({}, packet.frame.subarray(0, -1))).toBe(true);
    expect(refused({}, Uint8Array.of(...packet.frame, 0))).toBe(true);
    for (const [at, value] of [
      [12, 9],
      [14, 0x44],
      [20, 0x20],
      [23, 17],
      [46, 0x40],
      [46, 0xf0],
    ] as const) {
      const frame = packet.frame.slice(0, at === 46 && value === 0xf0 ? 60 : undefined);
      frame[at] = value;
      expect(refused({}, frame), `${at}`).toBe(true);
    }
  });
});
