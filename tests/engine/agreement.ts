import { expect } from 'vitest';
import { JIT_DEFAULTS } from '../../src/engine/jit/jit-options.ts';
import type { EngineOptions } from '../../src/machine/config.ts';
import { type GuestImage, GuestMachine } from './small-guest.ts';

/** Machines that must not be told apart. Made once: each keeps the caches of the guests before. */
const machines = new Map<string, GuestMachine>();

export function machineWith(options: EngineOptions): GuestMachine {
  const key = JSON.stringify(options);
  let machine = machines.get(key);
  if (machine === undefined) {
    machine = new GuestMachine(options);
    machines.set(key, machine);
  }
  return machine;
}

/** What runs twice is compiled. */
export const EAGER = { ...JIT_DEFAULTS, threshold: 2, batch: 1, patience: 0, regrow: 3 };

export interface Trace {
  /** The digest at each count from 0 on. */
  readonly digests: readonly string[];
  /** The guest got to the last count; otherwise it stopped for good before. */
  readonly reached: boolean;
}

/** Count by count. */
export function singleSteps(machine: GuestMachine, image: GuestImage, total: number): Trace {
  machine.load(image);
  const digests = [machine.digest()];
  for (let count = 1; count <= total; count++) {
    const arrived = machine.runTo(count);
    // A delivery may be the last that happens.
    if (arrived || machine.count === BigInt(count)) digests.push(machine.digest());
    if (!arrived) return { digests, reached: false };
  }
  return { digests, reached: true };
}

/**
 * The guest is the same guest in every engine, with every size of the translation cache, and however its run is
 * cut into pieces: runUntil(n) leaves at every n what single steps leave. Returns the machine that stepped, at the
 * end, for claims about the result.
 */
export function expectAgreement(image: GuestImage, total: number): GuestMachine {
  const stepped = machineWith({ tlbEntries: 1024 });
  const { digests, reached } = singleSteps(stepped, image, total);
  const last = digests.length - 1;
  const compare = (machine: GuestMachine, what: string): void => {
    const count = Number(machine.count);
    expect(machine.digest(), `${what} at count ${count}`).toBe(digests[count]);
  };
  const whole: [EngineOptions, number][] = [
    [{ engine: 'oracle' }, 5],
    [{ engine: 'oracle' }, total],
    [{ tlbEntries: 16 }, 7],
    [{ tlbEntries: 16 }, total],
    [{ tlbEntries: 8192 }, 64],
    [{ tlbEntries: 8192 }, total],
    [{ tlbEntries: 64, jit: EAGER }, total],
    [{ tlbEntries: 16, jit: EAGER }, 50],
  ];
  for (const [options, piece] of whole) {
    const machine = machineWith(options);
    machine.load(image);
    for (let count = Math.min(piece, total); ; count = Math.min(count + piece, total)) {
      const arrived = machine.runTo(count);
      compare(machine, `${JSON.stringify(options)} in pieces of ${piece}`);
      if (!arrived) expect([Number(machine.count), reached]).toEqual([last, false]);
      if (!arrived || count === total) break;
    }
  }
  const inOneGo = machineWith({ tlbEntries: 256 });
  const stride = Math.max(1, Math.floor(last / 150));
  for (let count = 1; count <= last; count += stride) {
    inOneGo.load(image);
    inOneGo.runTo(count);
    expect(inOneGo.count).toBe(BigInt(count));
    compare(inOneGo, 'in one go');
  }
  return stepped;
}
