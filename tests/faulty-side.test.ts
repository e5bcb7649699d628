import { expect, test } from 'vitest';
import { isJournal, oneJournal, pair, type Vm } from './journal-pair.ts';

/**
 * Real processes, one of which calculates wrongly or whose compiled code is broken (tests/planted/fault.ts): that
 * side ends, the other one goes on.
 */

/** Some counts after the tenth line of the journal. */
const LATER = 60_000;

function said({ reports }: Vm, state: string): string {
  return reports.find((report) => report.state === state)?.detail ?? '';
}

test('compiled code that traps on both sides at the same count: the survivor interprets that stretch', async () => {
  const trap = `trap:${LATER}`;
  const { a, b } = await pair({}, undefined, { a: trap, b: trap });
  expect(await a.ended).toBe(1);
  expect(a.reason).toBe('the vCPU stopped: RuntimeError: unreachable');
  await b.is('SOLE');
  await b.writes(20);
  expect(oneJournal(a.console, b.console)).toBeDefined();
  expect(b.over).toBe(false);
});

test('compiled code that traps on the backup: it stops acking, never goes live, and the primary goes on', async () => {
  const { a, b } = await pair({}, undefined, { b: `trap:${LATER}` });
  expect(await b.ended).toBe(1);
  expect(b.reason).toBe('the vCPU stopped: RuntimeError: unreachable');
  await a.is('SOLE');
  expect(said(a, 'diverged')).toBe('the vCPU stopped: RuntimeError: unreachable');
  await a.writes(20);
  expect(isJournal(a.console)).toBe(true);
  expect(b.console).toBe('');
});

test.each([
  ['ram', 'RAM page 1980 (at 0x7bc000)'],
  ['register', 'registers'],
])(
  'a backup that miscalculates (%s) is thrown away with a report, and the VM runs on',
  async (what, part) => {
    const { a, b, backup } = await pair({ digestEveryMs: 100 }, undefined, { b: `${what}:${LATER}` });
    expect(await b.ended).toBe(1);
    const report =
      /^divergence at count (\d+): (.*): the state's digest is [0-9a-f]{32}, log entry \d+ says [0-9a-f]{32}$/;
    const [, count = '', differing] = report.exec(said(a, 'diverged')) ?? [];
    expect(differing, said(a, 'diverged')).toBe(part);
    // Found at the first digest after it happened.
    expect(Number(count)).toBeGreaterThanOrEqual(LATER);
    expect(b.reason).toBe(said(a, 'diverged'));
    await a.is('SOLE');
    await a.writes(10);
    // A new backup is as good as any.
    const { vm: c, address } = await backup();
    a.order({ order: 'protect', address });
    await a.is('PAIR');
    a.signal('SIGKILL');
    await c.is('SOLE');
    await c.writes(5);
    expect(oneJournal(a.console, c.console)).toBeDefined();
  },
);
