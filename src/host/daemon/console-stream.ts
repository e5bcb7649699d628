import { once } from 'node:events';
import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import type { ServerResponse } from 'node:http';
import type { FastifyReply } from 'fastify';
import { failed } from '../../base/result.ts';
import { answer } from './api-answer.ts';
import type { HostDaemon } from './host-daemon.ts';

const CONSOLE_AGAIN_MS = 50;

/** The console's file from its beginning, and on as it grows, while its process lives. */
export function followConsole(daemon: HostDaemon, id: string, reply: FastifyReply): FastifyReply {
  const instance = daemon.instances.get(id);
  if (!instance) return answer(reply, failed(`the VM process ${id} is not on ${daemon.name} any more`));
  reply.hijack();
  reply.raw.writeHead(200, { 'content-type': 'text/plain; charset=utf-8', 'cache-control': 'no-store' });
  reply.raw.flushHeaders();
  void copyWhile(instance.folder.console, reply.raw, () => instance.running);
  return reply;
}

/** At the reader's pace. A file that is shorter than before has begun anew. */
async function copyWhile(path: string, to: ServerResponse, alive: () => boolean): Promise<void> {
  let at = 0;
  for (let more = true; more && !to.destroyed; ) {
    // What is written before the end is read after it.
    more = alive();
    const { size } = await stat(path).catch(() => ({ size: 0 }));
    if (size < at) at = 0;
    try {
      for await (const chunk of createReadStream(path, { start: at })) {
        at += (chunk as Buffer).length;
        if (to.destroyed) return;
        if (!to.write(chunk)) await Promise.race([once(to, 'drain'), once(to, 'close')]);
      }
    } catch {
      // It is not there yet.
    }
    if (more) await new Promise((resolve) => setTimeout(resolve, CONSOLE_AGAIN_MS));
  }
  to.end();
}
