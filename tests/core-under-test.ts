import { expect } from 'vitest';
import { hostMilliseconds, instructionCount } from '../src/base/units.ts';
import type { FtAction } from '../src/ft/action.ts';
import type { ArbiterRequest } from '../src/ft/arbiter.ts';
import { Backup } from '../src/ft/backup.ts';
import { NO_COPY } from '../src/ft/copy-name.ts';
import { type DiskMode, SHARED_DISKS } from '../src/ft/disk-mode.ts';
import type { FtEvent } from '../src/ft/event.ts';
import { epoch, instanceId, vmId } from '../src/ft/identity.ts';
import { link } from '../src/ft/link.ts';
import type { Message } from '../src/ft/message.ts';
import { Primary } from '../src/ft/primary.ts';
import { DEFAULT_LIMITS, type Timing } from '../src/ft/timing.ts';
import type { DiskRequestOutput } from '../src/machine/door.ts';
import { INTRODUCED, PROGRAM } from './greetings.ts';
import { QUICK } from './toy-world.ts';

/** One half of the protocol by itself: events in, actions out, and the few steps that bring it into a state. */

export const vm = vmId('vm');
export const side = (name: string, disks = SHARED_DISKS) => ({
  vm,
  instance: instanceId(name),
  host: name,
  program: PROGRAM,
  disks,
  copy: NO_COPY,
  timing: QUICK,
  limits: DEFAULT_LIMITS,
});
export const at = hostMilliseconds;
export const L = link(1);
export const count = instructionCount;

export class CoreUnderTest {
  now = 0;
  readonly done: FtAction[] = [];
  readonly #core: Primary | Backup;

  constructor(core: Primary | Backup) {
    this.#core = core;
    this.done.push(...core.start(at(0)));
  }

  get state(): string {
    return this.#core.state;
  }

