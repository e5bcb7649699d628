/** Builds frames for tests. */

export interface TcpFields {
  readonly from: readonly [address: number, port: number];
  readonly to: readonly [address: number, port: number];
  readonly sequence: number;
  readonly acknowledges?: number;
  readonly payload?: string;
  readonly flags?: number;
}

const ACK = 0x10;

/** Hosts are 10.0.2.n with the MAC address 02:00:00:00:00:n. */
export function tcpFrame(fields: TcpFields): Buffer {
  const payload = Buffer.from(fields.payload ?? '');
  const frame = Buffer.alloc(54 + payload.length);
  ethernet(frame, fields.to[0], fields.from[0], 0x0800);
  frame.writeUInt8(0x45, 14);
  frame.writeUInt16BE(40 + payload.length, 16);
  frame.writeUInt8(6, 23);
  Buffer.of(10, 0, 2, fields.from[0], 10, 0, 2, fields.to[0]).copy(frame, 26);
  frame.writeUInt16BE(fields.from[1], 34);
  frame.writeUInt16BE(fields.to[1], 36);
  frame.writeUInt32BE(fields.sequence >>> 0, 38);
  frame.writeUInt32BE((fields.acknowledges ?? 0) >>> 0, 42);
  frame.writeUInt8(0x50, 46);
  frame.writeUInt8((fields.flags ?? 0) | (fields.acknowledges === undefined ? 0 : ACK), 47);
  payload.copy(frame, 54);
  return frame;
}

/** A frame of no protocol that the switch looks into. */
export function plainFrame(to: number | 'everyone', from: number, text: string): Buffer {
  const frame = Buffer.alloc(14 + Math.max(46, text.length));
  ethernet(frame, to, from, 0x88b5);
  frame.write(text, 14);
  return frame;
}

export function textOf(frame: Uint8Array): string {
  return Buffer.from(frame.subarray(14)).toString().replace(/\0+$/, '');
}

function ethernet(frame: Buffer, to: number | 'everyone', from: number, type: number): void {
  if (to === 'everyone') frame.fill(0xff, 0, 6);
  else Buffer.of(2, 0, 0, 0, 0, to).copy(frame, 0);
  Buffer.of(2, 0, 0, 0, 0, from).copy(frame, 6);
  frame.writeUInt16BE(type, 12);
}
