import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { createServer, type Server, type ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { captureInto } from './capture-client.ts';

let folder: string;
let server: Server | undefined;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lockstep-capture-'));
});

afterEach(async () => {
  server?.closeAllConnections();
  server?.close();
  server = undefined;
  await rm(folder, { recursive: true });
});

const socket = () => join(folder, 'api.sock');
const never = new AbortController().signal;

async function daemon(respond: (response: ServerResponse, url: string) => void): Promise<void> {
  server = createServer((request, response) => respond(response, request.url ?? ''));
  await new Promise<void>((resolve) => server!.listen(socket(), resolve));
}

test('a request that nobody answers, or that is refused, makes no file', async () => {
  const out = join(folder, 'web.pcap');
  expect((await captureInto({ socket: socket() }, 'web', 0, out, never)).ok).toBe(false);
  await daemon((response) => response.writeHead(404).end('{"error":"there is no VM web"}'));
  expect(await captureInto({ socket: socket() }, 'web', 0, out, never)).toEqual({
    ok: false,
    error: 'there is no VM web',
  });
  expect(await readdir(folder)).toEqual(['api.sock']);
});

test('a file that is there is not touched, and nobody is asked', async () => {
  const out = join(folder, 'keep.pcap');
  await writeFile(out, 'kept');
  let asked = 0;
  await daemon((response) => {
    asked += 1;
    response.end('bytes');
  });
  expect(await captureInto({ socket: socket() }, 'web', 0, out, never)).toEqual({
    ok: false,
    error: `${out} is there already: name another file for the capture`,
  });
  expect(await readFile(out, 'utf8')).toBe('kept');
  expect(asked).toBe(0);
});

test('what comes is in a file for its owner alone, whoever ends it', async () => {
  const out = join(folder, 'web.pcap');
  const over = new AbortController();
  await daemon((response, url) => {
    expect(url).toBe('/v1/vms/web/capture?nic=1');
    response.write('packets');
  });
  const captured = captureInto({ socket: socket() }, 'web', 1, out, over.signal);
  await expect.poll(() => readFile(out, 'utf8').catch(() => '')).toBe('packets');
  over.abort();
  expect(await captured).toEqual({ ok: true, value: 7 });
  expect((await stat(out)).mode & 0o777).toBe(0o600);
});

test('what cannot be written ends it', async () => {
  await daemon((response) => response.write('packets'));
  const captured = await captureInto({ socket: socket() }, 'web', 0, '/dev/full', never);
  expect(captured.ok ? '' : captured.error).toMatch(/^\/dev\/full cannot be written: ENOSPC/);
});
