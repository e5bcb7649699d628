/** The server understood, and said no: trying again gives the same answer. */
export class NbdRefusedError extends Error {
  override readonly name = 'NbdRefusedError';
}

/** The server does not keep to the protocol; whatever it said before is no worse for it. */
export class NbdBrokenError extends Error {
  override readonly name = 'NbdBrokenError';
}

/** What a server says of one of its disks, when it is attached to. */
export interface NbdDisk {
  /** Bytes. */
  readonly size: number;
  readonly readOnly: boolean;
  readonly flush: boolean;
  readonly fua: boolean;
  readonly writeZeroes: boolean;
  /** A flush on one connection covers what was completed on any other. */
  readonly multiConn: boolean;
  /** Offsets and lengths are multiples of it. */
  readonly blockBytes: number;
  /** The longest read or write that it takes. */
  readonly payloadMax: number;
}
