import { readFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { oneJournal, pair, type Report, type Vm } from './journal-pair.ts';

/** The logging channel between two real processes: full buffers, and connections that break under load [FT 3.2]. */

interface Figures extends Report {
  readonly count: number;
  readonly unackedBytes: number;
  readonly heldBytes: number;
  readonly bufferedBytes: number;
  readonly logBytes: number;
}

function figuresOf(vm: Vm): Figures[] {
  return vm.reports.filter(({ kind }) => kind === 'figures') as Figures[];
}

async function moreFigures(vm: Vm, lines: number): Promise<Figures[]> {
  const before = figuresOf(vm).length;
  await vm.until(() => figuresOf(vm).length >= before + lines, 'told its figures');
  return figuresOf(vm).slice(before);
}

/** A console with much to say, so that the log is full of it. */
function chatter(vm: Vm): () => void {
  const timer = setInterval(() => vm.order({ order: 'console', port: 0, text: 'xyz'.repeat(8) }), 5);
  return () => clearInterval(timer);
}

async function residentBytes(vm: Vm): Promise<number> {
  const status = await readFile(`/proc/${vm.child.pid}/status`, 'utf8');
  return Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1]) * 1024;
}

test('a reader that stalls stops the primary, buffers keep to their bounds, and nothing is lost', async () => {
  const limits = { streamBytes: 64 * 1024, holdBytes: 16 * 1024, backupBytes: 32 * 1024 };
  // A stopped backup is not to be suspected here.
  const timing = { suspicionMs: 60_000, suspicionMinMs: 60_000 };
  const { a, b } = await pair({ limits, timing, figuresEveryMs: 50 });
  const hush = chatter(a);
  const running = await moreFigures(a, 4);
  expect(running.at(-1)!.count).toBeGreaterThan(running[0]!.count);

  b.signal('SIGSTOP');
  const stands = async (): Promise<boolean> => {
    const figures = await moreFigures(a, 6);
    return figures.at(-1)!.count === figures[0]!.count;
  };
  while (!(await stands()));
  const told = a.console.length;
  const memory = await residentBytes(a);
  const stalled = await moreFigures(a, 20);
  expect(stalled.at(-1)!.count).toBe(stalled[0]!.count);
  // One slice may come on top: an entry weighs a hundred bytes, an output as much again.
  for (const { unackedBytes, heldBytes } of stalled) {
    expect(unackedBytes).toBeLessThan(limits.streamBytes + 16 * 1024);
    expect(heldBytes).toBeLessThan(limits.holdBytes + 16 * 1024);
  }
  expect((await residentBytes(a)) - memory).toBeLessThan(64 * 1024 * 1024);
  expect(a.console.length).toBe(told);
  hush();

  b.signal('SIGCONT');
  await a.writes(10);
  expect([a.state, b.state]).toEqual(['PAIR', 'BACK']);
  for (const { bufferedBytes } of figuresOf(b).slice(-5))
    expect(bufferedBytes).toBeLessThan(limits.backupBytes + 64 * 1024);
  a.order({ order: 'power-off' });
  expect([await a.ended, await b.ended]).toEqual([0, 0]);
});

test('connections that break under load are resumed: nothing is lost, nothing is repeated', async () => {
  const { a, b, network } = await pair({ figuresEveryMs: 50 });
  const hush = chatter(a);
  const breaks = () => b.reports.filter(({ state }) => state === 'channel-broken').length;
  for (let round = 0; round < 15; round++) {
    const before = breaks();
    await new Promise((resolve) => setTimeout(resolve, round * 7));
    // Between two connections there is nothing to break.
    while (breaks() === before) {
      network.breakConnections();
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    await a.writes(1);
  }
  // And some that break before they are resumed.
  for (let round = 0; round < 5; round++) {
    await new Promise((resolve) => setTimeout(resolve, 30));
    network.breakConnections();
  }
  await a.writes(10);
  hush();
  expect([a.state, b.state]).toEqual(['PAIR', 'BACK']);
  // The backup checks every digest and every output against the log: a gap or a repeat would have been told.
  expect([...a.reports, ...b.reports].filter(({ state }) => state === 'diverged')).toEqual([]);
  a.signal('SIGKILL');
  await b.is('SOLE');
  await b.writes(5);
  expect(oneJournal(a.console, b.console)).toBeDefined();
});

test('a channel without TLS, and one that compresses, carry a pair as well', async () => {
  for (const channel of [{ security: 'none' }, { security: 'none', compress: true }]) {
    const { a, b } = await pair({ channel });
    await a.writes(5);
    a.signal('SIGKILL');
    await b.is('SOLE');
    await b.writes(5);
    expect(oneJournal(a.console, b.console)).toBeDefined();
    b.signal('SIGKILL');
  }
});
