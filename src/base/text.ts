/** UTF-8 without a host API. */
export function encodeText(text: string): Uint8Array {
  const bytes: number[] = [];
  for (const letter of text) {
    const code = letter.codePointAt(0)!;
    if (code < 0x80) bytes.push(code);
    else if (code < 0x800) bytes.push(0xc0 | (code >> 6), 0x80 | (code & 0x3f));
    else if (code < 0x10000)
      bytes.push(0xe0 | (code >> 12), 0x80 | ((code >> 6) & 0x3f), 0x80 | (code & 0x3f));
    else
      bytes.push(
        0xf0 | (code >> 18),
        0x80 | ((code >> 12) & 0x3f),
        0x80 | ((code >> 6) & 0x3f),
        0x80 | (code & 0x3f),
      );
  }
  return Uint8Array.from(bytes);
}

/** What is not UTF-8 becomes U+FFFD, one per byte. */
export function decodeText(bytes: Uint8Array): string {
  let text = '';
  for (let at = 0; at < bytes.length; ) {
    const first = bytes[at]!;
    const more =
      first < 0x80 ? 0 : first < 0xc2 ? -1 : first < 0xe0 ? 1 : first < 0xf0 ? 2 : first < 0xf5 ? 3 : -1;
    let code = more <= 0 ? first : first & (0x3f >> more);
    let valid = more >= 0 && at + more < bytes.length;
    for (let index = 1; valid && index <= more; index++) {
      const next = bytes[at + index]!;
      valid = (next & 0xc0) === 0x80;
      code = (code << 6) | (next & 0x3f);
    }
    const surrogate = code >= 0xd800 && code < 0xe000;
    const overlong = (more === 2 && code < 0x800) || (more === 3 && code < 0x10000);
    if (!valid || surrogate || overlong || code > 0x10ffff) {
      text += '\ufffd';
      at += 1;
    } else {
      text += String.fromCodePoint(code);
      at += 1 + more;
    }
  }
  return text;
}
