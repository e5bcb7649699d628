import { randomBytes } from 'node:crypto';
import { failed, ok, type Result } from '../base/result.ts';
import { VcpuLoop } from '../hypervisor/vcpu.ts';
import { encodeConfig } from '../machine/config.ts';
import type { Output, OutputSink, PowerOutput } from '../machine/door.ts';
import type { LockstepMachine } from '../machine/machine.ts';
import { LOG_START } from '../replay/position.ts';
import { RecordingWriter } from '../replay/recording.ts';
import { FLAGS_REST, HALTED } from '../x86/state.ts';
import { LiveLoop } from './live-loop.ts';
import type { LocalDevices } from './local-devices.ts';
import type { RecordingFile } from './recording-file.ts';
import type { SerialTerminal } from './serial-terminal.ts';

/** A recording's digests are this far apart in host time. */
const DIGEST_EVERY_MS = 250;
const ENTROPY_EVERY_MS = 60_000;
const ENTROPY_BYTES = 32;
/** RFLAGS.IF. */
const INTERRUPTS_ON = 0x200;

export type CycleEnd =
  | { readonly kind: 'power'; readonly output: PowerOutput }
  /** The user or a signal ended it. */
  | { readonly kind: 'left'; readonly why: string }
  | { readonly kind: 'failed'; readonly reason: string };

export interface CycleResult {
  readonly end: CycleEnd;
  /** Where it stopped. */
  readonly machine: LockstepMachine;
}

export type MachineMaker = (sink: OutputSink) => Result<LockstepMachine>;

export interface PowerCycleOptions {
  readonly devices: LocalDevices;
  readonly recorded: boolean;
  readonly status: (line: string) => void;
}

/** One guest from power-on to power-off or reset: live, and recorded when it shall be. */
export class PowerCycle {
  readonly #options: PowerCycleOptions;
  readonly #vcpu: VcpuLoop;
  readonly #loop: LiveLoop;
  #create: MachineMaker | undefined;
  #machine: LockstepMachine | undefined;
  #terminal: SerialTerminal | undefined;
  #recording: RecordingFile | undefined;
  #writer: RecordingWriter | undefined;
  #power: PowerOutput | undefined;
  #entropyAt = 0;
  #toldEndless = false;
  #end: CycleEnd | undefined;
  #finish: (end: CycleEnd) => void = () => {};

