import { failed, ok, type Result } from '../base/result.ts';
import { type NbdAddress, NbdClientConnection } from './nbd-client-connection.ts';

export interface ServedDisk {
  /** Bytes. */
  readonly size: number;
  readonly readOnly: boolean;
}

/** What a server says of one of its disks; nothing is opened. */
export async function servedDisk(address: NbdAddress): Promise<Result<ServedDisk>> {
  try {
    const connection = await NbdClientConnection.connect(address);
    try {
      await connection.describe(address.disk);
      return ok({ size: connection.size, readOnly: connection.readOnly });
    } finally {
      connection.close();
    }
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    return failed(`the disk server at ${address.host}:${address.port}: ${code ?? message}`);
  }
}
