import { hostMilliseconds, instructionCount } from '../../src/base/units.ts';
import type { FtAction } from '../../src/ft/action.ts';
import { Backup } from '../../src/ft/backup.ts';
import { NO_COPY } from '../../src/ft/copy-name.ts';
import { SHARED_DISKS } from '../../src/ft/disk-mode.ts';
import type { FtEvent } from '../../src/ft/event.ts';
import { epoch, instanceId, nonce } from '../../src/ft/identity.ts';
import { link } from '../../src/ft/link.ts';
import type { Message } from '../../src/ft/message.ts';
import { Primary } from '../../src/ft/primary.ts';
import type { Purpose } from '../../src/ft/program.ts';
import { DEFAULT_TIMING } from '../../src/ft/timing.ts';
import { ENVELOPE, INTRODUCED, PROGRAM, randomMessage } from './random-message.ts';
import { holds, type Target } from './target.ts';

/** Messages that are well formed and mean anything, to both halves of the protocol. */

const LIMITS = { streamBytes: 4096, holdBytes: 4096, backupBytes: 4096 };
/** A message of these is no longer. */
const MESSAGE_BYTES_MAX = 256;
const { vm, generation } = ENVELOPE;
const HASH = '0'.repeat(32);
const at = hostMilliseconds;
const side = (name: string, backupReads = false) => ({
  vm,
  instance: instanceId(name),
  host: name,
  program: PROGRAM,
  timing: DEFAULT_TIMING,
  disks: { ...SHARED_DISKS, backupReads },
  copy: NO_COPY,
  limits: LIMITS,
});

/** As the channel does: after a close or a break, nothing of a link is heard any more. */
class Fed {
  link = link(1);
  closed = false;
  #links = 1;
  readonly #core: Primary | Backup;

  constructor(core: Primary | Backup) {
    this.#core = core;
  }