  /** The actions of this event; hand-overs return at once, as the driver's do. */
  step(event: FtEvent): readonly FtAction[] {
    const actions = [...this.#core.step(event, at(this.now))];
    for (const action of actions) {
      if (action.kind !== 'hand-over') continue;
      actions.push(...this.#core.step({ kind: 'handed-over', output: action.output.number }, at(this.now)));
    }
    this.done.push(...actions);
    return actions;
  }

  tickFor(milliseconds: number): readonly FtAction[] {
    const actions: FtAction[] = [];
    for (const end = this.now + milliseconds; this.now < end; ) {
      this.now += QUICK.heartbeatMs;
      actions.push(...this.step({ kind: 'tick' }));
    }
    return actions;
  }

  asked(): ArbiterRequest {
    const ask = this.done.findLast((action) => action.kind === 'ask');
    if (ask?.kind !== 'ask') throw new Error('nothing was asked');
    return ask.request;
  }

  answer(verdict: 'won' | 'superseded', reached: number): readonly FtAction[] {
    const { nonce } = this.asked();
    return this.step({ kind: 'answered', answer: { nonce, verdict, epoch: epoch(reached) } });
  }

  receive(...messages: Message[]): readonly FtAction[] {
    return this.step({ kind: 'received', link: L, messages });
  }
}

export const kinds = (actions: readonly FtAction[]): string[] => actions.map((action) => action.kind);
export const sent = (actions: readonly FtAction[]): Message[] =>
  actions.flatMap((action) => (action.kind === 'send' ? [action.message] : []));
export const frame = (number: bigint): FtEvent => ({
  kind: 'output',
  output: {
    number,
    at: count(number * 10n),
    output: { kind: 'frame', nic: 0, frame: Uint8Array.of(Number(number)) },
    hash: '0'.repeat(32),
  },
});
/** A frame of a mebibyte. */
export const bigFrame = (number: bigint): FtEvent => {
  const output = { kind: 'frame', nic: 0, frame: new Uint8Array(1024 * 1024) } as const;
  return { kind: 'output', output: { number, at: count(number * 10n), output, hash: '0'.repeat(32) } };
};
export const ack = (received: bigint, replayed = 0n): Message => ({ kind: 'ack', received, replayed });
export const released = (actions: readonly FtAction[]): bigint[] =>
  actions.flatMap((action) => (action.kind === 'hand-over' ? [action.output.number] : []));

/** A primary in PAIR, generation 2, nothing in its log. */
export function pairedPrimary(disks?: DiskMode): CoreUnderTest {
  const core = committing(disks);
  core.answer('won', 2);
  expect(core.state).toBe('PAIR');
  return core;
}

/** A primary that has asked to commit generation 2 and waits for the answer. */
export function committing(disks?: DiskMode): CoreUnderTest {
  const start = { kind: 'power-on', expected: epoch(0), waitForBackup: true } as const;
  const core = new CoreUnderTest(new Primary(side('a', disks), start, at(0)));
  core.answer('won', 1);
  core.step({ kind: 'disks-opened', epoch: epoch(1), verdict: 'ok' });
  core.step({ kind: 'protect', address: 'b' });
  core.step({ kind: 'connected', link: L, address: 'b' });
  const envelope = { vm, generation: epoch(2), sender: instanceId('b') };
  core.receive({ kind: 'welcome', ...envelope, ...INTRODUCED, loaded: false, received: 0n });
  const machine = new Uint8Array(3);
  const snapshot = { machine, count: count(0n), position: { outputs: 0n }, digest: 'd' };
  core.step({ kind: 'snapshot', snapshot, copy: 1, stoodUs: 0 });
  core.receive(ack(0n));
  expect(core.state).toBe('COMMIT');
  return core;
}

/** A backup in BACK, generation 2, with `released` outputs known to have left. */
export function loadedBackup(
  timing: Partial<Timing> = {},
  disks?: DiskMode,
  pending: readonly DiskRequestOutput[] = [],
): CoreUnderTest {
  const own = { ...side('b', disks), timing: { ...QUICK, ...timing } };
  const core = new CoreUnderTest(new Backup(own, at(0)));
  copyTo(core, 1, undefined, pending);
  expect(core.state).toBe('BACK');
  return core;
}

/** The primary `a` copies itself to a backup, as generation 2; what the backup says to that. */
export function copyTo(
  backup: CoreUnderTest,
  attempt: number,
  loadedDigest = 'd'.repeat(32),
  pending: readonly DiskRequestOutput[] = [],
): Message[] {
  return [...greet(backup, attempt), ...finishCopy(backup, loadedDigest, pending)];
}

/** By default of `a`, for generation 2. */
export function greet(
  backup: CoreUnderTest,
  attempt: number,
  { generation = 2, sender = 'a' } = {},
): Message[] {
  const greeted = backup.receive({
    kind: 'hello',
    vm,
    generation: epoch(generation),
    sender: instanceId(sender),
    ...INTRODUCED,
    fresh: true,
    attempt,
    purpose: 'pair',
  });
  return sent(greeted);
}

export function finishCopy(
  backup: CoreUnderTest,
  loadedDigest = 'd'.repeat(32),
  pending: readonly DiskRequestOutput[] = [],
): Message[] {
  const digest = 'd'.repeat(32);
  const position = { outputs: 0n };
  const loaded = backup.receive(
    {
      kind: 'snapshot-begin',
      bytes: 1,
      count: count(0n),
      position,
      released: 0n,
      digest,
      stoodUs: 0,
      faultTolerance: true,
    },
    { kind: 'snapshot-part', bytes: Uint8Array.of(1) },
    { kind: 'snapshot-end' },
  );
  return sent([...loaded, ...backup.step({ kind: 'loaded', digest: loadedDigest, pending })]);
}

export const logged = (sequence: bigint): Message => ({
  kind: 'entry',
  entry: {
    sequence,
    at: count(sequence * 10n),
    kind: 'input',
    input: { kind: 'console', port: 0, bytes: Uint8Array.of(1) },
  },
});

/** An entry of a mebibyte. */
export const bigLogged = (sequence: bigint): Message => ({
  kind: 'entry',
  entry: {
    sequence,
    at: count(sequence),
    kind: 'input',
    input: { kind: 'frame', nic: 0, frame: new Uint8Array(1024 * 1024) },
  },
});
