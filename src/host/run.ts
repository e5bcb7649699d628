import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { failed, ok, type Result } from '../base/result.ts';
import { checkConfig, type MachineConfig } from '../machine/config.ts';
import { createMachine } from '../machine/machine.ts';
import type { Forward } from '../network/passt-uplink.ts';
import type { DiskSource } from '../storage/disk-source.ts';
import { readBootImage } from './guest-files.ts';
import { makeSeed, type SeedFiles } from './image/cloud-seed.ts';
import { LocalDevices } from './local-devices.ts';
import type { NetworkChoice } from './local-network.ts';
import { type CycleEnd, type CycleResult, PowerCycle } from './power-cycle.ts';
import { RecordingFile } from './recording-file.ts';
import { SerialTerminal } from './serial-terminal.ts';

export interface RunOptions {
  readonly kernel: string;
  readonly initrd: string | undefined;
  /** The kernel's command line. */
  readonly append: string;
  readonly disks: readonly DiskSource[];
  /** What a cloud-init in the guest is told, on a disk behind the others. */
  readonly seed: SeedFiles | undefined;
  readonly memoryBytes: number;
  readonly nets: readonly Exclude<NetworkChoice, 'none'>[];
  readonly forwards: readonly Forward[];
  readonly noReboot: boolean;
  readonly debugExit: boolean;
  readonly record: string | undefined;
  /** Where the packets of the first interface go. */
  readonly capture: string | undefined;
  readonly engine: 'auto' | 'interpreter' | 'jit';
  /** The last line on standard error is a JSON object. */
  readonly json: boolean;
}

const EXIT_WRONG = 2;
const SIGNAL_EXIT: Readonly<Record<string, number>> = { SIGHUP: 129, SIGINT: 130, SIGTERM: 143 };

/** `lockstep run` (design 10): a guest in the foreground, its first serial port on standard input and output. */
export async function run(options: RunOptions): Promise<number> {
  const startedAt = performance.now();
  const result = await runUntilItEnds(options);
  if (!result.ok || result.value.end.kind === 'failed') {
    const reason = result.ok ? (result.value.end as { reason: string }).reason : result.error;
    say(reason);
    if (options.json) process.stderr.write(`${JSON.stringify({ ok: false, reason })}\n`);
    return EXIT_WRONG;
  }
  const { end, machine } = result.value;
  const guestSeconds = Number(machine.guestTime) / 1e9;
  say(`the guest ${describe(end)} after ${machine.count} instructions, ${guestSeconds.toFixed(3)} s`);
  if (options.json) {
    const { user, system } = process.cpuUsage();
    const figures = {
      ok: true,
      end: end.kind === 'power' ? end.output.state : end.why,
      instructions: Number(machine.count),
      jitShare: Number(machine.compiledCount) / Math.max(1, Number(machine.count)),
      guestSeconds,
      seconds: (performance.now() - startedAt) / 1000,
      cpuSeconds: (user + system) / 1e6,
      peakMemoryMB: Math.round(process.resourceUsage().maxRSS / 1024),
    };
    process.stderr.write(`${JSON.stringify(figures)}\n`);
  }
  return exitCode(end);
}

function say(line: string): void {
  process.stderr.write(`lockstep: ${line}\n`);
}

function describe(end: Exclude<CycleEnd, { kind: 'failed' }>): string {
  if (end.kind === 'left') return `was left (${end.why})`;
  switch (end.output.state) {
    case 'off':
      return 'powered off';
    case 'reset':
      return 'was reset';
    case 'triple-fault':
      return 'was reset by a triple fault';
    case 'debug-exit':
      return `wrote ${end.output.value} to the debug-exit port`;
  }
}

function exitCode(end: Exclude<CycleEnd, { kind: 'failed' }>): number {
  if (end.kind === 'left') return SIGNAL_EXIT[end.why] ?? 0;
  // As QEMU's isa-debug-exit; the system keeps eight bits of it.
  return end.output.state === 'debug-exit' ? ((end.output.value << 1) | 1) & 0xff : 0;
}

