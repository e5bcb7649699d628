import type { ByteReader, ByteWriter } from '../../src/base/bytes.ts';

/** Numbers below 2^32 with seven bits in a byte, the lowest first: most of them are small. */

export function writeShort(writer: ByteWriter, value: number): void {
  let rest = value;
  for (; rest > 0x7f; rest >>>= 7) writer.u8((rest & 0x7f) | 0x80);
  writer.u8(rest);
}

export function readShort(reader: ByteReader): number {
  let value = 0;
  for (let shift = 0; ; shift += 7) {
    const byte = reader.u8();
    value |= (byte & 0x7f) << shift;
    if (byte < 0x80) return value;
  }
}
