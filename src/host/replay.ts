import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { failed, ok, type Result } from '../base/result.ts';
import type { EngineOptions } from '../machine/config.ts';
import { fileProblem } from './guest-files.ts';
import { type ReplayFigures, type ReplayOutcome, replayRecording } from './recording-replay.ts';

export interface ReplayVerbOptions {
  readonly file: string;
  readonly verify: boolean;
  readonly until: bigint | undefined;
  /** The last line on standard error is a JSON object. */
  readonly json: boolean;
  readonly engine?: EngineOptions;
  readonly budget?: bigint | undefined;
}

const CHUNK_BYTES = 256 * 1024;
const PROGRESS_EVERY_MS = 2000;
const EXIT_DIFFERS = 1;
const EXIT_WRONG = 2;

/**
 * `lockstep replay` (design 10): a recording, and nothing else, gives the same history again. The guest's console
 * goes to standard output, everything else to standard error. 0: equal; 1: not; 2: no recording to replay.
 */
export function replay(options: ReplayVerbOptions): number {
  const say = (line: string) => process.stderr.write(`lockstep: ${line}\n`);
  const startedAt = performance.now();
  const finish = (exit: number, reason: string, outcome?: ReplayOutcome): number => {
    say(reason);
    if (options.json) process.stderr.write(`${JSON.stringify(report(exit, reason, startedAt, outcome))}\n`);
    return exit;
  };
  const opened = openRecording(options.file);
  if (!opened.ok) return finish(EXIT_WRONG, opened.error);
  const file = opened.value;
  let toldAt = startedAt;
  const progress = (figures: ReplayFigures) => {
    const now = performance.now();
    if (now - toldAt < PROGRESS_EVERY_MS) return;
    toldAt = now;
    say(`replaying: ${place(figures)}`);
  };
  try {
    const outcome = replayRecording(
      () => {
        const chunk = Buffer.allocUnsafe(CHUNK_BYTES);
        const length = readSync(file, chunk, 0, CHUNK_BYTES, null);
        return length === 0 ? undefined : chunk.subarray(0, length);
      },
      {
        ...options,
        onConsole: (bytes) => process.stdout.write(bytes),
        onProgress: progress,
      },
    );
    if (!outcome.ok) return finish(EXIT_WRONG, outcome.error);
    return finish(exitCode(outcome.value), sentence(outcome.value), outcome.value);
  } finally {
    closeSync(file);
  }
}

function exitCode({ verdict }: ReplayOutcome): number {
  return verdict === 'equal' || verdict === 'until' ? 0 : EXIT_DIFFERS;
}

function sentence({ verdict, reason, figures, digest }: ReplayOutcome): string {
  const checked = `${figures.outputs} outputs and ${figures.digests} digests`;
  switch (verdict) {
    case 'equal':
      return `replayed to the end, ${place(figures)}: ${checked} are equal; the last digest is ${digest}`;
    case 'until':
      return `replayed up to ${place(figures)}: ${checked} are equal; the digest here is ${digest}`;
    case 'truncated':
      return `${reason}; ${checked} up to there are equal`;
    case 'damaged':
    case 'diverged':
      return reason;
  }
}

function place({ count, entries, guestSeconds }: ReplayFigures): string {
  return `count ${count}, ${entries} entries, ${guestSeconds.toFixed(3)} s`;
}

function report(exit: number, reason: string, startedAt: number, outcome: ReplayOutcome | undefined) {
  const { user, system } = process.cpuUsage();
  return {
    ok: exit === 0,
    reason,
    verdict: outcome?.verdict ?? 'refused',
    ...(outcome && {
      count: Number(outcome.figures.count),
      entries: Number(outcome.figures.entries),
      outputs: outcome.figures.outputs,
      digests: outcome.figures.digests,
      digest: outcome.digest,
    }),
    seconds: (performance.now() - startedAt) / 1000,
    cpuSeconds: (user + system) / 1e6,
    peakMemoryMB: Math.round(process.resourceUsage().maxRSS / 1024),
  };
}

function openRecording(path: string): Result<number> {
  try {
    const file = openSync(path, 'r');
    if (fstatSync(file).isFile()) return ok(file);
    closeSync(file);
    return failed(`recording ${path} is not a file`);
  } catch (error) {
    return failed(`recording ${path} ${fileProblem(error as NodeJS.ErrnoException)}`);
  }
}