  newLink(): void {
    this.#links += 1;
    this.link = link(this.#links);
    this.closed = false;
  }

  step(event: FtEvent): readonly FtAction[] {
    const actions = [...this.#core.step(event, at(0))];
    for (const action of actions) {
      if (action.kind === 'hand-over')
        actions.push(...this.#core.step({ kind: 'handed-over', output: action.output.number }, at(0)));
      if (action.kind === 'close' && action.link === this.link) this.closed = true;
    }
    return actions;
  }

  receive(...messages: Message[]): readonly FtAction[] {
    return this.step({ kind: 'received', link: this.link, messages });
  }
}

const hello = (changed: object = {}): Message => ({
  kind: 'hello',
  ...ENVELOPE,
  ...INTRODUCED,
  fresh: true,
  attempt: 1,
  purpose: 'pair',
  ...changed,
});

/**
 * A backup gives its vCPU the entries 1, 2, 3, ... of what it loaded, each once; it acks no more than that, holds no
 * more than its limit and one chunk, and goes live for nothing that a message says.
 */
export const backupCore: Target = {
  name: "the backup's protocol core",
  share: 0.1,
  run: (random) => {
    // Who reads itself acks what it cannot replay yet, for want of what was read.
    const reads = random.chance(0.3);
    const core = new Backup(side('b', reads), at(0));
    core.start(at(0));
    const fed = new Fed(core);
    let last = 0n;
    let replayed = 0n;
    let taken = false;
    const purpose = random.chance(0.2) ? 'move' : 'pair';
    let moved = false;
    const check = (actions: readonly FtAction[]): void => {
      for (const action of actions) {
        if (action.kind === 'state' && action.state === 'LOAD') moved = /moves here/.test(action.detail);
        if (action.kind === 'vcpu-load') taken ||= moved;
        holds(action.kind !== 'go-live' && action.kind !== 'open-disks', 'a message made a backup live');
        // A new copy begins. Whoever is turned away gets a welcome too, and changes nothing.
        if (action.kind === 'vcpu-forget-staged') last = 0n;
        if (action.kind === 'send' && action.message.kind === 'ack')
          holds(
            action.message.received === last || (reads && action.message.received > last),
            `position ${action.message.received} was acked after ${last}`,
          );
        if (action.kind !== 'vcpu-replay') continue;
        taken = true;
        for (const entry of action.entries) {
          holds(!moved, `entry ${entry.sequence} was replayed in a guest that was moved`);
          holds(entry.sequence === last + 1n, `entry ${entry.sequence} was replayed after ${last}`);
          last = entry.sequence;
        }
      }
      const { bufferedBytes } = core.figures();
      holds(bufferedBytes <= LIMITS.backupBytes + 8 * MESSAGE_BYTES_MAX, `${bufferedBytes} bytes are held`);
    };
    if (random.chance(0.9)) load(fed, purpose, check);
    for (let steps = 1 + random.below(8); steps > 0; steps--) {
      if (fed.closed || random.chance(0.1)) {
        fed.newLink();
        if (random.chance(0.9)) check(fed.receive(hello({ fresh: random.chance(0.3), purpose })));
      }
      const chunk = Array.from({ length: 1 + random.below(4) }, (_, index) =>
        randomMessage(random, last + 1n + BigInt(index)),
      );
      // Beyond its limit it does not read.
      if (core.figures().bufferedBytes < LIMITS.backupBytes) check(fed.receive(...chunk));
      if (random.chance(0.3) && last > replayed) {
        replayed = last;
        check(fed.step({ kind: 'replayed', sequence: replayed }));
      }
      if (random.chance(0.1)) check(fed.step({ kind: 'broken', link: fed.link, reason: 'reset' }));
    }
    return taken;
  },
};

function load(fed: Fed, purpose: Purpose, check: (actions: readonly FtAction[]) => void): void {
  check(fed.receive(hello({ purpose })));
  const begin = {
    bytes: 0,
    count: instructionCount(0n),
    position: { outputs: 0n },
    released: 0n,
    stoodUs: 0,
  };
  check(
    fed.receive(
      { kind: 'snapshot-begin', ...begin, digest: HASH, faultTolerance: true },
      { kind: 'snapshot-end' },
    ),
  );
  check(fed.step({ kind: 'loaded', digest: HASH, pending: [] }));
}

/** A primary hands an output over only when its backup, as far as it can know, has the entry of its mark. */
export const primaryCore: Target = {
  name: "the primary's protocol core",
  share: 0.1,
  run: (random) => {
    const { core, fed } = pair();
    /** Position of each output's mark, and how far the backup says that it has everything. */
    const marks = new Map<bigint, bigint>();
    let end = 0n;
    let acked = 0n;
    let released = false;
    const check = (actions: readonly FtAction[]): void => {
      for (const action of actions) {
        if (action.kind === 'send' && action.message.kind === 'entry') {
          const { entry } = action.message;
          end = entry.sequence > end ? entry.sequence : end;
          if (entry.kind === 'output-mark') marks.set(entry.output, entry.sequence);
        }
        if (action.kind !== 'hand-over') continue;
        released = true;
        const mark = marks.get(action.output.number) ?? end + 1n;
        holds(
          mark <= acked,
          `output ${action.output.number} left with an ack of ${acked}, its mark is ${mark}`,
        );
      }
    };
    let outputs = 0n;
    for (let steps = 2 + random.below(10); steps > 0 && core.state === 'PAIR'; steps--) {
      if (random.chance(0.5)) {
        outputs += 1n;
        check(fed.step(frameOutput(outputs)));
        continue;
      }
      if (fed.closed) {
        fed.newLink();
        check(fed.step({ kind: 'connected', link: fed.link, address: 'b' }));
      }
      const message = randomMessage(random, end);
      if (message.kind === 'welcome') Object.assign(message, { sender: instanceId('b') });
      if (message.kind === 'ack' || message.kind === 'welcome')
        if (message.received <= end && message.received > acked) acked = message.received;
      check(fed.receive(message));
    }
    return released;
  },
};

function frameOutput(number: bigint): FtEvent {
  const output = { kind: 'frame', nic: 0, frame: new Uint8Array(4) } as const;
  return { kind: 'output', output: { number, at: instructionCount(number), output, hash: HASH } };
}

function pair(): { core: Primary; fed: Fed } {
  const start = { kind: 'power-on', expected: epoch(0), waitForBackup: true } as const;
  const core = new Primary(side('a'), start, at(0));
  const fed = new Fed(core);
  let asked = nonce('');
  const note = (actions: readonly FtAction[]): void => {
    for (const action of actions) if (action.kind === 'ask') asked = action.request.nonce;
  };
  note(core.start(at(0)));
  note(fed.step({ kind: 'answered', answer: { nonce: asked, verdict: 'won', epoch: epoch(1) } }));
  note(fed.step({ kind: 'disks-opened', epoch: epoch(1), verdict: 'ok' }));
  note(fed.step({ kind: 'protect', address: 'b' }));
  note(fed.step({ kind: 'connected', link: fed.link, address: 'b' }));
  const welcome = { vm, generation, sender: instanceId('b'), ...INTRODUCED };
  note(fed.receive({ kind: 'welcome', ...welcome, loaded: false, received: 0n, copy: NO_COPY }));
  const machine = new Uint8Array(3);
  const snapshot = { machine, count: instructionCount(0n), position: { outputs: 0n }, digest: HASH };
  note(fed.step({ kind: 'snapshot', snapshot, copy: 1, stoodUs: 0 }));
  note(fed.receive({ kind: 'ack', received: 0n, replayed: 0n }));
  note(fed.step({ kind: 'answered', answer: { nonce: asked, verdict: 'won', epoch: epoch(2) } }));
  holds(core.state === 'PAIR', `the pair did not form: ${core.state}`);
  return { core, fed };
}
