import { EngineStep, type StepExecutor, type StepMode } from '../../src/host/debug-step/engine-step.ts';
import type { StepOutcome } from '../../src/host/debug-step/stepped-state.ts';
import type { SiliconCase } from './case.ts';
import { differences } from './compare.ts';
import { Coverage } from './coverage.ts';
import type { NativeProcessor } from './native.ts';
import { SEQUENCE_FORM } from './sequence.ts';
import { type VendorDifference, vendorDifferences } from './vendor-difference.ts';

/** Cases run on the host's processor and in engines, and compared. */

export interface CampaignOptions {
  readonly native: NativeProcessor;
  /** Every case runs in each of them. */
  readonly executors: readonly StepExecutor[];
  /** A slow executor runs one case in so many. */
  readonly oneIn?: Readonly<Partial<Record<StepExecutor, number>>>;
  /** Batches take turns. */
  readonly modes: readonly StepMode[];
  /** The processor is of the family that Lockstep follows where the manual leaves results undefined. */
  readonly sameFamily: boolean;
  readonly onDifference: (difference: Difference) => void;
}

export interface Difference {
  readonly given: SiliconCase;
  readonly executor: StepExecutor;
  readonly mode: StepMode;
  readonly found: readonly string[];
}

const BATCH = 500;

export class Campaign {
  readonly coverage = new Coverage();
  /** Answers that the processor did not repeat when it was asked again: a virtual one now and then runs LOCK twice. */
  readonly unsteady: SiliconCase[] = [];
  /** How often this processor did otherwise as vendor-difference.ts says, by line; none on the followed family. */
  readonly known = new Map<VendorDifference, number>();
  readonly #options: CampaignOptions;
  readonly #engines = new Map<string, EngineStep>();
  #stopped = false;

  constructor(options: CampaignOptions) {
    this.#options = options;
  }

  /** `run` ends with what is on the processor now. */
  stop(): void {
    this.#stopped = true;
  }

  /**
   * Runs cases `0 <= index < count`, a batch in the engines while the next is on the processor. Returns how many ran:
   * fewer when it was told to stop.
   */
  async run(count: number, makeCase: (index: number) => SiliconCase): Promise<number> {
    const { native } = this.#options;
    const begin = (start: number) => {
      const length = this.#stopped ? 0 : Math.max(0, Math.min(BATCH, count - start));
      const cases = Array.from({ length }, (_, index) => makeCase(start + index));
      return { cases, outcomes: native.run(cases) };
    };
    let ran = 0;
    let next = begin(0);
    for (let batch = 0; next.cases.length > 0; batch += 1) {
      const { cases } = next;
      const outcomes = await next.outcomes;
      ran += cases.length;
      next = begin((batch + 1) * BATCH);
      const differing = cases.filter((given, index) => {
        const found = this.#compare(batch, index, given, outcomes[index]!);
        return found.length > 0;
      });
      if (differing.length === 0) continue;
      next = { cases: next.cases, outcomes: Promise.resolve(await next.outcomes) };
      const again = await native.run(differing);
      for (const [position, given] of differing.entries()) {
        const found = this.#compare(batch, cases.indexOf(given), given, again[position]!);
        if (found.length === 0) this.unsteady.push(given);
        for (const difference of found) this.#options.onDifference(difference);
      }
    }
    await next.outcomes;
    return ran;
  }

  #compare(batch: number, index: number, given: SiliconCase, expected: StepOutcome): Difference[] {
    const { executors, oneIn, modes, sameFamily } = this.#options;
    const differences: Difference[] = [];
    this.coverage.add(given, expected.exception?.vector);
    const sequence = given.form === SEQUENCE_FORM;
    for (const executor of executors) {
      if ((batch + index) % (oneIn?.[executor] ?? 1) !== 0) continue;
      let mode = modes[batch % modes.length]!;
      // One step is not the whole of a sequence.
      if (sequence && mode === 'step') mode = 'block';
      const found = compareOne(this.#engine(executor, mode), given, expected, sameFamily, this.known);
      if (found.length > 0) differences.push({ given, executor, mode, found });
    }
    return differences;
  }

  #engine(executor: StepExecutor, mode: StepMode): EngineStep {
    const key = `${executor} ${mode}`;
    let engine = this.#engines.get(key);
    if (!engine) {
      engine = new EngineStep(mode, executor);
      this.#engines.set(key, engine);
    }
    return engine;
  }
}

export function compareOne(
  engine: EngineStep,
  given: SiliconCase,
  expected: StepOutcome,
  sameFamily: boolean,
  known?: Map<VendorDifference, number>,
): string[] {
  try {
    const actual = engine.step(given);
    // The processor does not count the instructions of a sequence.
    if (given.form === SEQUENCE_FORM) expected.retired = actual.retired;
    const found = differences(given, expected, actual, sameFamily);
    if (sameFamily || found.length === 0) return found;
    const lines = vendorDifferences(found, { given, theirs: expected, ours: actual });
    if (lines.length === 0) return found;
    for (const line of lines) known?.set(line, (known.get(line) ?? 0) + 1);
    return [];
  } catch (error) {
    return [`the engine threw: ${(error as Error).stack?.split('\n').slice(0, 4).join(' ') ?? error}`];
  }
}
