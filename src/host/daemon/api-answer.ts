import type { FastifyReply } from 'fastify';
import type { Result } from '../../base/result.ts';
import type { HostDaemon } from './host-daemon.ts';
import type { VmVerbs } from './vm-verbs.ts';

export interface ApiOptions {
  readonly daemon: HostDaemon;
  readonly verbs: VmVerbs;
  readonly storeName: string;
}

/** A client that reads nothing is cut off. */
const UNREAD_BYTES_MAX = 4 * 1024 * 1024;

/** Success says nothing; what is not done says why, as 404 where the thing is missing and 409 otherwise. */
export function answer(reply: FastifyReply, result: Result<unknown>): FastifyReply {
  if (result.ok) return reply.code(200).send({});
  const missing = /^there is no /.test(result.error);
  const mistaken = /mistakes?: /.test(result.error);
  return reply.code(missing ? 404 : mistaken ? 400 : 409).send({ error: result.error });
}

export function stream(
  reply: FastifyReply,
  type: string,
  begin: (write: (text: string | Buffer) => void, ended: (then: () => void) => void) => void,
): void {
  reply.hijack();
  reply.raw.writeHead(200, { 'content-type': type, 'cache-control': 'no-store' });
  reply.raw.flushHeaders();
  begin(
    (text) => {
      if (reply.raw.writableLength > UNREAD_BYTES_MAX) reply.raw.destroy();
      else reply.raw.write(text);
    },
    (then) => reply.raw.once('close', then),
  );
}
