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
 * at one count. The clock entry that begins every wake says that it does, so a replayer keeps the rounds apart.
 */
export class Recorder implements OutputSink {
  readonly #machine: Machine;
  readonly #events: RecorderEvents;
  #outputs: bigint;
  #halted = false;
  #running = false;

  constructor(machine: Machine, events: RecorderEvents, position: LogPosition) {
    this.#machine = machine;
    this.#events = events;
    this.#outputs = position.outputs;
  }

  get position(): LogPosition {
    return { outputs: this.#outputs };
  }

  /** True after a halt: a clock entry has to come next. */
  get halted(): boolean {
    return this.#halted;
  }

  apply(input: Input): void {
    const afterHalt = this.#halted;
    assert(!afterHalt || input.kind === 'clock', 'every wake from a halt begins with one clock entry');
    this.#halted = false;
    this.#events.entry(this.#machine.count, { kind: 'input', input, ...(afterHalt && { afterHalt }) });
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
    const digest = this.#machine.digest();
    const parts = this.#machine.digestParts?.();
    this.#events.entry(this.#machine.count, { kind: 'digest', digest, ...(parts && { parts }) });
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
