import { expect, test } from 'vitest';
import { announcement, gratuitousArp } from './announcement.ts';

test('an announcement is a broadcast RARP request from the address, for the address [RFC 903]', () => {
  const frame = Buffer.from(announcement(Uint8Array.of(0x52, 0x54, 0, 0x12, 0x34, 0x56)));
  const mac = '525400123456';
  expect(frame.toString('hex')).toBe(
    `ffffffffffff${mac}8035${'0001080006040003'}${mac}00000000${mac}00000000`.padEnd(120, '0'),
  );
});

test('a gratuitous ARP is a broadcast request of the address for itself [RFC 5227 3]', () => {
  const mac = Uint8Array.of(0x52, 0x54, 0, 0x12, 0x34, 0x56);
  const frame = Buffer.from(gratuitousArp(mac, Uint8Array.of(10, 0, 2, 15)));
  const own = '525400123456';
  expect(frame.toString('hex')).toBe(
    `ffffffffffff${own}0806${'0001080006040001'}${own}0a00020f${'0'.repeat(12)}0a00020f`.padEnd(120, '0'),
  );
});
