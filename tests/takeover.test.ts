import { createSocket } from 'node:dgram';
import { connect } from 'node:net';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { closing, Disks, folder, isJournal, oneGoesOn, oneJournal, pair, Vm } from './journal-pair.ts';

/**
 * Pairs of real processes with a guest that keeps a journal on its console (tests/guests/journal.s): whatever
 * happens to one of them, the journal goes on without a gap, and no line of it is ever told in two ways.
 */

test('SIGKILL of the primary, again and again: the journal goes on, from backup to backup', async () => {
  const { a, b, backup } = await pair();
  a.signal('SIGKILL');
  await b.is('SOLE');
  await b.writes(10);
  const before = oneJournal(a.console, b.console);
  expect(before).toBeDefined();

  const { vm: c, address } = await backup();
  b.order({ order: 'protect', address });
  await b.is('PAIR');
  await b.writes(5);
  b.signal('SIGKILL');
  await c.is('SOLE');
  await c.writes(10);
  const journal = oneJournal(oneJournal(a.console, b.console) ?? '', c.console);
  expect(journal?.startsWith(before ?? 'nothing')).toBe(true);
});

test('SIGKILL of the backup: the primary wins the test-and-set, goes on alone, and can be protected again', async () => {
  const { a, b, backup } = await pair();
  b.signal('SIGKILL');
  await a.is('SOLE');
  await a.writes(10);
  expect(isJournal(a.console)).toBe(true);
  const { vm: c, address } = await backup();
  a.order({ order: 'protect', address });
  await a.is('PAIR');
  a.signal('SIGKILL');
  await c.is('SOLE');
  await c.writes(5);
  expect(oneJournal(a.console, c.console)).toBeDefined();
});

test('a primary that was stopped for three seconds halts when it comes back, and tells nothing new', async () => {
  const { a, b } = await pair();
  a.signal('SIGSTOP');
  await b.is('SOLE');
  await b.writes(10);
  await new Promise((resolve) => setTimeout(resolve, 3000));
  a.signal('SIGCONT');
  expect(await a.ended).toBe(1);
  expect(a.reason).toMatch(/superseded|newer generation/);
  await b.writes(5);
  // What the old primary let out late, the survivor has told too: it lies in the common part.
  expect(oneJournal(a.console, b.console)).toBeDefined();
  expect(b.over).toBe(false);
});

test('a channel that breaks is resumed; one that is cut ends the pair, and exactly one goes on', async () => {
  const { a, b, network } = await pair();
  for (let round = 0; round < 5; round++) {
    network.breakConnections();
    await a.writes(2);
  }
  expect([a.state, b.state]).toEqual(['PAIR', 'BACK']);
  network.tcp = 'silent';
  await oneGoesOn(a, b);
});

test('two sides cut from each other, heartbeats too: exactly one goes on', async () => {
  const { a, b, network } = await pair();
  network.tcp = 'silent';
  network.udp = 'silent';
  await oneGoesOn(a, b);
});

test('without the disk server nobody decides: the backup waits, and goes live when it is back', async () => {
  const { a, b, disks } = await pair();
  await disks.stop();
  await a.writes(3);
  a.signal('SIGKILL');
  await b.is('ASK');
  await new Promise((resolve) => setTimeout(resolve, 1000));
  expect([b.state, b.console]).toEqual(['ASK', '']);
  await disks.start();
  await b.is('SOLE');
  await b.writes(5);
  expect(oneJournal(a.console, b.console)).toBeDefined();
});

test('rubbish on the channel and on the heartbeat port changes nothing', async () => {
  const { a, b, port } = await pair();
  const datagrams = createSocket('udp4');
  closing.push(() => datagrams.close());
  for (const bytes of [
    Buffer.alloc(2000, 0xff),
    Buffer.from('GET / HTTP/1.1\r\n\r\n'),
    Buffer.alloc(64),
    Buffer.of(1),
  ]) {
    const hungUp = new Promise((resolve) => {
      const stranger = connect(port, '127.0.0.1', () => stranger.write(bytes));
      stranger.on('error', () => {});
      stranger.on('close', resolve);
    });
    datagrams.send(bytes, port, '127.0.0.1');
    await hungUp;
  }
  expect(b.reports.filter(({ state }) => state === 'refused').length).toBeGreaterThanOrEqual(3);
  await a.writes(5);
  expect([a.state, b.state]).toEqual(['PAIR', 'BACK']);
  a.signal('SIGKILL');
  await b.is('SOLE');
  await b.writes(5);
  expect(oneJournal(a.console, b.console)).toBeDefined();
});

test('a guest that powers off ends both sides in good order', async () => {
  const { a, b } = await pair();
  a.order({ order: 'console', port: 0, text: 'xyzq' });
  expect([await a.ended, await b.ended]).toEqual([0, 0]);
  expect([a.reason, b.reason]).toEqual(['powered off', 'the VM was powered off']);
  expect(isJournal(a.console)).toBe(true);
  expect(b.console).toBe('');
});

test('a disk that the server does not have is one line', async () => {
  const disks = await Disks.create();
  const storage = { address: `127.0.0.1:${disks.port}`, disks: ['sda'] };
  const lost = new Vm({ role: 'primary', storage, boot: { kernel: join(folder, 'journal') } });
  await lost.until(() => lost.reports.some(({ detail }) => /no such disk/.test(detail ?? '')), 'said so');
  expect(lost.console).toBe('');
});
