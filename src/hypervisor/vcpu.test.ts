import { expect, test } from 'vitest';
import { ToyMachine } from '../../tests/toy-machine.ts';
import { hostMilliseconds } from '../base/units.ts';
import type { MachineSnapshot } from '../ft/event.ts';
import type { LogEntry, LogPayload } from '../replay/log-entry.ts';
import type { NumberedOutput } from '../replay/numbered-output.ts';
import { outputMark } from '../replay/recorder.ts';
import type { VcpuEvents } from './ports.ts';
import { VcpuLoop } from './vcpu.ts';

/** A vCPU loop over a toy machine, in time that the test moves. */
class Bench {
  now = 0;
  readonly log: LogEntry[] = [];
  readonly logTimes: number[] = [];
  readonly outputs: NumberedOutput[] = [];
  readonly told: string[] = [];
  /** When everything that was logged so far was flushed: by order, or with an output. */
  readonly handedOn: number[] = [];
  snapshot: MachineSnapshot | undefined;
  machine!: ToyMachine;
  readonly loop: VcpuLoop;

  constructor(digestEveryMs: number | undefined = 10) {
    this.loop = new VcpuLoop(
      {
        create: (sink) => ({ ok: true, value: (this.machine = new ToyMachine(sink)) }),
        restore: (bytes, sink) => ({ ok: true, value: (this.machine = new ToyMachine(sink, bytes)) }),
      },
      { digestEveryMs },
    );
    const events: VcpuEvents = {
      entry: (at, payload) => this.#log(at, payload),
      output: (output) => {
        this.outputs.push(output);
        this.#log(output.at, outputMark(output));
        // Not every disk request is held, and flushed with that.
        if (output.output.kind !== 'disk-request') this.handedOn.push(this.now);
      },
      flush: () => {
        this.told.push('flush');
        this.handedOn.push(this.now);
      },
      pages() {},
      snapshot: (snapshot) => {
        this.snapshot = snapshot;
      },
      loaded: (digest) => this.told.push(`loaded ${digest}`),
      replayed: (sequence, at) => this.told.push(`replayed ${sequence} ${at}`),
      replayedToEnd: (at) => this.told.push(`end ${at}`),
      diverged: (reason) => this.told.push(reason),
      stopped: (reason, failed) => this.told.push(`stopped ${reason} ${failed}`),
    };
    this.loop.listen(events);
  }

  #log(at: LogEntry['at'], payload: LogPayload): void {
    this.log.push({ sequence: BigInt(this.log.length + 1), at, ...payload });
    this.logTimes.push(this.now);
  }

  /** Steps until host time `end`; a busy step takes `stepMs`. */
  run(end: number, stepMs = 0.4): void {
    while (this.now < end) {
      const step = this.loop.step(hostMilliseconds(this.now));
      if (step.kind === 'busy') this.now += stepMs;
      else this.now = Math.max(this.now + 0.001, Math.min(end, step.until ?? end));
    }
  }
}

function recorded(): { bench: Bench; start: MachineSnapshot } {
  const bench = new Bench();
  bench.loop.create();
  bench.loop.snapshot();
  bench.loop.step(hostMilliseconds(0));
  const start = bench.snapshot!;
  bench.loop.run();
  for (let request = 0; request < 20; request++) {
    bench.loop.input({ kind: 'frame', nic: 0, frame: Uint8Array.of(request, request & 3) });
    if (request % 4 === 0) bench.loop.input({ kind: 'console', port: 0, bytes: Uint8Array.of(request) });
    bench.run(bench.now + 7);
  }
  return { bench, start };
}

test('guest time follows host time, never goes back, and a busy guest logs it at most 5 ms apart', () => {
  const { bench } = recorded();
  expect(Math.abs(Number(bench.machine.guestTime) / 1e6 - bench.now)).toBeLessThan(13);
  let before = 0n;
  for (const entry of bench.log) {
    if (entry.kind !== 'input' || entry.input.kind !== 'clock') continue;
    expect(entry.input.guestTime).toBeGreaterThanOrEqual(before);
    expect(entry.input.cap).toBeGreaterThanOrEqual(entry.input.guestTime);
    before = entry.input.guestTime;
  }
});

