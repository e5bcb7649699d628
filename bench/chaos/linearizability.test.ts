import fc from 'fast-check';
import { expect, test } from 'vitest';
import { isLinearizable, type Model, type Operation } from './linearizability.ts';
import { judge, REDIS_KEY, type RedisAction, type RedisOperation } from './redis-history.ts';

type Reply = number | undefined;
type Call = Operation<number | 'read', Reply>;

const REGISTER: Model<number | 'read', Reply> = {
  initial: '0',
  after: (state, action, reply) => {
    if (action !== 'read') return String(action);
    return reply === undefined || String(reply) === state ? state : undefined;
  },
};

function write(value: number, calledMs: number, ms?: number): Call {
  return { action: value, calledMs, answer: ms === undefined ? undefined : { reply: undefined, ms } };
}

function read(reply: number, calledMs: number, ms: number): Call {
  return { action: 'read', calledMs, answer: { reply, ms } };
}

test('what was answered before a call comes before it; what overlaps may come in either order', () => {
  expect(isLinearizable([write(1, 0, 1), read(1, 2, 3)], REGISTER)).toBe(true);
  expect(isLinearizable([write(1, 0, 1), read(0, 2, 3)], REGISTER)).toBe(false);
  expect(isLinearizable([write(1, 0, 5), read(0, 2, 3)], REGISTER)).toBe(true);
  expect(isLinearizable([write(1, 0, 5), read(1, 2, 3), read(0, 4, 6)], REGISTER)).toBe(false);
  expect(isLinearizable([write(1, 0, 1), write(2, 2, 3), read(1, 4, 5)], REGISTER)).toBe(false);
});

test('a call without an answer may have taken effect late or never, but not twice', () => {
  expect(isLinearizable([write(1, 0), read(0, 1, 2)], REGISTER)).toBe(true);
  expect(isLinearizable([write(1, 0), read(0, 1, 2), read(1, 3, 4)], REGISTER)).toBe(true);
  expect(isLinearizable([write(1, 0), read(1, 1, 2), read(0, 3, 4)], REGISTER)).toBe(false);
});

/** All orders that respect the answers, without any cleverness. */
function bruteForce(calls: readonly Call[], state = REGISTER.initial): boolean {
  if (calls.every(({ answer }) => answer === undefined)) return true;
  return calls.some((call, index) => {
    const others = calls.filter((_, other) => other !== index);
    if (others.some(({ answer }) => answer !== undefined && answer.ms < call.calledMs)) return false;
    const after = REGISTER.after(state, call.action, call.answer?.reply);
    return after !== undefined && bruteForce(others, after);
  });
}

test('the search agrees with trying every order', () => {
  const call = fc
    .record({
      value: fc.integer({ min: 0, max: 2 }),
      isRead: fc.boolean(),
      from: fc.integer({ min: 0, max: 12 }),
      length: fc.integer({ min: 1, max: 6 }),
      answered: fc.integer({ min: 0, max: 9 }),
    })
    .map(({ value, isRead, from, length, answered }) =>
      isRead
        ? read(value, from, from + length)
        : write(value, from, answered > 0 ? from + length : undefined),
    );
  let [yes, no] = [0, 0];
  fc.assert(
    fc.property(fc.array(call, { maxLength: 6 }), (calls) => {
      const expected = bruteForce(calls);
      if (expected) yes += 1;
      else no += 1;
      expect(isLinearizable(calls, REGISTER)).toBe(expected);
    }),
    { numRuns: 2000, seed: 1 },
  );
  expect(Math.min(yes, no)).toBeGreaterThan(200);
});

/** One redis, asked by several clients: answers overlap, the order is that of `at`. */
function sound(): RedisOperation[] {
  const history: RedisOperation[] = [];
  let state = REDIS_KEY.initial;
  for (let n = 1; n <= 1000; n++) {
    const action: RedisAction = { kind: 'push', value: `v${n}` };
    state = String(Number(state) + 1);
    history.push({
      client: n % 8,
      key: 'list',
      action,
      calledMs: n * 10 - 60,
      answer: { reply: n, ms: n * 10 + 15 },
    });
  }
  return history;
}

const whole = new Map([['list', sound().map(({ action }) => ('value' in action ? action.value : ''))]]);

test('a thousand sound operations of eight clients are found sound', () => {
  expect(judge(sound(), whole)).toEqual({
    unknownOutcomes: 0,
    acknowledgedWritesLost: 0,
    notLinearizable: [],
  });
});

test('a write that was acknowledged and is gone is counted, and so is one that got no answer', () => {
  const lists = new Map([['list', whole.get('list')!.slice(0, -2)]]);
  expect(judge(sound(), lists).acknowledgedWritesLost).toBe(2);
  const history = sound();
  history[7] = { ...history[7]!, answer: undefined };
  expect(judge(history, whole).unknownOutcomes).toBe(1);
});

test('an answer that goes back in time is found', () => {
  const history = sound();
  // What a survivor without the last acknowledged write would answer.
  history[500] = { ...history[500]!, answer: { reply: 480, ms: history[500]!.answer!.ms } };
  expect(judge(history, whole).notLinearizable).toEqual(['list']);
});
