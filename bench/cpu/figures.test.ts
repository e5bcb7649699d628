import { describe, expect, test } from 'vitest';
import { type FinishedRun, Measurements, rowsOf, withoutGaps } from './figures.ts';
import type { RunnerName } from './runners.ts';
import { Spans } from './spans.ts';
import { tableLines } from './table.ts';

function run(
  runner: RunnerName,
  seconds: Readonly<Record<string, number>>,
  checksum = '00000001',
): FinishedRun {
  const spans = new Spans({ cpu: 0 });
  let cpu = 2;
  spans.mark({ name: 'init', kind: 'end', value: '00000000' }, { cpu });
  for (const [name, took] of Object.entries(seconds)) {
    spans.mark({ name, kind: 'begin', value: '' }, { cpu: (cpu += 0.5) });
    spans.mark({ name, kind: 'end', value: checksum }, { cpu: (cpu += took) });
  }
  spans.mark({ name: 'all', kind: 'end', value: '00000000' }, { cpu });
  return { runner, spans, peakMemoryMB: 100 };
}

describe('spans', () => {
  test('are from mark to mark; the boot is from the start', () => {
    const { spans } = run('lockstep', { sort: 3, chase: 1 });
    expect(spans.get('init')?.grew.cpu).toBe(2);
    expect(spans.get('sort')?.grew.cpu).toBe(3);
    expect(spans.get('chase')?.grew.cpu).toBe(1);
    expect(spans.finished).toBe(true);
  });

  test('what a program measured itself counts more than what was seen from outside', () => {
    const { spans } = run('native', { sort: 3 });
    spans.mark({ name: 'sort', kind: 'cpu', value: '0.123456' }, { cpu: 9 });
    expect(spans.get('sort')).toEqual({ checksum: '00000001', grew: { cpu: 0.123456 } });
  });
});

describe('measurements', () => {
  const runs = [
    run('lockstep', { sort: 3, chase: 1 }),
    run('lockstep', { sort: 5, chase: 2 }),
    run('lockstep', { sort: 4, chase: 9 }),
    run('qemu-record', { sort: 8, chase: 1 }),
  ];
  const all = new Measurements(runs, ['sort', 'chase']);

  test('are medians over the rounds, each workload by itself', () => {
    expect(all.cpuSeconds('lockstep', 'sort')).toBe(4);
    expect(all.cpuSeconds('lockstep', 'chase')).toBe(2);
    expect(all.sum('lockstep')).toBe(6);
    expect(all.total('lockstep')).toBe(8);
    expect(all.worstRatio('lockstep', 'qemu-record')).toBe(2);
  });

  test('a runner that is missing leaves gaps, not numbers', () => {
    expect(all.sum('v86')).toBeNaN();
    expect(withoutGaps({ there: 1, gone: all.sum('v86') })).toEqual({ there: 1 });
    const [sort, ...rest] = rowsOf(all, ['lockstep', 'qemu-record', 'v86']);
    expect(sort).toEqual({ workload: 'sort', lockstep: 4, 'qemu-record': 8, toQemuRecord: 0.5 });
    expect(rest.at(-1)).toEqual({ workload: 'peak MB', lockstep: 100, 'qemu-record': 100 });
  });

  test('two runners with different results did not do the same work', () => {
    expect(all.differences()).toEqual([]);
    const other = run('qemu', { sort: 1, chase: 1 }, '00000002');
    expect(new Measurements([...runs, other], ['sort']).differences()).toEqual([
      'sort has different results: 00000001 (lockstep, qemu-record) and 00000002 (qemu)',
    ]);
  });
});

test('a table is aligned and has a dash where a row has nothing', () => {
  expect(
    tableLines([
      { workload: 'sort', qemu: 1.5 },
      { workload: 'matmul', v86: 12 },
    ]),
  ).toEqual(['workload  qemu  v86', 'sort       1.5    -', 'matmul       -   12']);
});
