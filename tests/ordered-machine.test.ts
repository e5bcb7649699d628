import { beforeAll, expect, test } from 'vitest';
import { guestNanoseconds, hostMilliseconds, instructionCount } from '../src/base/units.ts';
import { RunningCopy } from '../src/hypervisor/running-copy.ts';
import { VcpuLoop } from '../src/hypervisor/vcpu.ts';
import { CopyTarget } from '../src/machine/copy-target.ts';
import type { ControlInput, DiskRequestOutput, Output } from '../src/machine/door.ts';
import { OrderedMachine } from '../src/machine/ordered-machine.ts';
import type { LogEntry } from '../src/replay/log-entry.ts';
import { outputMark, Recorder } from '../src/replay/recorder.ts';
import { Replayer } from '../src/replay/replayer.ts';
import { assembledGuest } from './assembled-guest.ts';

/** The guest of a pair: resets and orders are inputs at exact counts, so a replay has them at the same ones. */

const config = {
  memoryBytes: 16 * 2 ** 20,
  disks: [{ capacity: 4096, readOnly: false, serial: 'd' }],
  nics: [],
  startEpochSeconds: 1_700_000_000,
  seed: '07'.repeat(32),
  debugExit: false,
};
const options = { engine: 'interpreter' } as const;
const control = (action: 'pause' | 'resume' | 'reset' | 'restart' | 'power-button'): ControlInput => ({
  kind: 'control',
  action,
});

let image: { kernel: Uint8Array; initrd: undefined; commandLine: string };
beforeAll(async () => {
  image = { kernel: await assembledGuest('journal'), initrd: undefined, commandLine: 'x' };
});

function made<Value>(result: { ok: true; value: Value } | { ok: false; error: string }): Value {
  if (!result.ok) throw new Error(result.error);
  return result.value;
}

/** A live machine, its log, and a snapshot from which the log replays. */
class Live {
  recorder: Recorder | undefined;
  readonly machine: OrderedMachine;
  entries: LogEntry[] = [];
  outputs: Output[] = [];
  #time = 0n;

  constructor() {
    this.machine = made(
      OrderedMachine.create(config, image, { output: (output) => this.recorder?.output(output) }, options),
    );
    this.record(0n);
  }

  record(outputs: bigint): void {
    const log = (entry: Omit<LogEntry, 'sequence'>): void => {
      this.entries.push({ ...entry, sequence: BigInt(this.entries.length + 1) } as LogEntry);
    };
    this.recorder = new Recorder(
      this.machine,
      {
        entry: (at, payload) => log({ at, ...payload }),
        output: (output) => {
          this.outputs.push(output.output);
          log({ at: output.at, ...outputMark(output) });
        },
      },
      { outputs },
    );
  }

