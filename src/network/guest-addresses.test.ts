import { expect, test } from 'vitest';
import { gratuitousArp } from './announcement.ts';
import { GuestAddresses } from './guest-addresses.ts';

const MAC = Uint8Array.of(0x52, 0x54, 0, 0, 0, 1);
const OTHER = Uint8Array.of(0x52, 0x54, 0, 0, 0, 2);
const ip = (last: number) => Uint8Array.of(192, 168, 7, last);
const MINUTE = 60_000;

function packet(mac: Uint8Array, source: Uint8Array): Uint8Array {
  const frame = new Uint8Array(60);
  frame.set(mac, 6);
  frame.set([0x08, 0x00, 0x45], 12);
  frame.set(source, 26);
  return frame;
}

test('an address is the guest’s when it says so by ARP, and its source in a packet proves nothing', () => {
  const addresses = new GuestAddresses(MAC);
  addresses.sent(packet(MAC, ip(9)), 0);
  expect(addresses.inUse(0)).toEqual([]);
  addresses.sent(gratuitousArp(MAC, ip(1)), 0);
  expect(addresses.inUse(0)).toEqual([ip(1)]);
});

test('neither a probe nor what another station behind the guest says counts', () => {
  const addresses = new GuestAddresses(MAC);
  addresses.sent(gratuitousArp(MAC, Uint8Array.of(0, 0, 0, 0)), 0);
  addresses.sent(gratuitousArp(OTHER, ip(1)), 0);
  const borrowed = gratuitousArp(OTHER, ip(2));
  borrowed.set(MAC, 6);
  addresses.sent(borrowed, 0);
  expect(addresses.inUse(0)).toEqual([]);
});

test('an address stays while it is used, and no longer than a minute without', () => {
  const addresses = new GuestAddresses(MAC);
  addresses.sent(gratuitousArp(MAC, ip(1)), 0);
  addresses.sent(gratuitousArp(MAC, ip(2)), 0);
  addresses.sent(packet(MAC, ip(1)), MINUTE);
  expect(addresses.inUse(MINUTE)).toEqual([ip(2), ip(1)]);
  expect(addresses.inUse(MINUTE + 1)).toEqual([ip(1)]);
  expect(addresses.inUse(2 * MINUTE + 1)).toEqual([]);
});

test('an address that another machine claims has moved there', () => {
  const addresses = new GuestAddresses(MAC);
  addresses.sent(gratuitousArp(MAC, ip(1)), 0);
  addresses.received(gratuitousArp(MAC, ip(1)));
  expect(addresses.inUse(0)).toEqual([ip(1)]);
  addresses.received(gratuitousArp(OTHER, ip(1)));
  expect(addresses.inUse(0)).toEqual([]);
  addresses.sent(packet(MAC, ip(1)), 0);
  expect(addresses.inUse(0)).toEqual([]);
});

test('the four used last are kept, whatever the guest says', () => {
  const addresses = new GuestAddresses(MAC);
  for (let last = 1; last <= 250; last++) addresses.sent(gratuitousArp(MAC, ip(last)), 0);
  expect(addresses.inUse(0)).toEqual([247, 248, 249, 250].map(ip));
});

test('frames of any length and content are taken', () => {
  const addresses = new GuestAddresses(MAC);
  const whole = gratuitousArp(MAC, ip(1));
  for (let length = 0; length < 42; length++) {
    addresses.sent(whole.subarray(0, length), 0);
    addresses.received(gratuitousArp(OTHER, ip(1)).subarray(0, length));
  }
  expect(addresses.inUse(0)).toEqual([]);
  addresses.sent(whole.subarray(0, 42), 0);
  expect(addresses.inUse(0)).toEqual([ip(1)]);
});