test('every wake from a halt begins with one clock entry, whatever woke it', () => {
  const { bench } = recorded();
  let wakes = 0;
  for (const entry of bench.log) {
    if (entry.kind !== 'input' || !entry.afterHalt) continue;
    expect(entry.input.kind).toBe('clock');
    wakes++;
  }
  expect(wakes).toBeGreaterThan(20);
});

test('counts in the log never go back by more than the one of a mark', () => {
  const { bench } = recorded();
  let most = 0n;
  for (const entry of bench.log) {
    expect(entry.at + 1n).toBeGreaterThanOrEqual(most);
    if (entry.at > most) most = entry.at;
  }
});

test('a replaying vCPU reaches the same state, never executes past the last entry, and makes the same outputs', () => {
  const { bench, start } = recorded();
  const replica = new Bench();
  replica.loop.load(start);
  expect(replica.told).toEqual([`loaded ${start.digest}`]);
  for (const entry of bench.log) {
    replica.loop.replay([entry]);
    while (replica.loop.step(hostMilliseconds(0)).kind === 'busy');
    expect(replica.machine.count).toBeLessThanOrEqual(entry.at);
  }
  expect(replica.told.at(-1)).toMatch(new RegExp(`^replayed ${bench.log.length} `));
  expect(replica.outputs).toEqual(bench.outputs);
});

test('outputs known to have left are not told again by a replaying vCPU', () => {
  const { bench, start } = recorded();
  const replica = new Bench();
  replica.loop.load(start);
  const at = bench.log[0]!.at;
  replica.loop.replay([{ sequence: 0n, at, kind: 'released', output: 5n }, ...bench.log]);
  while (replica.loop.step(hostMilliseconds(0)).kind === 'busy');
  expect(replica.outputs[0]?.number).toBe(6n);
});

test('the end is told once the last entry is replayed, not before; then the vCPU goes on live', () => {
  const { bench, start } = recorded();
  const replica = new Bench();
  replica.loop.load(start);
  replica.loop.replay(bench.log);
  replica.loop.endReplay();
  const ends = (): string[] => replica.told.filter((line) => line.startsWith('end'));
  expect(ends()).toEqual([]);
  while (replica.loop.step(hostMilliseconds(0)).kind === 'busy') expect(ends()).toEqual([]);
  expect(ends()).toEqual([`end ${replica.machine.count}`]);
  const outputs = replica.outputs.length;
  const replayedTime = replica.machine.guestTime;
  // Another host's clock stands elsewhere: guest time goes on from the replayed value.
  replica.now = 5_000_000;
  replica.loop.run();
  replica.loop.input({ kind: 'frame', nic: 0, frame: Uint8Array.of(99, 1) });
  replica.run(5_000_050);
  expect(replica.outputs.length).toBeGreaterThan(outputs);
  expect(replica.outputs[outputs]?.number).toBe(replica.outputs[outputs - 1]!.number + 1n);
  const passed = Number(replica.machine.guestTime - replayedTime) / 1e6;
  expect(passed).toBeGreaterThan(35);
  expect(passed).toBeLessThan(65);
});

test('a replaying vCPU that does something else reports divergence and stops', () => {
  const { bench, start } = recorded();
  const replica = new Bench();
  replica.loop.load(start);
  const at = bench.log.findIndex((entry) => entry.kind === 'output-mark');
  replica.loop.replay(
    bench.log.map((entry, index) => (index === at ? { ...entry, hash: 'f'.repeat(32) } : entry)),
  );
  while (replica.loop.step(hostMilliseconds(0)).kind === 'busy');
  expect(replica.told.at(-1)).toMatch(/^divergence at count \d+: output \d+ \(.*\) has the hash/);
});

test('a paused vCPU stands still, answers for a snapshot, and its queue of frames is bounded', () => {
  const { bench } = recorded();
  bench.loop.pause();
  const { count } = bench.machine;
  for (let index = 0; index < 5000; index++)
    bench.loop.input({ kind: 'frame', nic: 0, frame: Uint8Array.of(1, 1) });
  bench.loop.snapshot();
  bench.snapshot = undefined;
  bench.run(bench.now + 50);
  expect(bench.machine.count).toBe(count);
  expect(bench.snapshot).toMatchObject({ count });
  const before = bench.log.length;
  bench.loop.run();
  bench.run(bench.now + 5);
  const frames = bench.log
    .slice(before)
    .filter((entry) => entry.kind === 'input' && entry.input.kind === 'frame');
  expect(frames.length).toBeLessThanOrEqual(1024);
});