  /** So many times 4 ms of the guest's time. */
  run(rounds: number): void {
    for (let round = 0; round < rounds; round++) {
      this.#time += 4_000_000n;
      const guestTime = guestNanoseconds(this.#time);
      const cap = guestNanoseconds(this.#time + 4_000_000n);
      this.recorder!.apply({ kind: 'clock', guestTime, rate: 20n << 32n, cap });
      if (round % 8 === 7) this.recorder!.digest();
      this.recorder!.run(instructionCount(this.machine.count + 200_000n));
    }
  }

  /** An entry at the count that it got to, so that a replay gets there too. */
  stand(): void {
    const { guestTime } = this.machine;
    this.recorder!.apply({ kind: 'clock', guestTime, rate: 0n, cap: guestTime });
  }

  get console(): string {
    return this.outputs
      .map((output) => (output.kind === 'console' ? Buffer.from(output.bytes).toString() : ''))
      .join('');
  }
}

function replay(entries: readonly LogEntry[], snapshot?: Uint8Array, outputs = 0n): OrderedMachine {
  let replayer: Replayer | undefined;
  const sink = { output: (output: Output) => replayer?.output(output) };
  const machine = made(
    snapshot
      ? OrderedMachine.restore(snapshot, sink, options)
      : OrderedMachine.create(config, image, sink, options),
  );
  replayer = new Replayer(machine, { outputs });
  for (const entry of entries) replayer.feed(entry);
  for (;;) {
    const step = replayer.step(1_000_000n);
    if (step.kind === 'diverged') throw new Error(step.reason);
    if (step.kind === 'starved') return machine;
  }
}

test('resets, pauses and limits replay to the same state; the guest begins again, its count and time go on', () => {
  const live = new Live();
  live.run(60);
  const written = live.console.length;
  expect(written).toBeGreaterThan(50);
  live.stand();
  live.recorder!.apply({ kind: 'control', action: 'limit', cpuPercent: 30 });
  live.recorder!.apply(control('power-button'));
  live.recorder!.apply(control('reset'));
  expect(live.machine.awaitsRestart).toBe(true);
  expect(live.recorder!.run(instructionCount(live.machine.count + 1n))).toBe('powered-off');
  const { count, guestTime } = live.machine;
  live.recorder!.apply(control('restart'));
  expect([live.machine.count, live.machine.guestTime]).toEqual([count, guestTime]);
  expect(live.machine.orders).toEqual({ paused: false, cpuPercent: 30 });
  live.run(60);
  expect(live.console.slice(written)).toMatch(/^00000001 /);
  expect(live.console.slice(written, 2 * written)).not.toBe(live.console.slice(0, written));
  live.stand();
  live.recorder!.apply(control('pause'));
  expect(live.machine.orders?.paused).toBe(true);
  const replayed = replay(live.entries);
  expect([replayed.count, replayed.orders]).toEqual([live.machine.count, live.machine.orders]);
  expect(replayed.digest()).toBe(live.machine.digest());
});

test('a snapshot carries what lies before the machine: its past, its orders and what it boots from', () => {
  const live = new Live();
  live.run(20);
  live.stand();
  live.recorder!.apply({ kind: 'control', action: 'limit', cpuPercent: 30 });
  live.recorder!.apply(control('reset'));
  const off = live.machine.snapshot();
  const outputs = BigInt(live.outputs.length);
  live.entries = [];
  live.record(outputs);
  live.recorder!.apply(control('restart'));
  live.run(40);
  live.stand();
  const replayed = replay(live.entries, off, outputs);
  expect(replayed.digest()).toBe(live.machine.digest());
  live.recorder!.apply(control('pause'));
  const again = made(OrderedMachine.restore(live.machine.snapshot(), { output() {} }, options));
  expect(again.digest()).toBe(live.machine.digest());
  expect(again.orders).toEqual({ paused: true, cpuPercent: 30 });
  for (const damaged of [
    off.subarray(0, off.length - 1),
    off.subarray(4),
    new Uint8Array(3),
    new Uint8Array(40),
  ])
    expect(OrderedMachine.restore(damaged, { output() {} }, options).ok).toBe(false);
});

test.each(['before a reset', 'after it'])('in a copy the boot image goes ahead, %s', (when) => {
  const live = new Live();
  live.run(10);
  if (when === 'after it') {
    live.stand();
    live.recorder!.apply(control('reset'));
    live.recorder!.run(instructionCount(live.machine.count + 1n));
    live.recorder!.apply(control('restart'));
    live.run(10);
  }
  const copy = RunningCopy.of(1, live.machine)!;
  const staged = new CopyTarget(config, options);
  let parts = 0;
  let part = copy.next();
  for (; part?.kind !== 'last'; part = copy.next()) {
    if (part) expect(staged.add(part.bytes)).toBeUndefined();
    copy.arrived(++parts);
  }
  const end = live.machine.snapshot(part.pages);
  expect(end.length).toBeLessThan(image.kernel.length + 64 * 1024);
  const copied = made(OrderedMachine.restore(end, { output() {} }, options, staged));
  expect(copied.digest()).toBe(live.machine.digest());
  // It boots from it when it is reset, and a snapshot of it is whole.
  const again = made(OrderedMachine.restore(copied.snapshot(), { output() {} }, options));
  for (const machine of [live.machine, again]) {
    machine.apply(control('reset'));
    machine.apply(control('restart'));
    machine.runUntil(instructionCount(machine.count + 100_000n));
  }
  expect(again.digest()).toBe(live.machine.digest());
  // Without what went ahead it is nothing.
  const alone = OrderedMachine.restore(end, { output() {} }, options, new CopyTarget(config, options));
  expect(alone.ok).toBe(false);
});

test('a request of the guest before the reset is answered to nobody', () => {
  const live = new Live();
  live.run(10);
  const completion = (request: number) =>
    ({ kind: 'disk-completed', disk: 0, request, status: 'ok', data: new Uint8Array(0) }) as const;
  expect(live.machine.pendingDiskRequests()).toEqual([] as DiskRequestOutput[]);
  const digest = live.machine.digest();
  live.machine.apply(completion(1));
  live.machine.apply(completion(0));
  expect(live.machine.digest()).toBe(digest);
});

test('a limited vCPU rests for its share, a paused one takes orders only', () => {
  const loop = new VcpuLoop(
    {
      create: (sink) => OrderedMachine.create(config, image, sink, options),
      restore: () => ({ ok: false, error: 'not here' }),
    },
    { digestEveryMs: undefined },
  );
  const entries: LogEntry['kind'][] = [];
  loop.listen({
    entry: (_at, payload) => entries.push(payload.kind),
    output() {},
    flush() {},
    replayed() {},
    replayedToEnd() {},
    pages() {},
    snapshot() {},
    loaded() {},
    diverged() {},
    stopped() {},
  });
  loop.create();
  loop.run();
  let now = 0;
  /** Host time is what this test says: every slice takes a millisecond. */
  const busyShare = (): number => {
    let busy = 0;
    const from = now;
    for (let steps = 0; steps < 400; steps++) {
      const step = loop.step(hostMilliseconds(now));
      if (step.kind === 'busy') busy += 1;
      now = step.kind === 'busy' ? now + 1 : Math.max(now + 0.01, step.until ?? now + 1);
    }
    return busy / (now - from);
  };
  loop.input({ kind: 'control', action: 'limit', cpuPercent: 25 });
  loop.step(hostMilliseconds(now));
  const limited = busyShare();
  expect(limited).toBeLessThan(0.27);
  loop.input({ kind: 'control', action: 'limit', cpuPercent: 100 });
  expect(busyShare()).toBeGreaterThan(limited);

  loop.input(control('pause'));
  while (loop.step(hostMilliseconds(now)).kind === 'busy') now += 1;
  entries.length = 0;
  loop.input({ kind: 'console', port: 0, bytes: Uint8Array.of(65) });
  now += 5000;
  expect(loop.step(hostMilliseconds(now)).kind).toBe('idle');
  expect(entries).toEqual([]);
  loop.input(control('resume'));
  while (entries.length < 4) {
    loop.step(hostMilliseconds(now));
    now += 1;
  }
});

test('a cable that was pulled out stays out when the guest is switched on again, and in a snapshot', () => {
  const wired = { ...config, nics: [{ mac: '020000000001' }] };
  const machine = () => made(OrderedMachine.create(wired, image, { output() {} }, options));
  const cable = (action: 'disconnect' | 'connect'): ControlInput => ({ kind: 'control', action, nic: 0 });
  const again = (one: OrderedMachine) => {
    for (const action of ['reset', 'restart'] as const) one.apply(control(action));
  };
  const [pulled, never] = [machine(), machine()];
  pulled.apply(cable('disconnect'));
  const restored = made(OrderedMachine.restore(pulled.snapshot(), { output() {} }, options));
  for (const one of [pulled, restored, never]) again(one);
  expect(restored.digest()).toBe(pulled.digest());
  // Putting in what is in changes nothing; here it was out, and the driver is told of a change.
  for (const one of [pulled, never]) one.apply(cable('connect'));
  expect(pulled.digest()).not.toBe(never.digest());
});
