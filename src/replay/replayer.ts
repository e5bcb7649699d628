import { unreachable } from '../base/assert.ts';
import { type InstructionCount, instructionCount } from '../base/units.ts';
import type { Input, Machine, Output, OutputSink, StopReason } from '../machine/door.ts';
import type { EndReason, LogEntry } from './log-entry.ts';
import { type NumberedOutput, numberOutput } from './numbered-output.ts';
import type { LogPosition } from './position.ts';

export type ReplayStep =
  /** The budget is used up or an entry is done; there is more to do. */
  | { readonly kind: 'busy' }
  /** Every entry fed so far is replayed. The machine goes no further: the next entry may come at any count. */
  | { readonly kind: 'starved' }
  | { readonly kind: 'ended'; readonly reason: EndReason }
  /** The machine did something else than the log says. One line, with the count. */
  | { readonly kind: 'diverged'; readonly reason: string };

/**
 * The replayed source of inputs: applies each entry at its exact count, checks outputs and digests, and never
 * executes past the `at` of the last entry fed. Order and damage are checked before entries come here.
 */
export class Replayer implements OutputSink {
  readonly #machine: Machine;
  readonly #onOutput: (output: NumberedOutput) => void;
  readonly #verifyDigests: boolean;
  #queue: LogEntry[] = [];
  #next = 0;
  /** Made by the machine and not yet met in the log. */
  #made: NumberedOutput[] = [];
  #outputs: bigint;
  #running = false;
  #replayed = 0n;
  #finished: ReplayStep | undefined;

  constructor(
    machine: Machine,
    position: LogPosition,
    options: { onOutput?: (output: NumberedOutput) => void; verifyDigests?: boolean } = {},
  ) {
    this.#machine = machine;
    this.#outputs = position.outputs;
    this.#onOutput = options.onOutput ?? (() => {});
    this.#verifyDigests = options.verifyDigests ?? true;
  }

  /** The sequence of the last entry that is wholly replayed. */
  get replayed(): bigint {
    return this.#replayed;
  }

  get waiting(): number {
    return this.#queue.length - this.#next;
  }

  get position(): LogPosition {
    return { outputs: this.#outputs };
  }

  feed(entry: LogEntry): void {
    this.#queue.push(entry);
  }

  output(output: Output): void {
    this.#outputs += 1n;
    const numbered = numberOutput(this.#machine, this.#outputs, output, this.#running);
    this.#made.push(numbered);
    this.#onOutput(numbered);
  }

  /** Works on one entry, for at most `budget` instructions. */
  step(budget: bigint): ReplayStep {
    if (this.#finished) return this.#finished;
    const entry = this.#queue[this.#next];
    if (!entry) return { kind: 'starved' };
    const problem = this.#replay(entry, budget);
    if (problem === 'unfinished') return { kind: 'busy' };
    if (problem !== undefined) {
      this.#finished = { kind: 'diverged', reason: `divergence at count ${this.#machine.count}: ${problem}` };
      return this.#finished;
    }
    this.#next += 1;
    if (this.#next === this.#queue.length || this.#next >= 1024) {
      this.#queue = this.#queue.slice(this.#next);
      this.#next = 0;
    }
    this.#replayed = entry.sequence;
    if (entry.kind === 'end') this.#finished = { kind: 'ended', reason: entry.reason };
    return this.#finished ?? { kind: 'busy' };
  }

  /** Undefined when the entry is done, 'unfinished', or what differs. */
  #replay(entry: LogEntry, budget: bigint): string | undefined {
    switch (entry.kind) {
      case 'released':
        return undefined;
      case 'read-reference':
        return `log entry ${entry.sequence} refers to what was read, and nobody has read it`;
      case 'output-mark':
        return this.#checkMark(entry, budget);
      case 'input':
        return (
          this.#runTo(entry, budget) ??
          this.#haltFirst(entry) ??
          this.#checkNothingMade(entry) ??
          this.#apply(entry.input)
        );
      case 'digest':
        return this.#runTo(entry, budget) ?? this.#checkNothingMade(entry) ?? this.#checkDigest(entry);
      case 'end':
        return this.#runTo(entry, budget) ?? this.#checkNothingMade(entry);
      default:
        return unreachable(entry);
    }
  }

  #checkMark(mark: LogEntry & { kind: 'output-mark' }, budget: bigint): string | undefined {
    while (this.#made.length === 0 && this.#machine.count < mark.at) {
      const stopped = this.#run(mark.at, budget);
      if (stopped === 'stop-requested') return 'unfinished';
      if (stopped !== 'count') break;
      if (this.#made.length === 0 && this.#machine.count < mark.at) return 'unfinished';
    }
    const made = this.#made.shift();
    const expected = `output ${mark.output} (${mark.outputKind}, log entry ${mark.sequence})`;
    if (!made) return `${expected} was not made by count ${mark.at}`;
    if (made.number !== mark.output) return `${expected} was expected, output ${made.number} was made`;
    if (made.output.kind !== mark.outputKind)
      return `${expected} was expected, a ${made.output.kind} was made`;
    if (made.at !== mark.at) return `${expected} was made at ${made.at} and not at ${mark.at}`;
    if (made.hash !== mark.hash) return `${expected} has the hash ${made.hash} and not ${mark.hash}`;
    return undefined;
  }

  #checkNothingMade(entry: LogEntry): string | undefined {
    const made = this.#made[0];
    if (!made) return undefined;
    return `output ${made.number} (${made.output.kind}) was made at ${made.at}, log entry ${entry.sequence} knows nothing of it`;
  }

  #checkDigest(entry: LogEntry & { kind: 'digest' }): string | undefined {
    if (!this.#verifyDigests) return undefined;
    const digest = this.#machine.digest();
    if (digest === entry.digest) return undefined;
    const differing = entry.parts && this.#machine.differingParts?.(entry.parts);
    const where = differing === undefined ? '' : `${differing}: `;
    return `${where}the state's digest is ${digest}, log entry ${entry.sequence} says ${entry.digest}`;
  }

  /** The recording side ran to a halt here before this input: so do we. */
  #haltFirst(entry: LogEntry & { kind: 'input' }): string | undefined {
    if (!entry.afterHalt) return undefined;
    const reason = this.#run(instructionCount(this.#machine.count + 1n), 1n);
    if (reason === 'stop-requested') return 'unfinished';
    return reason === 'halted'
      ? undefined
      : `the machine goes on (${reason}) where the log says that it halted`;
  }

  #apply(input: Input): undefined {
    this.#machine.apply(input);
  }

  /** Runs to the entry's count: undefined when there, 'unfinished', or why that count cannot be reached. */
  #runTo(entry: LogEntry, budget: bigint): string | undefined {
    const machine = this.#machine;
    if (machine.count > entry.at) return `log entry ${entry.sequence} belongs at count ${entry.at}`;
    if (machine.count === entry.at) return undefined;
    const reason = this.#run(entry.at, budget);
    if (machine.count === entry.at) return undefined;
    if (reason === 'count' || reason === 'stop-requested') return 'unfinished';
    return `the machine is ${reason}, log entry ${entry.sequence} belongs at count ${entry.at}`;
  }

  #run(until: InstructionCount, budget: bigint): StopReason {
    const end = this.#machine.count + budget;
    this.#running = true;
    const reason = this.#machine.runUntil(end < until ? instructionCount(end) : until);
    this.#running = false;
    return reason;
  }
}
