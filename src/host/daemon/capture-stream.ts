import { createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import type { FastifyReply } from 'fastify';
import { failed } from '../../base/result.ts';
import { answer } from './api-answer.ts';
import type { HostDaemon } from './host-daemon.ts';

const CONNECT_MS_MAX = 5_000;

let captures = 0;

/** Packets of one interface as they pass, until the reader leaves or the VM process ends. */
export function followCapture(
  daemon: HostDaemon,
  id: string,
  nic: number,
  reply: FastifyReply,
): FastifyReply {
  const instance = daemon.instances.get(id);
  if (!instance) return answer(reply, failed(`the VM process ${id} is not on ${daemon.name} any more`));
  const { nics } = instance.config.machine as { readonly nics: readonly unknown[] };
  if (nic >= nics.length)
    return answer(reply, failed(`${instance.vm} has ${nics.length} interfaces: there is no ${nic}`));
  // No longer than the name of its other socket: paths of sockets are short.
  captures = (captures + 1) % 10_000;
  const path = join(instance.folder.path, `cap${String(captures).padStart(4, '0')}`);
  reply.hijack();
  const { raw } = reply;
  let socket: Socket | undefined;
  const server = createServer((connection) => {
    server.close();
    clearTimeout(late);
    socket = connection;
    raw.writeHead(200, { 'content-type': 'application/vnd.tcpdump.pcap', 'cache-control': 'no-store' });
    raw.flushHeaders();
    connection.on('error', () => raw.end());
    connection.pipe(raw);
  });
  const refuse = (why: string): void => {
    server.close();
    if (raw.headersSent) return;
    raw.writeHead(409, { 'content-type': 'application/json' });
    raw.end(JSON.stringify({ error: why }));
  };
  const late = setTimeout(() => refuse(`the VM process ${id} does not begin to capture`), CONNECT_MS_MAX);
  raw.once('close', () => {
    clearTimeout(late);
    server.close();
    socket?.destroy();
  });
  server.on('error', (error) => refuse(error.message));
  server.listen(path, () => {
    void daemon.order(id, { order: 'capture', nic, socket: path }).then((ordered) => {
      if (!ordered.ok) refuse(ordered.error);
    });
  });
  return reply;
}
