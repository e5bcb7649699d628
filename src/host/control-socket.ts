import { createServer, type Socket } from 'node:net';
import { createInterface } from 'node:readline';
import type { StatusLines } from './status-lines.ts';

/** A listener that reads nothing is cut off: it may come back, and is then told how things stand. */
const UNREAD_BYTES_MAX = 4 * 1024 * 1024;

/**
 * The same reports and orders as on the standard streams, for whoever connects to a unix socket: a daemon that was
 * started again finds its VM processes there. Only the owner of the process may connect.
 */
export function listenForControl(
  path: string,
  lines: StatusLines,
  obey: (line: string) => void,
  ready: () => void,
  refused: (reason: string) => void,
): void {
  const server = createServer((socket) => serve(socket, lines, obey));
  server.once('error', (error) => refused(`control: cannot listen on ${path}: ${error.message}`));
  // The socket is made in this call, and closed to others from its first moment.
  const before = process.umask(0o177);
  server.listen(path, ready);
  process.umask(before);
}

function serve(socket: Socket, lines: StatusLines, obey: (line: string) => void): void {
  const silence = lines.listen((line) => {
    if (socket.writableLength > UNREAD_BYTES_MAX) socket.destroy();
    else socket.write(`${line}\n`);
  });
  socket.on('error', () => socket.destroy());
  socket.on('close', silence);
  createInterface({ input: socket }).on('line', obey);
}
