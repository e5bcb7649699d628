import { expect, test } from 'vitest';
import { runScale } from '../sim/cluster/scale-scenario.ts';

/** 1,000 VMs on 100 hosts, moved by nothing but decisions; `npm run bench -- placement` does more of it and measures. */
test('1,000 VMs on 100 hosts are protected again after every blow, never beside their partner, never beyond memory', () => {
  const options = { hosts: 100, vms: 1000, rackHosts: 10, racksMaintained: 1, deaths: 2 };
  const { rows, violations } = runScale(
    options,
    () => 0,
    () => {},
  );
  expect(violations).toEqual([]);
  expect(rows.map(({ unprotected }) => unprotected)).toEqual(rows.map(() => 0));
  const sum = (figure: keyof (typeof rows)[number]) =>
    rows.reduce((total, row) => total + Number(row[figure]), 0);
  // Each VM was switched on once; later ones lost both hosts with the rack.
  expect(rows[0]!.restarts).toBe(1000);
  expect(rows[0]!.backups).toBe(1000);
  const dies = rows.filter(({ event }) => event.endsWith('dies'));
  expect(dies.map(({ restarts }) => restarts)).toEqual([0, 0]);
  // A return moves nothing.
  for (const { event, backups, moves, migrations, switchOvers } of rows)
    if (/returns?$/.test(event)) expect([backups, moves, migrations, switchOvers]).toEqual([0, 0, 0, 0]);
  expect(sum('restartsRefused')).toBe(0);
  // Whoever chooses knows nothing of the others: still no host gets more than a few times its share.
  expect(Math.max(...rows.map(({ mostProcesses }) => mostProcesses))).toBeLessThan(3 * 20);
});
