import { stat } from 'node:fs/promises';
import { createServer, type Server } from 'node:net';
import { failed, ok, type Result } from '../base/result.ts';

/**
 * Keeps two processes of one host from using one file or folder. The lock is an abstract unix socket named after its
 * device and inode: it has no file, and the kernel drops it with the process, however that ends.
 */
export class InodeLock {
  readonly #server: Server;

  private constructor(server: Server) {
    this.#server = server;
  }

  /** `use` keeps locks for different purposes apart and names the thing; `inUse` is what the second one is told. */
  static async take(path: string, use: string, inUse: string): Promise<Result<InodeLock>> {
    let name: string;
    try {
      const { dev, ino } = await stat(path, { bigint: true });
      name = `\0lockstep-${use}-${dev}-${ino}`;
    } catch (error) {
      return failed(`${use} ${path} cannot be locked (${(error as NodeJS.ErrnoException).code})`);
    }
    const server = createServer((socket) => socket.destroy());
    return new Promise((resolve) => {
      server.once('error', (error: NodeJS.ErrnoException) => {
        // A host without abstract sockets runs without the lock.
        resolve(error.code === 'EADDRINUSE' ? failed(inUse) : ok(new InodeLock(server)));
      });
      server.listen(name, () => {
        server.unref();
        resolve(ok(new InodeLock(server)));
      });
    });
  }

  release(): void {
    if (this.#server.listening) this.#server.close();
  }
}
