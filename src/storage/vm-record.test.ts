import { describe, expect, test } from 'vitest';
import type { ArbiterRequest } from '../ft/arbiter.ts';
import { epoch, instanceId, nonce, vmId } from '../ft/identity.ts';
import { decide, NO_RECORD, type VmRecord } from './vm-record.ts';

const vm = vmId('vm');
const [a, b, c] = [instanceId('a'), instanceId('b'), instanceId('c')];

function claim(instance: typeof a, at: number, name = `claim-${instance}-${at}`): ArbiterRequest {
  return { kind: 'claim', vm, nonce: nonce(name), instance, lowest: epoch(at), highest: epoch(at) };
}

function through(record: VmRecord, ...requests: ArbiterRequest[]): { record: VmRecord; verdicts: string[] } {
  const verdicts: string[] = [];
  for (const request of requests) {
    const decision = decide(record, request, false);
    record = decision.record;
    verdicts.push(decision.answer.verdict);
  }
  return { record, verdicts };
}

const powerOn: ArbiterRequest = { kind: 'restart', vm, nonce: nonce('on'), instance: a, expected: epoch(0) };
const pairUp: ArbiterRequest = {
  kind: 'commit',
  vm,
  nonce: nonce('pair'),
  instance: a,
  expected: epoch(1),
  backup: b,
};
const { record: pair } = through(NO_RECORD, powerOn, pairUp);

describe('the record of a VM', () => {
  test('power-on and a commit make a pair at epoch 2', () => {
    expect(pair).toMatchObject({ epoch: 2, mode: 'pair', primary: 'a', backup: 'b' });
  });

  test('one winner: of two claims of one generation the first wins, the other is superseded', () => {
    expect(through(pair, claim(b, 2), claim(a, 2)).verdicts).toEqual(['won', 'superseded']);
    expect(through(pair, claim(a, 2), claim(b, 2)).verdicts).toEqual(['won', 'superseded']);
  });

  test('one winner: asking again with the same nonce gives the same verdict while the record stands', () => {
    expect(through(pair, claim(b, 2), claim(b, 2), claim(b, 2)).record.epoch).toBe(3);
    expect(through(pair, claim(b, 2), claim(a, 2), claim(b, 2)).verdicts).toEqual([
      'won',
      'superseded',
      'won',
    ]);
  });

  test('one winner: a verdict that the record has moved past is superseded', () => {
    const moved = through(pair, claim(b, 2), {
      kind: 'commit',
      vm,
      nonce: nonce('next'),
      instance: b,
      expected: epoch(3),
      backup: c,
    });
    expect(moved.record.epoch).toBe(4);
    expect(through(moved.record, claim(b, 2)).verdicts).toEqual(['superseded']);
  });

  test('one winner: membership is compared, not the epoch alone', () => {
    expect(through(pair, claim(c, 2)).verdicts).toEqual(['superseded']);
    const lone = through(pair, claim(a, 2)).record;
    expect(through(lone, claim(b, 3)).verdicts).toEqual(['superseded']);
  });

  test('a nonce taken from another instance wins nothing', () => {
    const won = through(pair, claim(b, 2, 'shared')).record;
    expect(through(won, claim(a, 2, 'shared')).verdicts).toEqual(['superseded']);
  });

  test('a claim over a range covers a commit whose answer is unknown', () => {
    const range: ArbiterRequest = {
      ...(claim(a, 1, 'r') as ArbiterRequest & { kind: 'claim' }),
      highest: epoch(2),
    };
    expect(through(pair, range).record).toMatchObject({ epoch: 3, mode: 'lone', primary: 'a' });
  });

  test('a commit is repeated safely and refused for anyone but the primary', () => {
    expect(through(pair, pairUp).verdicts).toEqual(['won']);
    expect(through(pair, { ...pairUp, expected: epoch(2), instance: b } as ArbiterRequest).verdicts).toEqual([
      'superseded',
    ]);
  });

  test('a restart needs an expired lease unless the VM is off', () => {
    const restart: ArbiterRequest = {
      kind: 'restart',
      vm,
      nonce: nonce('re'),
      instance: c,
      expected: epoch(2),
    };
    expect(decide(pair, restart, false).answer.verdict).toBe('superseded');
    expect(decide(pair, restart, true).record).toMatchObject({ epoch: 3, mode: 'lone', primary: 'c' });
  });
});
