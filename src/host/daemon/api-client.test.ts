import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { followApi } from './api-client.ts';

test('a letter that comes in two pieces is one', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'lockstep-api-'));
  const socket = join(folder, 'api');
  const [first, second] = [Buffer.from('über').subarray(0, 1), Buffer.from('über').subarray(1)];
  const server = createServer((_request, response) => {
    response.write(first);
    setImmediate(() => setTimeout(() => response.end(second), 20));
  });
  try {
    await new Promise<void>((resolve) => server.listen(socket, resolve));
    let text = '';
    const followed = await followApi(
      { socket },
      '/v1/events',
      (part) => (text += part),
      new AbortController().signal,
    );
    expect([followed.ok, text]).toEqual([true, 'über']);
  } finally {
    server.close();
    await rm(folder, { recursive: true });
  }
});
