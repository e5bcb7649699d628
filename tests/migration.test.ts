import { hostname } from 'node:os';
import { expect, test } from 'vitest';
import { oneJournal, pair, type Vm } from './journal-pair.ts';

/** Moving either side of a pair, and a new backup without a human: real processes [FT 3.1, 3.3]. */

interface StateReport {
  readonly kind: string;
  readonly protection?: string;
  readonly except?: readonly string[];
}

const reports = (vm: Vm): readonly StateReport[] => vm.reports as readonly StateReport[];

test('the backup moves to another host without an unprotected moment, then takes over by order', async () => {
  const { a, b, backup } = await pair();
  const before = a.reports.length;
  const { vm: c, address } = await backup();
  a.order({ order: 'migrate-backup', address });
  await c.is('BACK');
  // The old one is told that it is over, asks, and ends.
  expect(await b.ended).toBe(1);
  expect(b.reason).toMatch(/^superseded/);
  await a.is('PAIR');
  await a.writes(5);
  const words = reports(a)
    .slice(before)
    .flatMap(({ kind, protection }) => (kind === 'state' ? [protection] : []));
  expect(words.length).toBeGreaterThanOrEqual(4);
  expect(new Set(words)).toEqual(new Set(['Protected']));

  a.order({ order: 'switch-over' });
  await c.is('SOLE');
  await c.writes(5);
  expect(await a.ended).toBe(1);
  expect(a.reason).toMatch(/^superseded|^the disks/);
  expect(oneJournal(a.console, c.console)).toBeDefined();
}, 120_000);

test('a survivor says that it wants a host, takes none on its own, and is protected by the one that it is offered', async () => {
  const { a, b, backup } = await pair();
  a.signal('SIGKILL');
  await b.is('SOLE');
  await b.until(() => reports(b).some(({ kind }) => kind === 'find-host'), 'asked for a host');
  const { vm: c, address } = await backup();
  b.order({ order: 'candidate', address, host: hostname() });
  await b.writes(5);
  expect(b.state).toBe('SOLE');
  b.order({ order: 'candidate', address, host: 'another' });
  await b.is('PAIR');
  b.signal('SIGKILL');
  await c.is('SOLE');
  await c.writes(5);
  expect(oneJournal(oneJournal(a.console, b.console) ?? '', c.console)).toBeDefined();
}, 120_000);
