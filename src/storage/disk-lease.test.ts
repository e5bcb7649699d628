import { expect, test } from 'vitest';
import type { ArbiterAnswer, ArbiterRequest } from '../ft/arbiter.ts';
import { epoch, instanceId, nonce, vmId } from '../ft/identity.ts';
import { DiskLease, LeasedDisk } from './disk-lease.ts';

/** Fencing by the arbiter's lease alone (protocol 7b). */

const TIMES = { leaseMs: 10_000, driftMs: 500, lateMs: 5_000 };

class Clock {
  ms = 1_000_000;
  readonly lease = new DiskLease(TIMES, () => this.ms);
  answer: (answer: ArbiterAnswer) => void = () => {};
  readonly arbiter = this.lease.overhear({
    listen: ({ answered }) => {
      this.answer = answered;
    },
    request: () => {},
  });

  constructor() {
    this.arbiter.listen({ answered: () => {} });
  }

  ask(name: string): ArbiterRequest {
    const common = { vm: vmId('vm'), instance: instanceId('a'), nonce: nonce(name) };
    const request = { kind: 'renew', ...common, epoch: epoch(1) } as const;
    this.arbiter.request(request);
    return request;
  }

  answered(name: string, verdict: 'won' | 'superseded' = 'won'): void {
    this.answer({ nonce: nonce(name), verdict, epoch: epoch(1) });
  }
}

test('without an answer there is no lease; it counts from before the request, and ends earlier by the drift', () => {
  const clock = new Clock();
  clock.ask('a');
  expect(clock.lease.held()).toBe(false);
  clock.ms += 4_000;
  // Asked again with the same nonce: the first one may have been granted.
  clock.ask('a');
  clock.answered('a');
  clock.ms += 5_000;
  expect(clock.lease.held()).toBe(true);
  clock.ms += 499;
  expect(clock.lease.held()).toBe(false);
});

test('a renewal makes it longer, an answer that nobody asked for does not, and superseded ends it', async () => {
  const clock = new Clock();
  clock.answered('stray');
  expect(clock.lease.held()).toBe(false);
  clock.ask('a');
  clock.answered('a');
  clock.ms += 9_600;
  expect(clock.lease.held()).toBe(false);
  let renewed = false;
  const waits = clock.lease.renewed().then(() => (renewed = true));
  await Promise.resolve();
  expect(renewed).toBe(false);
  clock.ask('b');
  clock.answered('b');
  await waits;
  expect(clock.lease.held()).toBe(true);
  clock.ask('c');
  clock.answered('c', 'superseded');
  expect(clock.lease.held()).toBe(false);
});

test('a taker opens the disk T + d + m after its claim, and no sooner; who had it does not wait', async () => {
  const clock = new Clock();
  const opened: number[] = [];
  const said: string[] = [];
  const inner = {
    open: (at: number) => {
      opened.push(at);
      return Promise.resolve('ok' as const);
    },
    execute: () => Promise.reject(new Error('not asked')),
    close: () => {},
  };
  const taker = new LeasedDisk(inner, clock.lease, (line) => said.push(line));
  const verdict = taker.open(epoch(2), instanceId('b'));
  clock.ms += 15_500;
  await new Promise((resolve) => setTimeout(resolve, 120));
  expect(opened).toEqual([]);
  expect(said).toEqual([
    "the disk's server fences nobody: waiting 15.5 s until no write of another host can land",
  ]);
  clock.ms += 30;
  expect(await verdict).toBe('ok');
  expect(await taker.open(epoch(3), instanceId('b'))).toBe('ok');
  const first = new LeasedDisk(inner, clock.lease, (line) => said.push(line));
  expect(await first.open(epoch(1), instanceId('a'))).toBe('ok');
  expect(opened).toEqual([2, 3, 1]);
  expect(said).toHaveLength(1);
});
