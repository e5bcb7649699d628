/**
 * A guest of thirty lines: what a station with this MAC and IPv4 address answers to ARP requests [RFC 826] and echo
 * requests [RFC 792]. Undefined for everything else.
 */
export function answerTo(frame: Uint8Array, mac: Uint8Array, address: Uint8Array): Uint8Array | undefined {
  const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
  const answer = new Uint8Array(frame);
  const changed = new DataView(answer.buffer);
  answer.copyWithin(0, 6, 12);
  answer.set(mac, 6);
  const asked = (at: number) => address.every((byte, index) => frame[at + index] === byte);
  if (view.getUint16(12) === 0x0806 && view.getUint16(20) === 1 && asked(38)) {
    changed.setUint16(20, 2);
    answer.copyWithin(32, 22, 32);
    answer.set(mac, 22);
    answer.set(address, 28);
    return answer;
  }
  if (view.getUint16(12) === 0x0800 && frame[23] === 1 && frame[34] === 8 && asked(30)) {
    answer.copyWithin(30, 26, 30);
    answer.set(address, 26);
    answer[34] = 0;
    // The type was 8 in the high byte of a word; in ones' complement its loss adds 8 to the checksum's [RFC 1624].
    const sum = view.getUint16(36) + 0x0800;
    changed.setUint16(36, (sum & 0xffff) + (sum >>> 16));
    return answer;
  }
  return undefined;
}
