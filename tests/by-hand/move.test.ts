import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { RedisClients } from '../../bench/chaos/redis-clients.ts';
import { judge } from '../../bench/chaos/redis-history.ts';
import { buildImage } from '../../src/host/image/build-image.ts';
import { LOG_FORMAT_VERSION } from '../../src/replay/frame.ts';
import type { StatusLine } from '../../tools/pair/json-process.ts';
import type { HostView, WaitingHost } from '../../tools/pair/protected-guest.ts';
import { RedisConnection } from '../../tools/pair/redis-connection.ts';
import { savedGuest } from '../../tools/pair/saved-guest.ts';
import { withPair } from '../../tools/pair/with-pair.ts';
import { closing, oneJournal, pair } from '../journal-pair.ts';
import { otherBuild } from '../other-build.ts';

/** A guest without fault tolerance is moved, also to another build of the program: real processes. */

const MINUTES = 60_000;
const CLIENTS = 8;
const THINK_MS = 20;
const missing = ['passt'].filter((program) => !existsSync(`/usr/bin/${program}`));

/** All that a host said. */
class Told {
  readonly lines: StatusLine[] = [];
  readonly #view: HostView;

  constructor(view: HostView) {
    this.#view = view;
    view.process.listen((line) => {
      if (line.kind !== 'figures') this.lines.push(line);
    });
  }

