import type { ServerResponse } from 'node:http';
import { createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import type { FastifyReply } from 'fastify';
import { failed } from '../../base/result.ts';
import { answer } from './api-answer.ts';
import { type ApiAddress, followBytes } from './api-client.ts';
import type { HostDaemon } from './host-daemon.ts';

const CONNECT_MS_MAX = 5_000;
/** A client that reads nothing is cut off. */
const UNREAD_BYTES_MAX = 16 * 1024 * 1024;

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
    begin(raw);
    connection.on('error', () => raw.end());
    connection.pipe(raw);
  });
  const refuse = (why: string): void => {
    server.close();
    endWith(raw, why);
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

/** The same from another host's daemon. */
export function relayCapture(address: ApiAddress, path: string, reply: FastifyReply): FastifyReply {
  reply.hijack();
  const { raw } = reply;
  const abort = new AbortController();
  raw.once('close', () => abort.abort());
  const relay = (bytes: Buffer): void => {
    if (!raw.headersSent) begin(raw);
    if (raw.writableLength > UNREAD_BYTES_MAX) raw.destroy();
    else raw.write(bytes);
  };
  void followBytes(address, path, relay, abort.signal).then((followed) => {
    if (followed.ok || raw.headersSent) raw.end();
    else endWith(raw, followed.error);
  });
  return reply;
}

function begin(raw: ServerResponse): void {
  raw.writeHead(200, { 'content-type': 'application/vnd.tcpdump.pcap', 'cache-control': 'no-store' });
  raw.flushHeaders();
}

/** What was refused says why; what has begun only ends. */
function endWith(raw: ServerResponse, why: string): void {
  if (!raw.headersSent) {
    raw.writeHead(409, { 'content-type': 'application/json' });
    raw.write(JSON.stringify({ error: why }));
  }
  raw.end();
}
