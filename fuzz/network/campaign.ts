import { Random } from '../../sim/random.ts';
import { arbiterAnswers, etcdAnswers } from './arbiter-answers.ts';
import { backupCore, primaryCore } from './cores.ts';
import { heartbeats } from './heartbeats.ts';
import { compressedBatches, logFrames } from './log-frames.ts';
import { nbdAnswers } from './nbd-answers.ts';
import type { Target } from './target.ts';

export const TARGETS: readonly Target[] = [
  logFrames,
  compressedBatches,
  heartbeats,
  backupCore,
  primaryCore,
  arbiterAnswers,
  etcdAnswers,
  nbdAnswers,
];

const TURN_INPUTS = 100;

export interface TargetResult {
  readonly target: string;
  readonly inputs: number;
  /** Of which something was taken: otherwise only the doorstep was tested. */
  readonly taken: number;
  readonly seconds: number;
  /** Live memory after the last input, less that after the first tenth, in MiB. */
  readonly growthMiB: number;
  /** The first input that broke a rule: its own seed, and what happened. */
  readonly violation?: string;
}

/** Runs `inputs` inputs of one target. An input's seed alone makes it again. */
export async function fuzz(target: Target, inputs: number, seed: number): Promise<TargetResult> {
  const since = performance.now();
  let taken = 0;
  let before = 0;
  for (let index = 0; index < inputs; index++) {
    // A server goes back to its event loop; some memory is given back only there.
    if (index % TURN_INPUTS === 0) await turn();
    if (index === Math.ceil(inputs / 10)) before = liveBytes();
    const own = (seed + index * 0x9e37_79b1) >>> 0;
    try {
      if (await target.run(new Random(own))) taken += 1;
    } catch (error) {
      const reason = error instanceof Error ? (error.stack ?? error.message) : String(error);
      return { ...result(index + 1), violation: `seed ${own}: ${reason}` };
    }
  }
  await turn();
  return result(inputs);

  function result(done: number): TargetResult {
    const seconds = (performance.now() - since) / 1000;
    const growthMiB = before === 0 ? 0 : (liveBytes() - before) / 2 ** 20;
    return { target: target.name, inputs: done, taken, seconds, growthMiB };
  }
}

function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

function liveBytes(): number {
  // Present with --expose-gc; without it the figure tells less.
  (globalThis as { gc?: () => void }).gc?.();
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}
