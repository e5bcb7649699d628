import { stat } from 'node:fs/promises';
import { createServer, type Server } from 'node:net';
import { failed, ok, type Result } from '../base/result.ts';

/**
 * Keeps two guests or disk servers of one host from writing one disk image. The lock is an abstract Unix socket named after the
 * file's device and inode: it has no file, and the kernel drops it with the process, however that ends.
 */
export class DiskLock {
  readonly #server: Server;

  private constructor(server: Server) {
    this.#server = server;
  }

  static async take(path: string): Promise<Result<DiskLock>> {
    let name: string;
    try {
      const { dev, ino } = await stat(path, { bigint: true });
      name = `\0lockstep-disk-${dev}-${ino}`;
    } catch (error) {
      return failed(`disk ${path} cannot be locked (${(error as NodeJS.ErrnoException).code})`);
    }
    const server = createServer((socket) => socket.destroy());
    return new Promise((resolve) => {
      server.once('error', (error: NodeJS.ErrnoException) => {
        const inUse = error.code === 'EADDRINUSE';
        // A host without abstract sockets runs without the lock.
        resolve(
          inUse
            ? failed(`disk ${path} is in use by another guest or disk server: give each its own copy`)
            : ok(new DiskLock(server)),
        );
      });
      server.listen(name, () => {
        server.unref();
        resolve(ok(new DiskLock(server)));
      });
    });
  }

  release(): void {
    if (this.#server.listening) this.#server.close();
  }
}
