import type { Result } from '../base/result.ts';

/** Something is wrong with what the user gave or with the host: one line, and this exit code. */
export const EXIT_WRONG = 2;

/** Ends a verb with one line of reason. */
export class VerbError extends Error {
  override readonly name = 'VerbError';
}

export function accepted<Value>(result: Result<Value>): Value {
  if (!result.ok) throw new VerbError(result.error);
  return result.value;
}

/** Resolves when the process is asked to end, by a signal or by the end of its standard input. */
export function untilAsked(options: { readonly standardInput: boolean }): Promise<string> {
  return new Promise((resolve) => {
    process.once('SIGINT', () => resolve('interrupted'));
    process.once('SIGTERM', () => resolve('terminated'));
    if (!options.standardInput) return;
    process.stdin.resume();
    process.stdin.once('end', () => resolve('standard input ended'));
    process.stdin.once('error', () => resolve('standard input ended'));
  });
}

/** Exits after everything written has left. */
export async function leave(code: number): Promise<never> {
  await new Promise((resolve) => process.stdout.write('', resolve));
  await new Promise((resolve) => process.stderr.write('', resolve));
  process.exit(code);
}
