import { join } from 'node:path';
import { expect, test } from 'vitest';
import { folder, isJournal, oneJournal, pair, Vm } from './journal-pair.ts';

/** Control operations enter on the primary, travel in its log, and hold for whoever goes on [FT 3.3]. */

const FIRST_LINE = '00000001 ';

/** What the guest wrote since it was switched on last. */
function sinceRestart(console: string): string {
  return console.slice(Math.max(0, console.lastIndexOf(`\n${FIRST_LINE}`) + 1));
}

async function restarted(vm: Vm): Promise<void> {
  await vm.until(() => vm.console.includes(`\n${FIRST_LINE}`), 'started its guest again');
}

test.each([
  ['a guest that resets itself', { order: 'console', port: 0, text: 'xyr' }],
  ['a guest that is reset by order', { order: 'reset' }],
])('%s starts again, on both sides, and stays protected', async (_, order) => {
  const { a, b } = await pair();
  const before = a.console;
  a.order(order);
  await restarted(a);
  await a.writes(10);
  expect([a.state, b.state]).toEqual(['PAIR', 'BACK']);
  expect(a.reports.filter(({ kind }) => kind === 'power')).toMatchObject([{ state: 'reset' }]);
  // Again, so that what lies before the machine adds up.
  const soFar = a.console.length;
  a.order({ order: 'reset' });
  await a.until(() => a.console.indexOf(`\n${FIRST_LINE}`, soFar - 1) > 0, 'started its guest again');
  await a.writes(5);
  a.signal('SIGKILL');
  await b.is('SOLE');
  await b.writes(10);
  expect(a.console.startsWith(before)).toBe(true);
  const journal = oneJournal(sinceRestart(a.console), b.console);
  expect(journal).toBeDefined();
  expect(journal!.length).toBeGreaterThan(200);
});

test('a guest that is paused stays so on the survivor, until it is resumed there', async () => {
  const { a, b } = await pair();
  a.order({ order: 'pause' });
  const still = async (vm: Vm): Promise<boolean> => {
    const length = vm.console.length;
    await new Promise((resolve) => setTimeout(resolve, 700));
    return vm.console.length === length;
  };
  while (!(await still(a)));
  expect([a.state, b.state]).toEqual(['PAIR', 'BACK']);
  a.order({ order: 'resume' });
  await a.writes(5);
  a.order({ order: 'pause' });
  while (!(await still(a)));
  a.signal('SIGKILL');
  await b.is('SOLE');
  expect(await still(b)).toBe(true);
  b.order({ order: 'resume' });
  await b.writes(10);
  expect(oneJournal(a.console, b.console)).toBeDefined();
});

test('power off by order, also of a paused guest, ends both sides in good order', async () => {
  const { a, b } = await pair();
  a.order({ order: 'pause' });
  a.order({ order: 'power-off' });
  expect([await a.ended, await b.ended]).toEqual([0, 0]);
  expect([a.reason, b.reason]).toEqual(['powered off', 'the VM was powered off']);
  expect(isJournal(a.console)).toBe(true);
});

test('a limit and the power button hold on both sides, and the pair goes on', async () => {
  const { a, b } = await pair();
  a.order({ order: 'limit', cpuPercent: 20 });
  a.order({ order: 'power-button' });
  a.order({ order: 'limit', cpuPercent: 0 });
  await a.writes(10);
  expect(a.reports.filter(({ kind }) => kind === 'event')).toMatchObject([
    { detail: 'the order "limit" needs cpuPercent, from 1 to 100' },
  ]);
  b.order({ order: 'power-off' });
  await b.until(() => b.reports.some(({ detail }) => /takes no orders/.test(detail ?? '')), 'refused');
  expect([a.state, b.state]).toEqual(['PAIR', 'BACK']);
  a.signal('SIGKILL');
  await b.is('SOLE');
  await b.writes(5);
  expect(oneJournal(a.console, b.console)).toBeDefined();
});

test('fault tolerance that is turned off: the backup ends at once, and knows why; it can be turned on again', async () => {
  const { a, b, backup } = await pair();
  a.order({ order: 'unprotect' });
  expect(await b.ended).toBe(1);
  expect(b.reason).toMatch(/^fault tolerance was turned off; superseded/);
  expect(a.state).toBe('SOLE');
  // It was told: it did not have to find out by silence.
  expect(b.reports.filter(({ detail }) => /silent/.test(detail ?? ''))).toEqual([]);
  await a.writes(5);
  const { vm: c, address } = await backup();
  a.order({ order: 'protect', address });
  await a.is('PAIR');
  a.signal('SIGKILL');
  await c.is('SOLE');
  await c.writes(5);
  expect(oneJournal(a.console, c.console)).toBeDefined();
});

test('an order that cannot be done says why, and changes nothing', async () => {
  const alone = { memoryBytes: 16 * 1024 * 1024, disks: [], nics: [], startEpochSeconds: 1_700_000_000 };
  const machine = { ...alone, seed: '00'.repeat(32), debugExit: false };
  const a = new Vm({ role: 'primary', boot: { kernel: join(folder, 'journal') }, machine });
  await a.is('SOLE');
  const orders: [unknown, RegExp][] = [
    // Two processes that are each their own arbiter would both win.
    [{ order: 'protect', address: '127.0.0.1:9' }, /without an arbiter/],
    [{ order: 'console', port: 256, text: 'x' }, /port is 0, the serial port, or 1/],
    [{ order: 'console', port: 'x', text: 'x' }, /port is 0, the serial port, or 1/],
    [{ order: 'jump' }, /unknown order/],
    [7, /an order is one JSON object/],
  ];
  for (const [order, reason] of orders) {
    const before = a.reports.length;
    a.order(order as object);
    await a.until(
      () => a.reports.slice(before).some(({ detail }) => reason.test(detail ?? '')),
      String(reason),
    );
  }
  expect(a.reports.filter(({ kind }) => kind === 'state').at(-1)?.state).toBe('SOLE');
});
