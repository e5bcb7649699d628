import { spawn } from 'node:child_process';
import { expect, test } from 'vitest';
import { parseStat, treeUse } from './process-tree.ts';

test('a process is told by its times and its parent, whatever its name is', () => {
  const line = '71 (a b) S 9) S 70 71 71 0 -1 4194560 3070 0 0 0 11 7 5 3 20 0 1 0 100 0 0';
  expect(parseStat(line)).toEqual({ parent: 70, ticks: 26 });
  expect(parseStat('')).toBeUndefined();
});

test('the time of children counts, of living ones and of those that ended', async () => {
  // One child that has ended and one that lives, each with work; then the line.
  const script = "sh -c 'i=0; while [ $i -lt 400000 ]; do i=$((i+1)); done'; echo done; read line; exit 0";
  const outer = spawn('sh', ['-c', `(${script}) | cat`], { stdio: ['pipe', 'pipe', 'ignore'] });
  await new Promise((resolve) => outer.stdout.once('data', resolve));
  const use = treeUse(outer.pid!);
  outer.stdin.end('\n');
  expect(use.cpuSeconds).toBeGreaterThan(0.01);
  expect(use.peakMemoryMB).toBeGreaterThan(0.5);
});