  constructor(options: PowerCycleOptions) {
    this.#options = options;
    this.#vcpu = new VcpuLoop(
      {
        create: (sink) => {
          const made = this.#create?.(sink) ?? failed('the machine is made once');
          if (made.ok) this.#machine = made.value;
          return made;
        },
        restore: () => failed('a guest in the foreground is not restored'),
      },
      { digestEveryMs: options.recorded ? DIGEST_EVERY_MS : undefined },
    );
    this.#vcpu.listen({
      entry: (at, payload) => this.#writer?.entry(at, payload),
      output: (numbered) => {
        this.#writer?.output(numbered);
        this.#output(numbered.output);
      },
      flush: () => {},
      replayed: () => {},
      replayedToEnd: () => {},
      pages: () => {},
      snapshot: () => {},
      loaded: () => {},
      diverged: () => {},
      stopped: (reason, broken) => this.#stopped(reason, broken),
    });
    this.#loop = new LiveLoop(this.#vcpu, {
      beforeStep: () => this.#beforeStep(),
      afterStep: (now) => this.#afterStep(now),
    });
  }

  /** Switches the guest on. A failure here has touched no file. */
  start(create: MachineMaker): Result<undefined> {
    this.#create = create;
    this.#vcpu.create();
    this.#create = undefined;
    if (this.#machine !== undefined) return ok(undefined);
    return failed(this.#end?.kind === 'failed' ? this.#end.reason : 'the machine cannot be made');
  }

  run(terminal: SerialTerminal, recording: RecordingFile | undefined): Promise<CycleResult> {
    const machine = this.#machine!;
    this.#terminal = terminal;
    if (recording !== undefined) this.#beginRecording(machine, recording);
    const { devices } = this.#options;
    devices.listen({
      completed: (completion) => this.#input(() => this.#vcpu.input(completion)),
      frame: (nic, { frame, offload }) =>
        this.#input(() => this.#vcpu.input({ kind: 'frame', nic, frame, offload })),
      networkEnded: (reason) => this.#options.status(`${reason}: the guest has no network any more`),
    });
    return new Promise((resolve) => {
      this.#finish = (end) => {
        this.#loop.stop();
        this.#vcpu.stop();
        devices.listen(undefined);
        this.#endRecording(machine, end);
        resolve({ end, machine });
      };
      if (this.#end !== undefined) {
        this.#finish(this.#end);
        return;
      }
      this.#vcpu.run();
      this.#loop.kick();
    });
  }

  /** Console input is there to be taken. */
  wake(): void {
    this.#loop.kick();
  }

  leave(why: string): void {
    this.#done({ kind: 'left', why });
  }

  fail(reason: string): void {
    this.#done({ kind: 'failed', reason });
  }

  #done(end: CycleEnd): void {
    if (this.#end !== undefined) return;
    this.#end = end;
    this.#finish(end);
  }

  #input(give: () => void): void {
    if (this.#end !== undefined) return;
    give();
    this.#loop.kick();
  }

  #beforeStep(): void {
    const now = performance.now();
    if (now >= this.#entropyAt) {
      this.#entropyAt = now + ENTROPY_EVERY_MS;
      this.#vcpu.input({ kind: 'entropy', seed: new Uint8Array(randomBytes(ENTROPY_BYTES)) });
    }
    const bytes = this.#terminal?.take(this.#machine!.serialRoom);
    if (bytes !== undefined) this.#vcpu.input({ kind: 'console', port: 0, bytes });
  }

  #afterStep(now: number): void {
    const { status } = this.#options;
    const recording = this.#recording;
    this.#terminal?.flush();
    recording?.flushWhenDue(now);
    if (recording?.failure !== undefined) this.fail(recording.failure);
    if (!this.#toldEndless && this.#haltedForEver()) {
      this.#toldEndless = true;
      status('the guest is halted with interrupts off: nothing will wake it');
    }
  }

  #haltedForEver(): boolean {
    const state = this.#machine!.processor;
    return state.get32(HALTED) !== 0 && (state.get32(FLAGS_REST) & INTERRUPTS_ON) === 0;
  }

  #output(output: Output): void {
    switch (output.kind) {
      case 'console':
        if (output.port === 0) this.#terminal?.write(output.bytes);
        return;
      case 'disk-request':
        this.#options.devices.issue(output);
        return;
      case 'frame':
        this.#options.devices.send(output.nic, output);
        return;
      case 'power':
        this.#power = output;
        return;
    }
  }

  #stopped(reason: string, broken: boolean): void {
    if (!broken && this.#power !== undefined) this.#done({ kind: 'power', output: this.#power });
    else this.#done({ kind: 'failed', reason });
  }

  #beginRecording(machine: LockstepMachine, recording: RecordingFile): void {
    this.#recording = recording;
    recording.begin();
    this.#writer = new RecordingWriter(
      {
        configuration: encodeConfig(machine.config),
        image: machine.snapshot(),
        count: machine.count,
        position: LOG_START,
      },
      (bytes) => recording.write(bytes),
    );
  }

  #endRecording(machine: LockstepMachine, end: CycleEnd): void {
    const writer = this.#writer;
    // A side that failed has no orderly end: its recording stays truncated, and replays up to the failure.
    if (writer === undefined || end.kind === 'failed') return;
    const off = end.kind === 'power';
    if (off) writer.entry(machine.count, { kind: 'digest', digest: machine.digest() });
    writer.entry(machine.count, { kind: 'end', reason: off ? 'powered-off' : 'stopped' });
  }
}
