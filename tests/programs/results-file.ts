import { appendFileSync, existsSync, readFileSync } from 'node:fs';

/** One line of a file of results (`main.ts --resume`): a program that ended, a guest that ended, or a replay. */
export type ResultLine =
  | {
      readonly kind: 'program';
      readonly key: string;
      readonly passed: boolean;
      readonly cpuSeconds: number | null;
    }
  | { readonly kind: 'run'; readonly where: string; readonly instructions: number; readonly jitShare: number }
  | {
      readonly kind: 'replay';
      readonly where: string;
      readonly instructions: number;
      readonly equal: boolean;
    };

/** What guests and their replays came to, in instructions. */
export interface Totals {
  readonly run: number;
  /** Of `run`, in compiled code. */
  readonly compiled: number;
  readonly replayedEqual: number;
  readonly replaysThatDiffer: number;
}

/** Results of earlier runs, kept as JSON lines; without a path nothing is kept. */
export class ResultsFile {
  readonly #path: string | undefined;

  constructor(path: string | undefined) {
    this.#path = path;
  }

  append(line: ResultLine): void {
    if (this.#path !== undefined) appendFileSync(this.#path, `${JSON.stringify(line)}\n`);
  }

  /** Keys of programs that passed. */
  passed(): Set<string> {
    return new Set(
      this.#lines().flatMap((line) => (line.kind === 'program' && line.passed ? [line.key] : [])),
    );
  }

  totals(): Totals {
    const totals = { run: 0, compiled: 0, replayedEqual: 0, replaysThatDiffer: 0 };
    for (const line of this.#lines()) {
      if (line.kind === 'run') {
        totals.run += line.instructions;
        totals.compiled += line.instructions * line.jitShare;
      } else if (line.kind === 'replay') {
        if (line.equal) totals.replayedEqual += line.instructions;
        else totals.replaysThatDiffer += 1;
      }
    }
    return totals;
  }

  #lines(): ResultLine[] {
    if (this.#path === undefined || !existsSync(this.#path)) return [];
    const lines = readFileSync(this.#path, 'utf8').split('\n');
    return lines.filter((line) => line !== '').map((line) => JSON.parse(line) as ResultLine);
  }
}
