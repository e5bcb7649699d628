import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { repositoryRoot } from '../../src/host/image/repository.ts';
import { START_MODES } from './start-state.ts';

/**
 * In a process of its own, so that a guest that brings its host down or hangs it is a failed test. Each case runs
 * twice, cut into different pieces, with another translation cache, and must end in the same state.
 */
const CASES = 20_000;
const MINUTES = 60_000;

interface Summary {
  readonly cases: number;
  readonly failures: number;
  readonly counts: number;
  readonly wakes: number;
  readonly outputs: number;
  readonly ends: Readonly<Record<string, number>>;
  readonly modes: Readonly<Record<string, Readonly<Record<string, number>>>>;
}

describe('a machine that starts in any state', () => {
  it(
    `goes on counting, halts or ends, the same in pieces: ${CASES} states`,
    async () => {
      const program = join(repositoryRoot(), 'dist/fuzz/start-states.js');
      const child = spawn(process.execPath, [program, '--cases', String(CASES), '--json']);
      let stdout = '';
      let stderr = '';
      child.stdout.on('data', (chunk) => {
        stdout += chunk;
      });
      child.stderr.on('data', (chunk) => {
        stderr += chunk;
      });
      const hung = setTimeout(() => child.kill('SIGKILL'), 14 * MINUTES);
      const code = await new Promise((resolve) => child.on('close', resolve));
      clearTimeout(hung);
      expect(stderr).toBe('');
      expect(code).toBe(0);
      const summary = JSON.parse(stdout) as Summary;
      // Not vacuous: from every mode some run on, some halt, and some end in a triple fault.
      expect(summary).toMatchObject({ cases: CASES, failures: 0 });
      expect(summary.counts).toBeGreaterThan(100 * CASES);
      expect(summary.wakes).toBeGreaterThan(CASES / 10);
      expect(summary.outputs).toBeGreaterThan(CASES / 10);
      for (const mode of START_MODES) {
        const ends = summary.modes[mode]!;
        expect(ends.ran, mode).toBeGreaterThan(CASES / 20);
        expect(ends.halted, mode).toBeGreaterThan(CASES / 200);
        expect(ends['triple-fault'], mode).toBeGreaterThan(CASES / 500);
      }
      expect(summary.ends.reset).toBeGreaterThan(CASES / 200);
    },
    15 * MINUTES,
  );
});
