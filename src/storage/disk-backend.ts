/** Bytes that survive, behind one interface: a raw file here, anything that speaks NBD elsewhere. */
export interface DiskBackend {
  readonly size: number;
  readonly readOnly: boolean;
  /** Rejects when the range cannot be read. The range lies on the disk: the caller has checked it. */
  read(offset: number, length: number): Promise<Uint8Array>;
  write(offset: number, data: Uint8Array): Promise<void>;
  /** Every write that completed before this call is on stable storage when it resolves. */
  flush(): Promise<void>;
  close(): Promise<void>;
}

export function isOnDisk(size: number, offset: number, length: number): boolean {
  return (
    Number.isSafeInteger(offset) &&
    Number.isSafeInteger(length) &&
    offset >= 0 &&
    length >= 0 &&
    offset + length <= size
  );
}
