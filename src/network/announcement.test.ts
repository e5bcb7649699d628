import { expect, test } from 'vitest';
import { announcement } from './announcement.ts';

test('an announcement is a broadcast RARP request from the address, for the address [RFC 903]', () => {
  const frame = Buffer.from(announcement(Uint8Array.of(0x52, 0x54, 0, 0x12, 0x34, 0x56)));
  const mac = '525400123456';
  expect(frame.toString('hex')).toBe(
    `ffffffffffff${mac}8035${'0001080006040003'}${mac}00000000${mac}00000000`.padEnd(120, '0'),
  );
});
