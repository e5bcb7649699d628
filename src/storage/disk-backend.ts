/** Bytes that survive, kept by this process itself: a raw file. What others keep is reached by a DiskClient. */
export interface DiskBackend {
  readonly size: number;
  readonly readOnly: boolean;
  /** Rejects when the range cannot be read. The range lies on the disk: the caller has checked it. */
  read(offset: number, length: number): Promise<Uint8Array>;
  write(offset: number, data: Uint8Array): Promise<void>;
  /** Zeroes from now on; `allocated`: room for them is kept. */
  clear(offset: number, length: number, allocated: boolean): Promise<void>;
  /** Every change that completed before this call is on stable storage when it resolves. */
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
