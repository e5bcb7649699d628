import { hash128 } from '../base/hash.ts';
import { type InstructionCount, instructionCount } from '../base/units.ts';
import type { Machine, Output } from '../machine/door.ts';
import { encodeOutput } from './codec.ts';

/** A guest output as it leaves the machine: number, the count it may be reached by, content and its hash. */
export interface NumberedOutput {
  /** Counts over the whole life of the VM, from 1. */
  readonly number: bigint;
  /** The instruction after the output: executing up to here has made it. */
  readonly at: InstructionCount;
  readonly output: Output;
  readonly hash: string;
}

/**
 * `running`: the output was made inside runUntil, by the instruction (or timer) at the present count, so the
 * machine has to be let run past it. Otherwise an input made it, at this very count.
 */
export function numberOutput(
  machine: Machine,
  number: bigint,
  output: Output,
  running: boolean,
): NumberedOutput {
  const at = running ? instructionCount(machine.count + 1n) : machine.count;
  return { number, at, output, hash: hash128(encodeOutput(output)) };
}
