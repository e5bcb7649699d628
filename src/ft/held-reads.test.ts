import { expect, test } from 'vitest';
import {
  ack,
  at,
  CoreUnderTest,
  count,
  loadedBackup,
  pairedPrimary,
  sent,
  side,
} from '../../tests/core-under-test.ts';
import { QUICK } from '../../tests/toy-world.ts';
import type { DiskRequestOutput, Output } from '../machine/door.ts';
import type { FtAction } from './action.ts';
import type { FtEvent } from './event.ts';
import { epoch } from './identity.ts';
import { Primary } from './primary.ts';

/** Disk reads are input: no ack is waited for, but what was to be written before them is [FT 2.2, 3.4]. */

const request = (
  number: number,
  operation: DiskRequestOutput['operation'],
  offset = 0,
): DiskRequestOutput => ({
  kind: 'disk-request',
  disk: 0,
  request: number,
  operation,
  offset,
  length: 512,
  data: new Uint8Array(operation === 'write' ? 512 : 0),
});
const RESET: Output = { kind: 'power', state: 'reset', value: 0 };
const made = (number: bigint, output: Output): FtEvent => ({
  kind: 'output',
  output: { number, at: count(number * 10n), output, hash: '0'.repeat(32) },
});
/** All that left for the disk, in order: outputs by number, reads and what is issued again by request. */
const left = (actions: readonly FtAction[]): string[] =>
  actions.flatMap((action) => {
    if (action.kind === 'hand-over') return [`output ${action.output.number}`];
    return action.kind === 'issue' || action.kind === 'issue-again' ? [`read ${action.request.request}`] : [];
  });

test('a read leaves at once, with its mark in the log, and no "released" follows', () => {
  const core = pairedPrimary();
  const actions = core.step(made(1n, request(1, 'read')));
  expect(left(actions)).toEqual(['read 1']);
  expect(sent(actions)).toMatchObject([{ entry: { sequence: 1n, kind: 'output-mark', output: 1n } }]);
  expect(sent(core.receive(ack(1n)))).toEqual([]);
});

test('a read waits for a write before it to the same place, and for no other one', () => {
  const core = pairedPrimary();
  core.step(made(1n, request(1, 'write')));
  core.step(made(2n, request(2, 'flush')));
  expect(left(core.step(made(3n, request(3, 'read', 256))))).toEqual([]);
  expect(left(core.step(made(4n, request(4, 'read', 512))))).toEqual(['read 4']);
  expect(left(core.receive(ack(1n)))).toEqual(['output 1', 'read 3']);
});

test('a write after a read to the same place leaves after it', () => {
  const core = pairedPrimary();
  core.step(made(1n, request(1, 'write')));
  core.step(made(2n, request(2, 'read')));
  core.step(made(3n, request(3, 'write')));
  expect(left(core.receive(ack(3n)))).toEqual(['output 1', 'read 2', 'output 3']);
});

test("no read leaves while the disks are not this side's", () => {
  const core = pairedPrimary();
  core.tickFor(QUICK.suspicionMs + 20);
  core.answer('won', 3);
  expect(left(core.step(made(1n, request(1, 'read'))))).toEqual([]);
  expect(left(core.step({ kind: 'disks-opened', epoch: epoch(3), verdict: 'ok' }))).toEqual(['read 1']);
});

/** What leaves first from a survivor whose guest has asked for these, of which nothing is known to have left. */
function leftBySurvivor(outputs: readonly Output[]): string[] {
  const core = loadedBackup();
  for (const [index, each] of outputs.entries()) core.step(made(BigInt(index + 1), each));
  core.tickFor(QUICK.suspicionMs + 20);
  // A guest that was reset knows only what it has asked since.
  const since = outputs.slice(outputs.indexOf(RESET) + 1);
  const pending = since.filter((output) => output.kind === 'disk-request');
  core.step({ kind: 'replayed-to-end', pending });
  core.answer('won', 3);
  const live = core.step({ kind: 'disks-opened', epoch: epoch(3), verdict: 'ok' });
  const goLive = live.find((action) => action.kind === 'go-live');
  if (goLive?.kind !== 'go-live') throw new Error('it did not go live');
  const survivor = new CoreUnderTest(
    new Primary(side('b'), { kind: 'takeover', takeover: goLive.takeover }, at(0)),
  );
  const first = survivor.done.find((action) => action.kind === 'hand-over');
  if (first?.kind === 'hand-over') survivor.step({ kind: 'handed-over', output: first.output.number });
  return left(survivor.done);
}

test('a survivor reads what had been asked before a write to the same place, then writes', () => {
  expect(leftBySurvivor([request(1, 'read'), request(2, 'write')])).toEqual(['read 1', 'output 2']);
});

test('a survivor writes first what a read had been asked for after', () => {
  const asked = [request(1, 'write'), request(2, 'read'), request(3, 'read', 512)];
  expect(leftBySurvivor(asked)).toEqual(['read 3', 'output 1', 'read 2']);
});

test('what a guest had to write before its reset comes before what it reads after it, on both sides', () => {
  const core = pairedPrimary();
  const asked = [request(1, 'write'), RESET, request(2, 'read')] as const;
  for (const [index, each] of asked.entries()) core.step(made(BigInt(index + 1), each));
  expect(left(core.receive(ack(3n)))).toEqual(['output 1', 'read 2', 'output 2']);
  expect(leftBySurvivor(asked).slice(0, 2)).toEqual(['output 1', 'read 2']);
});
