import { failed, ok, type Result } from '../base/result.ts';
import { type InstructionCount, instructionCount } from '../base/units.ts';
import type { EngineOptions } from '../machine/config.ts';
import type { OutputSink } from '../machine/door.ts';
import type { LockstepMachine } from '../machine/machine.ts';
import { restoreMachine } from '../machine/restore.ts';
import type { LogEntry } from '../replay/log-entry.ts';
import { RecordingReader, type RecordingStart } from '../replay/recording.ts';
import { Replayer } from '../replay/replayer.ts';

export interface ReplayOptions {
  /** Also checks, at every logged digest, that a digest made anew over all of RAM says the same. */
  readonly verify?: boolean | undefined;
  /** Replays up to this count and no further. */
  readonly until?: bigint | undefined;
  /** Bytes of the guest's first serial port. */
  readonly onConsole?: (bytes: Uint8Array) => void;
  readonly onProgress?: (progress: ReplayFigures) => void;
  readonly engine?: EngineOptions;
  /** Instructions executed in one go. */
  readonly budget?: bigint | undefined;
}

export interface ReplayFigures {
  readonly count: InstructionCount;
  readonly entries: bigint;
  readonly outputs: number;
  readonly digests: number;
  readonly guestSeconds: number;
}

export interface ReplayOutcome {
  /**
   * equal: all of it, to its end. until: equal up to the count asked for. truncated: equal as far as it goes, but
   * it has no end. damaged: equal up to the damage. diverged: the machine did something else than the log says.
   */
  readonly verdict: 'equal' | 'until' | 'truncated' | 'damaged' | 'diverged';
  /** One line: what is wrong, and where. Empty when nothing is. */
  readonly reason: string;
  readonly figures: ReplayFigures;
  /** The digest of the machine where the replay ended. */
  readonly digest: string;
}

/** Where the bytes of a recording come from: the next chunk, or undefined at the end. */
export type RecordingSource = () => Uint8Array | undefined;

const BUDGET = 4_000_000n;

/** Replays a recording, which needs nothing but itself. An error means that there is nothing to replay. */
export function replayRecording(source: RecordingSource, options: ReplayOptions): Result<ReplayOutcome> {
  const reader = new RecordingReader();
  let replay: Replay | undefined;
  for (let chunk = source(); chunk !== undefined; chunk = source()) {
    const pushed = reader.push(chunk);
    if (!pushed.ok) return pushed;
    for (;;) {
      const item = reader.next();
      if (!item.ok) return replay === undefined ? item : ok(replay.outcome('damaged', item.error));
      if (item.value === undefined) break;
      if (item.value.kind === 'start') {
        const begun = Replay.begin(item.value.start, options);
        if (!begun.ok) return begun;
        replay = begun.value;
        continue;
      }
      const outcome = replay?.entry(item.value.entry);
      if (outcome !== undefined) return ok(outcome);
    }
  }
  const finished = reader.finish();
  if (replay === undefined) return finished.ok ? failed('the recording is empty') : finished;
  return ok(finished.ok ? replay.outcome('equal', '') : replay.outcome('truncated', finished.error));
}

/** One machine that follows a recording. */
class Replay {
  readonly #machine: LockstepMachine;
  readonly #replayer: Replayer;
  readonly #options: ReplayOptions;
  #outputs = 0;
  #digests = 0;

  private constructor(machine: LockstepMachine, replayer: Replayer, options: ReplayOptions) {
    this.#machine = machine;
    this.#replayer = replayer;
    this.#options = options;
  }

  static begin(start: RecordingStart, options: ReplayOptions): Result<Replay> {
    let sink: OutputSink | undefined;
    let machine: Result<LockstepMachine>;
    try {
      machine = restoreMachine(start.image, { output: (output) => sink?.output(output) }, options.engine);
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      return failed('this host has not enough memory for the recorded guest');
    }
    if (!machine.ok) return machine;
    if (machine.value.count !== start.count)
      return failed('the recording is damaged: its image has another count');
    const replayer = new Replayer(machine.value, start.position, {
      onOutput: ({ output }) => {
        if (output.kind === 'console' && output.port === 0) options.onConsole?.(output.bytes);
      },
    });
    sink = replayer;
    return ok(new Replay(machine.value, replayer, options));
  }

  /** Replays one entry; an outcome when that was the last thing to do. */
  entry(entry: LogEntry): ReplayOutcome | undefined {
    const { until, onProgress } = this.#options;
    try {
      if (until !== undefined && entry.at > until) return this.#stopAt(until);
      this.#replayer.feed(entry);
      for (;;) {
        const step = this.#replayer.step(this.#options.budget ?? BUDGET);
        if (step.kind === 'diverged') return this.outcome('diverged', step.reason);
        onProgress?.(this.#figures());
        if (step.kind === 'starved' || step.kind === 'ended') break;
      }
      if (entry.kind === 'output-mark') this.#outputs += 1;
      if (entry.kind === 'digest') {
        this.#digests += 1;
        if (this.#options.verify === true && this.#machine.fullDigest() !== entry.digest) {
          return this.outcome(
            'diverged',
            `divergence at count ${this.#machine.count}: the digest of all of RAM differs from the running one`,
          );
        }
      }
      return undefined;
    } catch (error) {
      // The machine refused what the log made it do: on the recording side it did not.
      const what = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
      return this.outcome('diverged', `divergence at count ${this.#machine.count}: ${what}`);
    }
  }

  outcome(verdict: ReplayOutcome['verdict'], reason: string): ReplayOutcome {
    return { verdict, reason, figures: this.#figures(), digest: this.#machine.digest() };
  }

  #stopAt(until: bigint): ReplayOutcome {
    while (this.#machine.count < until) {
      if (this.#machine.runUntil(instructionCount(until)) !== 'stop-requested') break;
    }
    return this.outcome('until', '');
  }

  #figures(): ReplayFigures {
    return {
      count: this.#machine.count,
      entries: this.#replayer.replayed,
      outputs: this.#outputs,
      digests: this.#digests,
      guestSeconds: Number(this.#machine.guestTime) / 1e9,
    };
  }
}