async function runUntilItEnds(options: RunOptions): Promise<Result<CycleResult>> {
  const leaving = new Leaving();
  let devices: LocalDevices | undefined;
  let folder: string | undefined;
  try {
    const disks = [...options.disks];
    if (options.seed !== undefined) {
      folder = await mkdtemp(join(tmpdir(), 'lockstep-run-'));
      const seed = await makeSeed(options.seed, join(folder, 'seed.img'));
      if (!seed.ok) return seed;
      disks.push({ kind: 'file', path: seed.value, readOnly: true });
    }
    const opened = await LocalDevices.open({ ...options, disks, say });
    if (!opened.ok) return opened;
    devices = opened.value;
    return await runGuest(options, devices, leaving);
  } finally {
    await devices?.close();
    if (folder !== undefined) await rm(folder, { recursive: true, force: true });
    leaving.close();
  }
}

/** Signals, from the first file opened to the last one closed. A second signal ends the process at once. */
class Leaving {
  cycle: PowerCycle | undefined;
  signal: string | undefined;
  readonly #onSignal = (signal: NodeJS.Signals) => {
    this.signal = signal;
    this.cycle?.leave(signal);
  };

  constructor() {
    for (const signal of Object.keys(SIGNAL_EXIT)) process.once(signal, this.#onSignal);
  }

  close(): void {
    for (const signal of Object.keys(SIGNAL_EXIT)) process.off(signal, this.#onSignal);
  }
}

/** The guest through all its resets. */
async function runGuest(
  options: RunOptions,
  devices: LocalDevices,
  leaving: Leaving,
): Promise<Result<CycleResult>> {
  let recording: RecordingFile | undefined;
  let terminal: SerialTerminal | undefined;
  try {
    for (;;) {
      const cycle = new PowerCycle({ devices, recorded: options.record !== undefined, status: say });
      const made = await startGuest(options, devices, cycle);
      if (!made.ok) return made;
      // The recording comes after the machine: a guest that cannot start costs no older recording.
      if (options.record !== undefined) {
        const opened = RecordingFile.open(options.record);
        if (!opened.ok) return opened;
        recording = opened.value;
      }
      leaving.cycle = cycle;
      terminal ??= new SerialTerminal({
        input: () => leaving.cycle?.wake(),
        leave: () => leaving.cycle?.leave('Ctrl-A X'),
        broken: (reason) => leaving.cycle?.fail(`standard output cannot be written: ${reason}`),
      });
      if (leaving.signal !== undefined) cycle.leave(leaving.signal);
      const result = await cycle.run(terminal, recording);
      await devices.drain();
      if (!startsAgain(options, result.end)) return ok(result);
      say(`the guest ${describe(result.end)} and starts again`);
    }
  } finally {
    recording?.close();
    terminal?.close();
  }
}

function startsAgain(options: RunOptions, end: CycleEnd): end is CycleEnd & { kind: 'power' } {
  // A recording holds one power cycle.
  if (end.kind !== 'power' || options.noReboot || options.record !== undefined) return false;
  return end.output.state === 'reset' || end.output.state === 'triple-fault';
}

/** The kernel and the initrd are in memory no longer than it takes to copy them into the guest's. */
async function startGuest(
  options: RunOptions,
  devices: LocalDevices,
  cycle: PowerCycle,
): Promise<Result<undefined>> {
  const image = await readBootImage(options);
  if (!image.ok) return image;
  const config: MachineConfig = {
    memoryBytes: options.memoryBytes,
    disks: devices.diskConfigs,
    nics: devices.nics,
    startEpochSeconds: Math.floor(Date.now() / 1000),
    seed: randomBytes(32).toString('hex'),
    debugExit: options.debugExit,
  };
  const checked = checkConfig(config);
  if (!checked.ok) return checked;
  return cycle.start((sink) => {
    try {
      return createMachine(config, image.value, sink, {
        engine: options.engine === 'interpreter' ? 'interpreter' : 'jit',
      });
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      return failed(`this host has no ${options.memoryBytes / 2 ** 20} MiB of memory for the guest`);
    }
  });
}
