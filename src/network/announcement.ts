const BROADCAST = 0xff;
const ETHERTYPE_RARP = 0x8035;
const FRAME_BYTES = 60;

/**
 * A reverse ARP request for one's own address [RFC 903]: nobody has to answer it, and everybody who sees it knows
 * where the address is from now on.
 */
export function announcement(mac: Uint8Array): Uint8Array {
  const frame = new Uint8Array(FRAME_BYTES);
  const view = new DataView(frame.buffer);
  frame.fill(BROADCAST, 0, 6);
  frame.set(mac, 6);
  view.setUint16(12, ETHERTYPE_RARP);
  view.setUint16(14, 1);
  view.setUint16(16, 0x0800);
  view.setUint8(18, 6);
  view.setUint8(19, 4);
  view.setUint16(20, 3);
  frame.set(mac, 22);
  frame.set(mac, 32);
  return frame;
}
