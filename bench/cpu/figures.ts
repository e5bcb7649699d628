import { median, rounded } from '../bench.ts';
import type { RunnerName } from './runners.ts';
import type { Spans } from './spans.ts';
import { BOOT, IDLE } from './workloads.ts';

/** One finished run, of one runner in one round. */
export interface FinishedRun {
  readonly runner: RunnerName;
  readonly spans: Spans;
  /** Of all its processes together; 0 where nobody looked. */
  readonly peakMemoryMB: number;
}

export type Row = Record<string, string | number>;

/** Medians over the rounds, in CPU seconds; and whether all runners came to the same results. */
export class Measurements {
  readonly #runs: readonly FinishedRun[];
  readonly workloads: readonly string[];

  constructor(runs: readonly FinishedRun[], workloads: readonly string[]) {
    this.#runs = runs;
    this.workloads = workloads;
  }

  cpuSeconds(runner: RunnerName, name: string): number {
    return this.#median(runner, name, 'cpu');
  }

  instructions(name: string): number {
    return this.#median('replay', name, 'instructions');
  }

  sum(runner: RunnerName): number {
    return this.workloads.reduce((sum, name) => sum + this.cpuSeconds(runner, name), 0);
  }

  sumOfInstructions(): number {
    return this.workloads.reduce((sum, name) => sum + this.instructions(name), 0);
  }

  /** The boot and all workloads, each a median by itself: one slow moment of the host does not spoil the rest. */
  total(runner: RunnerName): number {
    return this.cpuSeconds(runner, BOOT) + this.sum(runner);
  }

  peakMemoryMB(runner: RunnerName): number {
    const peaks = this.#runs.filter((run) => run.runner === runner && run.peakMemoryMB > 0);
    return peaks.length === 0 ? Number.NaN : Math.max(...peaks.map((run) => run.peakMemoryMB));
  }

  /** The share of one core that a guest costs which sleeps. */
  idleShare(): number {
    return this.#median('idle', IDLE, 'cpu') / this.#median('idle', IDLE, 'seconds');
  }

  /** Of the workloads; the boot is of another kind. */
  worstRatio(runner: RunnerName, to: RunnerName): number {
    return Math.max(
      ...this.workloads.map((name) => this.cpuSeconds(runner, name) / this.cpuSeconds(to, name)),
    );
  }

  /** Workloads whose results differ, with who found what: they did not all do the same work. */
  differences(): string[] {
    return this.workloads.flatMap((name) => {
      const found = new Map<string, Set<string>>();
      for (const { runner, spans } of this.#runs) {
        const sum = spans.get(name)?.checksum;
        if (sum !== undefined) found.set(sum, (found.get(sum) ?? new Set()).add(runner));
      }
      if (found.size <= 1) return [];
      const who = [...found].map(([sum, runners]) => `${sum} (${[...runners].join(', ')})`);
      return [`${name} has different results: ${who.join(' and ')}`];
    });
  }

  #median(runner: RunnerName, name: string, clock: string): number {
    const grew = this.#runs
      .filter((run) => run.runner === runner)
      .map(({ spans }) => spans.get(name)?.grew[clock])
      .filter((seconds) => seconds !== undefined);
    return median(grew);
  }
}

/** One row per workload, one each for their sum, the boot and the memory. */
export function rowsOf(all: Measurements, runners: readonly RunnerName[]): Row[] {
  const row = (workload: string, seconds: (runner: RunnerName) => number, instructions: number): Row => {
    const ratio = (to: RunnerName) => seconds('lockstep') / seconds(to);
    return withoutGaps({
      workload,
      ...Object.fromEntries(runners.map((runner) => [runner, rounded(seconds(runner))])),
      toQemu: rounded(ratio('qemu'), 2),
      toQemuRecord: rounded(ratio('qemu-record'), 2),
      toV86: rounded(ratio('v86'), 2),
      toNative: rounded(ratio('native'), 1),
      instructionsM: rounded(instructions / 1e6, 1),
      mips: rounded(instructions / seconds('lockstep') / 1e6, 1),
    });
  };
  return [
    ...all.workloads.map((name) =>
      row(name, (runner) => all.cpuSeconds(runner, name), all.instructions(name)),
    ),
    row('sum', (runner) => all.sum(runner), all.sumOfInstructions()),
    row(
      'boot',
      (runner) => (runner === 'native' ? Number.NaN : all.cpuSeconds(runner, BOOT)),
      all.instructions(BOOT),
    ),
    withoutGaps({
      workload: 'peak MB',
      ...Object.fromEntries(runners.map((runner) => [runner, rounded(all.peakMemoryMB(runner), 0)])),
    }),
  ];
}

/** A figure that nobody measured is left out: JSON has no NaN. */
export function withoutGaps<Value>(values: Readonly<Record<string, Value>>): Record<string, Value> {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => !Number.isNaN(value)));
}
