import { expect, test } from 'vitest';
import { onesSum } from '../base/packet/checksum.ts';
import { pseudoHeaderSum, tcpLayoutOf } from '../base/packet/tcp-layout.ts';
import { WindowClamp } from './window-clamp.ts';

const SYN = 2;
const ACK = 16;
const BYTES_MAX = 192 * 1024;

/** A guest's segment over IPv4, with a right checksum. */
function segment(flags: number, window: number, options: readonly number[] = [], port = 80): Uint8Array {
  const bytes = new Uint8Array(54 + options.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(12, 0x0800_4500);
  view.setUint16(16, 40 + options.length);
  view.setUint16(22, 0x4006);
  view.setUint16(34, port);
  view.setUint16(46, ((20 + options.length) << 10) | flags);
  view.setUint16(48, window);
  bytes.set(options, 54);
  const layout = tcpLayoutOf(bytes)!;
  const sum = onesSum(bytes, 34, bytes.length, pseudoHeaderSum(bytes, layout, bytes.length - 34));
  view.setUint16(50, ~sum & 0xffff);
  return bytes;
}

const windowOf = (frame: Uint8Array) => frame[48]! * 256 + frame[49]!;
const isSound = (frame: Uint8Array) =>
  onesSum(frame, 34, frame.length, pseudoHeaderSum(frame, tcpLayoutOf(frame)!, frame.length - 34)) === 0xffff;
/** Maximum segment size, nothing, window scale. */
const scaled = (by: number) => [2, 4, 5, 180, 1, 3, 3, by];

test('a window above what the uplink holds becomes one of that, with a right checksum; the frame given stays as it is', () => {
  const clamp = new WindowClamp();
  expect(windowOf(clamp.clamped(segment(SYN | ACK, 64_240, scaled(7))))).toBe(64_240);
  for (const window of [1537, 13_389, 65_535]) {
    const given = segment(ACK, window);
    const told = clamp.clamped(given);
    expect(windowOf(told) << 7).toBe(BYTES_MAX);
    expect(isSound(told)).toBe(true);
    expect(windowOf(given)).toBe(window);
  }
});

test('a smaller window, another flow, and what is no TCP pass as they are', () => {
  const clamp = new WindowClamp();
  clamp.clamped(segment(SYN, 64_240, scaled(7)));
  for (const frame of [
    segment(ACK, 1536),
    segment(ACK, 65_535, [], 81),
    new Uint8Array(60),
    new Uint8Array(5),
  ])
    expect(clamp.clamped(frame)).toBe(frame);
});

test('without the option a window is not scaled, and options of any kind end', () => {
  const clamp = new WindowClamp();
  for (const options of [[], [0, 0, 0, 0], [9, 0, 0, 0], [3, 3], [3, 3, 1, 1].slice(0, 2)]) {
    const padded = [...options, ...new Array((4 - (options.length % 4)) % 4).fill(1)];
    clamp.clamped(segment(SYN, 65_535, padded));
    const frame = segment(ACK, 65_535);
    expect(windowOf(clamp.clamped(frame))).toBeLessThanOrEqual(65_535);
  }
});

test('a flow begun anew has its new scale', () => {
  const clamp = new WindowClamp();
  clamp.clamped(segment(SYN, 1000, scaled(7)));
  clamp.clamped(segment(SYN, 1000, scaled(3)));
  expect(windowOf(clamp.clamped(segment(ACK, 65_535))) << 3).toBe(BYTES_MAX);
});
