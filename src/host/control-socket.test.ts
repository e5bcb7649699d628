import { mkdtemp, rm, stat } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { listenForControl } from './control-socket.ts';
import { StatusLines } from './status-lines.ts';

/** Orders and reports on a unix socket, as a daemon has them that was started after its VM process. */

let folder: string;
let path: string;
const sockets: Socket[] = [];

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lockstep-control-'));
  path = join(folder, 'control');
});

afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy();
  await rm(folder, { recursive: true });
});

function quietLines(): StatusLines {
  const lines = new StatusLines(() => true);
  lines.keptInFile = true;
  return lines;
}

async function listening(lines: StatusLines, obey: (line: string) => void = () => undefined): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    listenForControl(path, lines, obey, resolve, (reason) => reject(new Error(reason)));
  });
}

/** The first lines that a listener is told. */
function told(count: number): Promise<Record<string, unknown>[]> {
  const socket = connect(path);
  sockets.push(socket);
  const got: Record<string, unknown>[] = [];
  return new Promise((resolve, reject) => {
    socket.once('error', reject);
    createInterface({ input: socket }).on('line', (line) => {
      const { ms: _, ...rest } = JSON.parse(line) as Record<string, unknown>;
      if (got.push(rest) === count) resolve(got);
    });
  });
}

test('whoever connects is told first how things stand, then what happens', async () => {
  const lines = quietLines();
  lines.report({ kind: 'started', pid: 1 });
  lines.report({ kind: 'state', state: 'SOLE' });
  lines.report({ kind: 'figures', lagMs: 1 });
  lines.report({ kind: 'state', state: 'PAIR' });
  await listening(lines);
  const first = told(3);
  const second = told(2);
  expect(await second).toEqual([
    { kind: 'started', pid: 1 },
    { kind: 'state', state: 'PAIR' },
  ]);
  lines.report({ kind: 'figures', lagMs: 2 });
  expect((await first)[2]).toEqual({ kind: 'figures', lagMs: 2 });
});

test('orders come from any of them, line by line', async () => {
  const orders: string[] = [];
  await listening(quietLines(), (line) => orders.push(line));
  for (const order of ['one', 'two']) {
    const socket = connect(path);
    sockets.push(socket);
    socket.write(`${order}\n`);
    while (orders.at(-1) !== order) await new Promise((resolve) => setTimeout(resolve, 5));
  }
  expect(orders).toEqual(['one', 'two']);
});

test('only its owner may connect', async () => {
  await listening(quietLines());
  expect((await stat(path)).mode & 0o777).toBe(0o600);
});

test('a place that cannot be listened on is refused with its reason', async () => {
  path = join(folder, 'nowhere', 'control');
  await expect(listening(quietLines())).rejects.toThrow(/^control: cannot listen on .*nowhere\/control: /);
});

test('what is kept in a file has no figures; what is read as it comes has them', () => {
  const written: string[] = [];
  const lines = new StatusLines((text) => written.push(text));
  lines.report({ kind: 'figures' });
  lines.keptInFile = true;
  lines.report({ kind: 'figures' });
  lines.report({ kind: 'state' });
  expect(written.map((text) => (JSON.parse(text) as { kind: string }).kind)).toEqual(['figures', 'state']);
});
