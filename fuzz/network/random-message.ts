import type { Random } from '../../sim/random.ts';
import { guestNanoseconds, instructionCount } from '../../src/base/units.ts';
import { epoch, instanceId, vmId } from '../../src/ft/identity.ts';
import { type Message, PROTOCOL_VERSION } from '../../src/ft/message.ts';
import type { Program } from '../../src/ft/program.ts';
import type { Input } from '../../src/machine/door.ts';
import type { LogEntry } from '../../src/replay/log-entry.ts';

/** Messages that are well formed, of every kind, and mean whatever chance wills. */

export const PROGRAM: Program = { machine: 'm', build: 'b', logFormat: 2, snapshotFormat: 2 };
export const INTRODUCED = { version: PROTOCOL_VERSION, host: 'h', program: PROGRAM };
export const ENVELOPE = { vm: vmId('vm'), generation: epoch(2), sender: instanceId('p') };

export function randomBytes(random: Random, most: number): Uint8Array {
  return Uint8Array.from({ length: random.below(most + 1) }, () => random.below(256));
}

function hash(random: Random): string {
  return Buffer.from(Uint8Array.from({ length: 16 }, () => random.below(256))).toString('hex');
}

/** Mostly `near`, or not far from it; now and then anywhere. */
function number(random: Random, near: bigint): bigint {
  if (random.chance(0.7)) return near < 0n ? 0n : near;
  const small = BigInt(random.below(5)) - 2n + near;
  if (random.chance(0.95)) return small < 0n ? 0n : small;
  return BigInt.asUintN(64, (BigInt(random.word()) << 32n) | BigInt(random.word()));
}

function randomInput(random: Random): Input {
  switch (random.below(6)) {
    case 0: {
      const guestTime = guestNanoseconds(number(random, 10n ** 9n));
      return { kind: 'clock', guestTime, rate: number(random, 3n << 32n), cap: guestNanoseconds(guestTime) };
    }
    case 1:
      return { kind: 'frame', nic: random.below(256), frame: randomBytes(random, 60) };
    case 2:
      return {
        kind: 'disk-completed',
        disk: random.below(256),
        request: random.below(1000),
        status: random.pick(['ok', 'error']),
        data: randomBytes(random, 40),
      };
    case 3:
      return { kind: 'console', port: random.below(2), bytes: randomBytes(random, 20) };
    case 4:
      return { kind: 'entropy', seed: randomBytes(random, 32) };
    default:
      if (random.chance(0.2))
        return { kind: 'control', action: random.pick(['disconnect', 'connect']), nic: random.below(4) };
      return random.chance(0.3)
        ? { kind: 'control', action: 'limit', cpuPercent: 1 + random.below(100) }
        : {
            kind: 'control',
            action: random.pick(['power-button', 'power-off', 'reset', 'pause', 'resume', 'end-protection']),
          };
  }
}

export function randomEntry(random: Random, sequence: bigint, at: bigint): LogEntry {
  const place = { sequence: number(random, sequence), at: instructionCount(number(random, at)) };
  switch (random.below(9)) {
    case 8:
      return {
        ...place,
        kind: 'read-reference',
        disk: random.below(2),
        request: random.below(4),
        length: random.below(64),
        hash: hash(random),
      };
    case 0:
      return {
        ...place,
        kind: 'output-mark',
        output: number(random, sequence),
        outputKind: random.pick(['frame', 'disk-request', 'console', 'power']),
        hash: hash(random),
      };
    case 1:
      return { ...place, kind: 'released', output: number(random, sequence) };
    case 2:
      return { ...place, kind: 'digest', digest: hash(random) };
    case 3:
      return random.chance(0.1)
        ? { ...place, kind: 'end', reason: 'powered-off' }
        : { ...place, kind: 'digest', digest: hash(random) };
    default:
      return { ...place, kind: 'input', input: randomInput(random) };
  }
}

function randomProgram(random: Random): Program {
  if (random.chance(0.8)) return PROGRAM;
  return {
    machine: random.pick(['m', 'n']),
    build: random.pick(['b', 'c']),
    logFormat: random.pick([2, 3]),
    snapshotFormat: random.pick([2, 3]),
  };
}

export function randomMessage(random: Random, sequence: bigint): Message {
  const envelope = random.chance(0.8)
    ? ENVELOPE
    : { vm: vmId('other'), generation: epoch(random.below(4)), sender: instanceId(random.pick(['p', 'q'])) };
  const bound = { ...envelope, ...INTRODUCED, program: randomProgram(random) };
  const purpose = random.chance(0.8) ? 'pair' : 'move';
  switch (random.below(19)) {
    case 0:
      return { kind: 'hello', ...bound, fresh: random.chance(0.5), attempt: random.below(4), purpose };
    case 1:
      return {
        ...{ kind: 'welcome', ...bound, loaded: random.chance(0.5), received: number(random, sequence) },
        ...(random.chance(0.5) && {
          copy: { id: 'c', follows: { primary: instanceId('a'), generation: epoch(random.below(4)) } },
        }),
      };
    case 2:
      return {
        kind: 'snapshot-begin',
        bytes: random.below(64),
        count: instructionCount(number(random, 100n)),
        position: { outputs: number(random, 3n) },
        released: number(random, 3n),
        digest: hash(random),
        stoodUs: random.below(1000),
        faultTolerance: random.chance(0.5),
      };
    case 3:
      return { kind: 'snapshot-part', bytes: randomBytes(random, 64) };
    case 4:
      return { kind: 'snapshot-end' };
    case 5: {
      const output = { kind: 'console', port: 0, bytes: randomBytes(random, 20) } as const;
      const place = { number: number(random, 4n), at: instructionCount(number(random, 100n)) };
      return { kind: 'held-output', output: { ...place, hash: hash(random), output } };
    }
    case 6:
      return { kind: 'over', epoch: epoch(random.below(5)) };
    case 7:
      return { kind: 'diverged', reason: 'because' };
    case 8:
    case 9:
      return { kind: 'ack', received: number(random, sequence), replayed: number(random, sequence) };
    case 10:
      return { kind: 'pages', bytes: randomBytes(random, 64) };
    case 11:
      return { kind: 'staged', parts: random.below(5) };
    case 12:
      return { kind: 'take-over', faultTolerance: random.chance(0.5) };
    case 13:
      return {
        kind: 'other-version',
        greeting: random.pick(['hello', 'welcome']),
        ...envelope,
        version: random.pick([1, 3, PROTOCOL_VERSION + 1, 0xffff_ffff]),
        host: 'h',
        rest: randomBytes(random, 60),
      };
    default:
      return { kind: 'entry', entry: randomEntry(random, sequence, 100n + sequence * 3n) };
  }
}
