import type { Random } from '../../sim/random.ts';

/** One kind of bytes that come from the network, and what must hold for whatever they are. */
export interface Target {
  readonly name: string;
  /** Its share of all inputs. */
  readonly share: number;
  /** True: the input, or a part of it, was taken. Throws ViolationError when something must not be. */
  run(random: Random): boolean | Promise<boolean>;
}

export class ViolationError extends Error {
  override readonly name = 'ViolationError';
}

/** Anything but a known refusal that reaches here is a crash of the process that would have read this. */
export function holds(condition: boolean, what: string, bytes?: Uint8Array): asserts condition {
  if (condition) return;
  const input = bytes ? ` for ${Buffer.from(bytes).toString('hex')}` : '';
  throw new ViolationError(`${what}${input}`);
}
