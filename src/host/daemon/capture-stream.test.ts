import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Fastify from 'fastify';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { followBytes } from './api-client.ts';
import { relayCapture } from './capture-stream.ts';

/** A daemon that passes on what another host's answers, be it a capture or an error. */
const daemon = Fastify();
let folder: string;
const peer = createServer((request, response) => {
  if (request.url === '/refused')
    response.writeHead(409).end('{"error":"web has 1 interfaces: there is no 1"}');
  else if (request.url === '/cut') response.socket?.destroy();
  else response.end('packets');
});

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lockstep-relay-'));
  const peerAt = { socket: join(folder, 'peer') };
  await new Promise<void>((resolve) => peer.listen(peerAt.socket, resolve));
  daemon.get('/*', (request, reply) => relayCapture(peerAt, request.url, reply));
  await daemon.listen({ path: join(folder, 'daemon') });
});

afterAll(async () => {
  await daemon.close();
  peer.close();
  await rm(folder, { recursive: true });
});

async function follow(path: string): Promise<{ readonly came: string; readonly error: string | undefined }> {
  let came = '';
  const followed = await followBytes(
    { socket: join(folder, 'daemon') },
    path,
    (bytes) => {
      came += bytes.toString();
    },
    new AbortController().signal,
  );
  return { came, error: followed.ok ? undefined : followed.error };
}

test('a capture through another host', async () => {
  expect(await follow('/capture')).toEqual({ came: 'packets', error: undefined });
});

test("that host's refusal, and its silence, are answers too", async () => {
  expect(await follow('/refused')).toEqual({ came: '', error: 'web has 1 interfaces: there is no 1' });
  const cut = await follow('/cut');
  expect(cut.came).toBe('');
  expect(cut.error).toMatch(/peer|reach|hang/);
});
