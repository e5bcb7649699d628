import { expect, test } from 'vitest';
import { crc32c, hash128 } from './hash.ts';

const ascii = (text: string): Uint8Array => Uint8Array.from(text, (letter) => letter.charCodeAt(0));

test('CRC-32C gives the values of RFC 3720 B.4', () => {
  expect(crc32c(ascii('123456789'))).toBe(0xe3069283);
  expect(crc32c(new Uint8Array(32))).toBe(0x8a9136aa);
  expect(crc32c(new Uint8Array(32).fill(0xff))).toBe(0x62a8ab43);
  expect(crc32c(Uint8Array.from({ length: 32 }, (_, index) => index))).toBe(0x46dd794e);
});

test('CRC-32C of parts chains to the CRC of the whole', () => {
  const whole = ascii('the quick brown fox');
  for (let cut = 0; cut <= whole.length; cut++) {
    expect(crc32c(whole.subarray(cut), crc32c(whole.subarray(0, cut)))).toBe(crc32c(whole));
  }
});

test('the 128-bit hash is MurmurHash3', () => {
  expect(hash128(new Uint8Array(0))).toBe('0'.repeat(32));
  expect(hash128(ascii("I will not buy this tobacconist's, it is scratched."))).toBe(
    '9b5b7ba2ef3f7866889adeaf00f3f98e',
  );
});

test('any change of any byte, and of the length, changes the hash', () => {
  const bytes = Uint8Array.from({ length: 37 }, (_, index) => index * 7);
  const seen = new Set([hash128(bytes)]);
  for (let at = 0; at < bytes.length; at++) {
    const changed = bytes.slice();
    changed[at]! ^= 0x10;
    seen.add(hash128(changed));
    seen.add(hash128(bytes.subarray(0, at)));
  }
  expect(seen.size).toBe(1 + 37 + 37);
});
