import { assert } from '../base/assert.ts';
import type { InstructionCount } from '../base/units.ts';
import type { Input, Machine, Output, OutputSink, StopReason } from '../machine/door.ts';
import type { LogPayload } from './log-entry.ts';
import { type NumberedOutput, numberOutput } from './numbered-output.ts';
import type { LogPosition } from './position.ts';

/** Where a live machine's history goes, in the order in which it happens. */
export interface RecorderEvents {
  entry(at: InstructionCount, payload: LogPayload): void;
  /** The entry of its mark is the receiver's to write, before anything that comes later. */
  output(output: NumberedOutput): void;
}

/**
 * The live source of inputs (design 2): applies them to the machine and tells what it applied, so feeding the
 * same entries to a Replayer gives the same history.
 *
 * A halted machine stands still while time and inputs come, so several rounds of "inputs, then timers" may happen
 * at one count. The log keeps them apart by a rule instead of a mark: every round after a halt starts with a
 * clock entry, and a second clock entry at one count means that the machine ran in between.
 */
export class Recorder implements OutputSink {
  readonly #machine: Machine;
  readonly #events: RecorderEvents;
  #outputs: bigint;
  #clockAt: InstructionCount | undefined;
  #halted = false;
  #running = false;

  constructor(machine: Machine, events: RecorderEvents, position: LogPosition) {
    this.#machine = machine;
    this.#events = events;
    this.#outputs = position.outputs;
    this.#clockAt = position.clockAt;
  }

  get position(): LogPosition {
    const here = this.#clockAt === this.#machine.count;
    return { outputs: this.#outputs, clockAt: here ? this.#clockAt : undefined };
  }

  /** After a halt a clock entry has to come first; at one count a second one only after a halt. */
  get clock(): 'needed' | 'allowed' | 'refused' {
    if (this.#halted) return 'needed';
    return this.#clockAt === this.#machine.count ? 'refused' : 'allowed';
  }

  apply(input: Input): void {
    const isClock = input.kind === 'clock';
    assert(
      this.clock !== (isClock ? 'refused' : 'needed'),
      'every round after a halt starts with one clock entry',
    );
    if (isClock) {
      this.#clockAt = this.#machine.count;
      this.#halted = false;
    }
    this.#events.entry(this.#machine.count, { kind: 'input', input });
    this.#machine.apply(input);
  }

  run(until: InstructionCount): StopReason {
    this.#running = true;
    const reason = this.#machine.runUntil(until);
    this.#running = false;
    this.#halted = reason === 'halted';
    return reason;
  }

  output(output: Output): void {
    this.#outputs += 1n;
    this.#events.output(numberOutput(this.#machine, this.#outputs, output, this.#running));
  }

  /**
   * Logs the state's digest at the present count. After a halt only once a clock entry has come: until then the
   * count does not tell whether the timers due there have fired.
   */
  digest(): void {
    assert(!this.#halted, 'a digest after a halt comes after its clock entry');
    this.#events.entry(this.#machine.count, { kind: 'digest', digest: this.#machine.digest() });
  }

  end(reason: 'powered-off' | 'stopped'): void {
    assert(!this.#halted, 'an end after a halt comes after its clock entry');
    this.#events.entry(this.#machine.count, { kind: 'end', reason });
  }
}

/** The log entry of an output (design 4). */
export function outputMark(output: NumberedOutput): LogPayload {
  return { kind: 'output-mark', output: output.number, outputKind: output.output.kind, hash: output.hash };
}
