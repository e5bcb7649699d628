import { expect, test } from 'vitest';
import { decodeText, encodeText } from './text.ts';

test('encoding agrees with the host for one to four bytes a letter', () => {
  const text = 'vm-1 é ß 漢字 🙂 \u07ff\u0800\uffff';
  expect(encodeText(text)).toEqual(new Uint8Array(new TextEncoder().encode(text)));
  expect(decodeText(encodeText(text))).toBe(text);
});

test('what is not UTF-8 is replaced and never throws', () => {
  for (const bytes of [[0xff], [0xc0, 0x80], [0xe2, 0x82], [0xed, 0xa0, 0x80], [0xf4, 0x90, 0x80, 0x80]]) {
    expect(decodeText(Uint8Array.from(bytes))).toMatch(/^\ufffd+$/);
  }
});
