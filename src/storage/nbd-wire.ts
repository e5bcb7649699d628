/**
 * Numbers of the NBD protocol, fixed newstyle [NBD doc/proto.md], and of Lockstep's extension to it. All
 * integers on the wire are big-endian.
 */

export const NBD_MAGIC = 0x4e42444d41474943n;
export const NBD_OPTION_MAGIC = 0x49484156454f5054n;
export const NBD_OPTION_REPLY_MAGIC = 0x0003e889045565a9n;
export const NBD_REQUEST_MAGIC = 0x25609513;
export const NBD_SIMPLE_REPLY_MAGIC = 0x67446698;

export const NBD_HANDSHAKE_FLAG = { fixedNewstyle: 1, noZeroes: 2 } as const;

export const NBD_EXPORT_FLAG = {
  hasFlags: 1,
  readOnly: 2,
  sendFlush: 4,
  sendFua: 8,
  sendTrim: 32,
  sendWriteZeroes: 64,
  canMultiConn: 256,
} as const;

export const NBD_OPTION = {
  exportName: 1,
  abort: 2,
  list: 3,
  info: 6,
  go: 7,
  /** Lockstep: open a generation of a disk; JSON {disk, vm, epoch, instance}. */
  lockstepOpen: 0x4c534f50,
  /** Lockstep: one request to the arbiter; JSON {disk, request}. */
  lockstepArbiter: 0x4c534152,
} as const;

export const NBD_REPLY = {
  ack: 1,
  server: 2,
  info: 3,
  /** Lockstep: the answer to one of its options, as JSON. */
  lockstep: 0x4c53,
  errorUnsupported: 0x80000001,
  errorPolicy: 0x80000002,
  errorInvalid: 0x80000003,
  errorUnknown: 0x80000006,
} as const;

export const NBD_INFO = { export: 0, blockSize: 3 } as const;

export const NBD_COMMAND = { read: 0, write: 1, disconnect: 2, flush: 3, trim: 4, writeZeroes: 6 } as const;
/** `noHole`: of writeZeroes; the zeroes keep their room. */
export const NBD_COMMAND_FLAG = { fua: 1, noHole: 2 } as const;

export const NBD_ERROR = {
  none: 0,
  notPermitted: 1,
  inputOutput: 5,
  invalid: 22,
  noSpace: 28,
  /** Lockstep's own server answers this for *fenced* and for nothing else; others when they end. */
  shutdown: 108,
} as const;

export const NBD_REQUEST_LENGTH = 28;
export const NBD_SIMPLE_REPLY_LENGTH = 16;
export const NBD_OPTION_LENGTH_MAX = 65536;
export const NBD_PAYLOAD_LENGTH_MAX = 32 * 1024 * 1024;

export interface NbdRequest {
  readonly flags: number;
  readonly command: number;
  readonly handle: bigint;
  readonly offset: bigint;
  readonly length: number;
}

export function encodeRequest(request: NbdRequest): Buffer {
  const bytes = Buffer.allocUnsafe(NBD_REQUEST_LENGTH);
  bytes.writeUInt32BE(NBD_REQUEST_MAGIC, 0);
  bytes.writeUInt16BE(request.flags, 4);
  bytes.writeUInt16BE(request.command, 6);
  bytes.writeBigUInt64BE(request.handle, 8);
  bytes.writeBigUInt64BE(request.offset, 16);
  bytes.writeUInt32BE(request.length, 24);
  return bytes;
}

/** Undefined when these are not a request's bytes. */
export function decodeRequest(bytes: Buffer): NbdRequest | undefined {
  if (bytes.readUInt32BE(0) !== NBD_REQUEST_MAGIC) return undefined;
  return {
    flags: bytes.readUInt16BE(4),
    command: bytes.readUInt16BE(6),
    handle: bytes.readBigUInt64BE(8),
    offset: bytes.readBigUInt64BE(16),
    length: bytes.readUInt32BE(24),
  };
}

export function encodeSimpleReply(handle: bigint, error: number): Buffer {
  const bytes = Buffer.allocUnsafe(NBD_SIMPLE_REPLY_LENGTH);
  bytes.writeUInt32BE(NBD_SIMPLE_REPLY_MAGIC, 0);
  bytes.writeUInt32BE(error, 4);
  bytes.writeBigUInt64BE(handle, 8);
  return bytes;
}

export function encodeOption(option: number, data: Uint8Array): Buffer {
  const head = Buffer.allocUnsafe(16);
  head.writeBigUInt64BE(NBD_OPTION_MAGIC, 0);
  head.writeUInt32BE(option, 8);
  head.writeUInt32BE(data.length, 12);
  return Buffer.concat([head, data]);
}

export function encodeOptionReply(option: number, type: number, data: Uint8Array): Buffer {
  const head = Buffer.allocUnsafe(20);
  head.writeBigUInt64BE(NBD_OPTION_REPLY_MAGIC, 0);
  head.writeUInt32BE(option, 8);
  head.writeUInt32BE(type, 12);
  head.writeUInt32BE(data.length, 16);
  return Buffer.concat([head, data]);
}
