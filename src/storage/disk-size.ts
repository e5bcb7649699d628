import { failed, ok, type Result } from '../base/result.ts';
import { formatNbdAddress, type NbdAddress } from './nbd-address.ts';
import { NbdClientConnection } from './nbd-client-connection.ts';
import type { NbdDisk } from './nbd-disk.ts';

const SECTOR_BYTES = 512;

/** What a server says of one of its disks; nothing is opened. */
export async function servedDisk(address: NbdAddress): Promise<Result<NbdDisk>> {
  const where =
    'socket' in address ? `at ${formatNbdAddress(address)}` : `at ${address.host}:${address.port}`;
  try {
    const connection = await NbdClientConnection.connect(address);
    try {
      const disk = await connection.describe(address.disk);
      const unfit = unfitness(disk);
      if (unfit !== undefined) return failed(`disk ${address.disk} of the server ${where} ${unfit}`);
      return ok(disk);
    } finally {
      connection.close();
    }
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    return failed(`the disk server ${where}: ${code ?? message}`);
  }
}

/** Why this cannot be a guest's disk. */
export function unfitness({ size, blockBytes }: NbdDisk): string | undefined {
  if (size === 0) return 'is empty';
  if (size % SECTOR_BYTES !== 0) return `has a size of ${size} bytes, no multiple of 512`;
  if (blockBytes > SECTOR_BYTES)
    return `takes blocks of ${blockBytes} bytes only, a guest writes 512: put nbdkit's blocksize filter before it`;
  return undefined;
}
