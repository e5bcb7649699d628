import { createServer, type Server, type Socket } from 'node:net';
import { failed, ok, type Result } from '../base/result.ts';
import { DiskExport, type DiskExportOptions } from './disk-export.ts';
import { serveNbdConnection } from './nbd-server-connection.ts';

export interface DiskServerOptions {
  /** 0 takes a free port. */
  readonly port: number;
  readonly host?: string;
  readonly disks: readonly DiskExportOptions[];
}

/** Each may hold some 100 MB of operations; a VM takes one for each disk and one for the arbiter. */
const CONNECTIONS_MAX = 256;

/**
 * Lockstep's disk server: NBD over TCP for anyone, with generations and the arbiter's record for Lockstep's own
 * hosts (protocol 3 and 6).
 */
export class DiskServer {
  readonly port: number;
  readonly #server: Server;
  readonly #exports: readonly DiskExport[];
  readonly #sockets: Set<Socket>;

  private constructor(server: Server, port: number, exports: readonly DiskExport[], sockets: Set<Socket>) {
    this.#server = server;
    this.port = port;
    this.#exports = exports;
    this.#sockets = sockets;
  }

  static async start(options: DiskServerOptions): Promise<Result<DiskServer>> {
    const exports: DiskExport[] = [];
    const closeAll = async (): Promise<void> => {
      for (const each of exports) await each.close();
    };
    for (const disk of options.disks) {
      if (exports.some((each) => each.name === disk.name)) {
        await closeAll();
        return failed(`two disks are named ${disk.name}`);
      }
      const opened = await DiskExport.open(disk);
      if (!opened.ok) {
        await closeAll();
        return opened;
      }
      exports.push(opened.value);
    }
    const sockets = new Set<Socket>();
    const server = createServer((socket) => {
      sockets.add(socket);
      socket.setNoDelay(true);
      socket.on('error', () => socket.destroy());
      socket.on('close', () => sockets.delete(socket));
      serveNbdConnection(socket, exports).catch(() => socket.destroy());
    });
    server.maxConnections = CONNECTIONS_MAX;
    const host = options.host ?? '127.0.0.1';
    const listening = await listen(server, options.port, host);
    if (!listening.ok) {
      await closeAll();
      return listening;
    }
    return ok(new DiskServer(server, listening.value, exports, sockets));
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
    for (const each of this.#exports) await each.close();
  }
}

function listen(server: Server, port: number, host: string): Promise<Result<number>> {
  return new Promise((resolve) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      const reason =
        error.code === 'EADDRINUSE' ? 'is in use: choose another one with --port' : (error.code ?? '');
      resolve(failed(`port ${port} on ${host} ${reason}`));
    });
    server.listen(port, host, () => {
      const address = server.address();
      resolve(ok(typeof address === 'object' && address !== null ? address.port : port));
    });
  });
}
