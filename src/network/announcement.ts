const BROADCAST = 0xff;
const ETHERTYPE_ARP = 0x0806;
const ETHERTYPE_RARP = 0x8035;
const OPERATION = { request: 1, reverseRequest: 3 } as const;
/** The shortest frame of Ethernet, without its check sequence. */
const FRAME_BYTES = 60;

/**
 * A reverse ARP request for one's own address [RFC 903]: nobody has to answer it, and everybody who sees it knows
 * where the address is from now on.
 */
export function announcement(mac: Uint8Array): Uint8Array {
  const frame = addressResolution(ETHERTYPE_RARP, OPERATION.reverseRequest, mac);
  frame.set(mac, 32);
  return frame;
}

/**
 * An ARP announcement [RFC 5227 3]: this IPv4 address (four bytes) is at this MAC address. Tells those too who take no
 * notice of RARP, such as switches that learn from ARP alone.
 */
export function gratuitousArp(mac: Uint8Array, address: Uint8Array): Uint8Array {
  const frame = addressResolution(ETHERTYPE_ARP, OPERATION.request, mac);
  frame.set(address, 28);
  frame.set(address, 38);
  return frame;
}

/** From this MAC address to everybody, about Ethernet and IPv4 [RFC 826]. */
function addressResolution(ethertype: number, operation: number, sender: Uint8Array): Uint8Array {
  const frame = new Uint8Array(FRAME_BYTES);
  const view = new DataView(frame.buffer);
  frame.fill(BROADCAST, 0, 6);
  frame.set(sender, 6);
  view.setUint16(12, ethertype);
  view.setUint16(14, 1);
  view.setUint16(16, 0x0800);
  view.setUint8(18, 6);
  view.setUint8(19, 4);
  view.setUint16(20, operation);
  frame.set(sender, 22);
  return frame;
}