test('a smaller share makes a busy vCPU rest in between', () => {
  const { bench } = recorded();
  const busy = new Bench(undefined);
  busy.loop.create();
  busy.loop.run();
  busy.loop.setShare(0.5);
  let rested = 0;
  for (let step = 0; step < 100; step++) {
    busy.loop.input({ kind: 'frame', nic: 0, frame: Uint8Array.of(1, 1) });
    const result = busy.loop.step(hostMilliseconds(busy.now));
    if (result.kind === 'busy') busy.now += 1;
    else {
      rested += (result.until ?? 0) - busy.now;
      busy.now = result.until ?? 0;
    }
  }
  expect(rested / busy.now).toBeGreaterThan(0.4);
  expect(bench.told).not.toContain('stopped');
});

test('a machine that throws stops this side, and is reported as failed', () => {
  const { bench } = recorded();
  bench.loop.input({ kind: 'disk-completed', disk: 0, request: 999, status: 'ok', data: new Uint8Array(0) });
  bench.run(bench.now + 20);
  expect(bench.told.at(-1)).toMatch(/^stopped Error: .* true$/);
});

test('a vCPU that has to rest for long flushes before it does', () => {
  const bench = new Bench(undefined);
  bench.loop.create();
  bench.loop.run();
  bench.loop.setShare(0.01);
  let pending = 0;
  for (let steps = 0; steps < 50; steps++) {
    const before = bench.log.length;
    const flushes = bench.handedOn.length;
    const step = bench.loop.step(hostMilliseconds(bench.now));
    pending = bench.handedOn.length > flushes ? 0 : pending + bench.log.length - before;
    if (step.kind === 'busy') bench.now += 1;
    else {
      // What nobody has flushed would be unknown to everybody until then.
      if (step.until !== undefined && step.until - bench.now > 20) expect(pending).toBe(0);
      bench.now = Math.max(bench.now + 0.001, step.until ?? bench.now + 1);
    }
  }
  expect(bench.log.length).toBeGreaterThan(3);
});

test('what a halted guest logs at its wakes is flushed soon, several wakes at once', () => {
  const bench = new Bench(undefined);
  bench.loop.create();
  bench.loop.run();
  bench.run(100);
  const before = { log: bench.log.length, outputs: bench.outputs.length, told: bench.told.length };
  for (let wake = 0; wake < 200; wake++) {
    bench.loop.input({ kind: 'entropy', seed: Uint8Array.of(wake) });
    bench.run(bench.now + 1, 0.1);
  }
  const logged = bench.log.slice(before.log);
  const wakes = logged.filter((entry) => entry.kind === 'input' && entry.afterHalt).length;
  expect(wakes).toBeGreaterThan(150);
  expect(bench.outputs.length - before.outputs).toBeLessThan(20);
  expect(bench.told.length - before.told).toBeLessThan(wakes / 3);
  bench.run(bench.now + 10);
  for (const time of bench.logTimes.slice(before.log, before.log + logged.length)) {
    const flushed = bench.handedOn.find((at) => at >= time)!;
    expect(flushed - time).toBeLessThanOrEqual(4.2);
  }
});

test('disk requests, which need not wait for an ack, keep no entry from being flushed in time', () => {
  const bench = new Bench(undefined);
  bench.loop.create();
  bench.loop.run();
  bench.run(100);
  const before = { log: bench.log.length, told: bench.told.length, outputs: bench.outputs.length };
  for (let wake = 0; wake < 200; wake++) {
    // The toy guest writes; its answers, frames, come only with a completion.
    bench.loop.input({ kind: 'frame', nic: 0, frame: Uint8Array.of(wake, wake & 3) });
    bench.run(bench.now + 1, 0.1);
  }
  const asked = bench.outputs.slice(before.outputs).filter(({ output }) => output.kind === 'disk-request');
  expect(asked.length).toBeGreaterThan(100);
  expect(bench.told.length - before.told).toBeGreaterThan(30);
  bench.run(bench.now + 10);
  for (const time of bench.logTimes.slice(before.log, before.log + 200)) {
    const flushed = bench.handedOn.find((at) => at >= time)!;
    expect(flushed - time).toBeLessThanOrEqual(4.2);
  }
});