  async until(fits: (line: StatusLine) => boolean, what: string): Promise<StatusLine> {
    for (;;) {
      const line = this.lines.find(fits);
      if (line) return line;
      if (!this.#view.process.running)
        throw new Error(`${this.#view.name} ended before it ${what}:\n${this.#tail()}`);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }

  #tail(): string {
    return this.lines
      .slice(-8)
      .map((line) => JSON.stringify(line))
      .join('\n');
  }
}

const is = (state: string) => (line: StatusLine) => line.kind === 'state' && line.state === state;
const stays = (line: StatusLine) => /the guest stays/.test(String(line.detail));
const kind = (name: string) => (line: StatusLine) => line.kind === name;

/** A guest that has just been restored needs a moment until it is heard. */
async function answersAtAll(port: number): Promise<void> {
  for (;;) {
    const asked = await RedisConnection.open(port)
      .then((connection) => connection.call(['PING']).finally(() => connection.close()))
      .catch(() => undefined);
    if (asked !== undefined) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

test.skipIf(missing.length > 0)(
  'a rolling upgrade under load: no client notices',
  async () => {
    const image = await buildImage('demo', { progress: () => undefined });
    if (!image.ok) throw new Error(image.error);
    const from = await savedGuest(image.value, () => undefined);
    const folder = await mkdtemp(join(tmpdir(), 'lockstep-build-'));
    closing.push(() => rm(folder, { recursive: true, force: true }));
    const next = await otherBuild(folder, LOG_FORMAT_VERSION + 1);
    await withPair(image.value, { from, protectAtStart: false }, async (guest) => {
      const [a, b] = guest.hosts;
      const [toldA, toldB] = [new Told(a), new Told(b)];
      await answersAtAll(guest.redisPort);
      const clients = await RedisClients.open(guest.redisPort, CLIENTS, THINK_MS);
      const answers = async (many: number): Promise<void> => {
        const enough = clients.answered + many;
        while (clients.answered < enough) {
          if (clients.connectionsLost > 0) throw new Error('a client lost its connection');
          await new Promise((resolve) => setTimeout(resolve, 5));
        }
      };
      const move = async (source: HostView, told: Told, to: WaitingHost, toldThere: Told): Promise<void> => {
        source.process.order({ order: 'move', address: to.address });
        const moved = await toldThere.until(kind('moved'), 'went on with the guest');
        // The same state, to the last bit, that the source stood still with.
        const copied = told.lines.findLast(kind('copied'));
        const loaded = toldThere.lines.findLast(kind('loaded'));
        expect(loaded?.digest).toMatch(/^[0-9a-f]{32}$/);
        expect(loaded?.digest).toBe(copied?.digest);
        expect(moved.stoodMs).toBeGreaterThan(0);
        await answers(100);
        await source.process.ended;
        expect(told.lines.find(kind('halted'))?.reason).toMatch(/^moved to 127/);
      };
      try {
        clients.start('move');
        await answers(100);

        // A target that dies in the middle of the copy.
        const mortal = await guest.addHost('mortal');
        const toldMortal = new Told(mortal.view);
        a.process.order({ order: 'move', address: mortal.address });
        await toldMortal.until(is('LOAD'), 'got pages');
        mortal.view.process.kill();
        await toldA.until(stays, 'went on with its guest');
        expect(a.state).toBe('SOLE');
        await answers(100);

        await move(a, toldA, { view: b, address: guest.channel }, toldB);

        // The next build cannot follow this one's log; both say so, with both builds and formats.
        const c = await guest.addHost('next', next);
        const toldC = new Told(c.view);
        b.process.order({ order: 'protect', address: c.address });
        const formats =
          /runs build ([0-9a-f]{12}) \(log format (\d)\), this side ([0-9a-f]{12}) \(log format (\d)\): they cannot pair; move the VM (there|here) first$/;
        const ours = formats.exec(String((await toldB.until(is('refused'), 'refused it')).detail));
        const theirs = formats.exec(String((await toldC.until(is('refused'), 'refused it')).detail));
        const [older, newer] = [LOG_FORMAT_VERSION, LOG_FORMAT_VERSION + 1].map(String);
        expect(ours?.slice(1)).toEqual([theirs?.[3], newer, theirs?.[1], older, 'there']);
        expect(ours?.[1]).not.toBe(ours?.[3]);
        b.process.order({ order: 'unprotect' });
        await answers(100);
        await toldB.until(is('SOLE'), 'went on alone');

        await move(b, toldB, c, toldC);

        const d = await guest.addHost('another of the next', next);
        c.view.process.order({ order: 'protect', address: d.address });
        const toldD = new Told(d.view);
        await toldC.until(is('PAIR'), 'was protected again');
        await answers(100);
        c.view.process.kill();
        await toldD.until(is('SOLE'), 'took over');
        await answers(100);

        const { history, lists } = await clients.finish();
        expect(judge(history, lists)).toEqual({
          unknownOutcomes: 0,
          acknowledgedWritesLost: 0,
          notLinearizable: [],
        });
        expect([clients.connectionsLost, clients.refusal]).toEqual([0, undefined]);
      } finally {
        clients.close();
      }
    });
  },
  10 * MINUTES,
);

test('suspend, move, protect again: the journal goes on; orders that do not fit are one line each', async () => {
  const { a, b, backup } = await pair();
  const { vm: c, address } = await backup();
  const line = (vm: typeof a, text: RegExp) =>
    vm.until(() => vm.reports.some(({ detail }) => text.test(detail ?? '')), `said ${text}`);
  a.order({ order: 'move', address });
  await line(a, /^move: the VM has a backup/);
  for (const order of ['protect', 'move', 'candidate', 'migrate-backup']) {
    a.order({ order, address: 'nowhere', host: 'x' });
    await a.until(
      () =>
        a.reports.some(
          (report) => Reflect.get(report, 'what') === order && /host:port/.test(report.detail ?? ''),
        ),
      `refused ${order} to nowhere`,
    );
    a.order({ order, address: '[::1]:7000', host: 'x' });
    await a.until(
      () =>
        a.reports.some(
          (report) => Reflect.get(report, 'what') === order && /family/.test(report.detail ?? ''),
        ),
      `refused ${order} to another family`,
    );
  }
  c.order({ order: 'move', address });
  await line(c, /^move: this side does not run the guest/);
  expect(a.state).toBe('PAIR');

  a.order({ order: 'unprotect' });
  await a.is('SOLE');
  expect(await b.ended).toBe(1);
  a.order({ order: 'move', address });
  await c.is('SOLE');
  await c.writes(5);
  expect(await a.ended).toBe(0);
  expect(a.reason).toMatch(/^moved to /);
  const { vm: d, address: there } = await backup();
  c.order({ order: 'protect', address: there });
  await c.is('PAIR');
  await c.writes(5);
  c.signal('SIGKILL');
  await d.is('SOLE');
  await d.writes(5);
  expect(oneJournal(oneJournal(a.console, c.console) ?? '', d.console)).toBeDefined();
}, 120_000);
