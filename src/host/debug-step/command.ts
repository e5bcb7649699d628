import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { EngineStep, type StepExecutor } from './engine-step.ts';
import { parseCase, printOutcome } from './json.ts';

export interface DebugStepOptions {
  readonly input: Readable;
  readonly output: Writable;
  readonly engine?: StepExecutor;
  /** One line of reason when a line cannot be used. */
  readonly reportError: (message: string) => void;
}

/** `lockstep debug step`: one JSON object per line in, one per line out. The exit code: 2 after a line that is wrong. */
export async function debugStep(options: DebugStepOptions): Promise<number> {
  const engine = new EngineStep('step', options.engine);
  let line = 0;
  for await (const text of createInterface({ input: options.input, crlfDelay: Number.POSITIVE_INFINITY })) {
    line += 1;
    if (text.trim() === '') continue;
    const parsed = parseCase(text);
    if (!parsed.ok) {
      options.reportError(`line ${line}: ${parsed.error}`);
      return 2;
    }
    try {
      options.output.write(`${printOutcome(parsed.value, engine.step(parsed.value))}\n`);
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      options.reportError(`line ${line}: ${error.message}`);
      return 2;
    }
  }
  return 0;
}
