import type { RedisReply } from '../../tools/pair/redis-connection.ts';
import { isLinearizable, type Model, type Operation } from './linearizability.ts';

export type RedisAction =
  | { readonly kind: 'get' }
  | { readonly kind: 'set'; readonly value: string }
  | { readonly kind: 'increment' }
  /** Appends to a list; the answer is the list's length. */
  | { readonly kind: 'push'; readonly value: string };

export interface RedisOperation extends Operation<RedisAction, RedisReply> {
  readonly client: number;
  readonly key: string;
}

export interface RedisJudgement {
  readonly unknownOutcomes: number;
  readonly acknowledgedWritesLost: number;
  /** Keys whose history no single redis could have given. */
  readonly notLinearizable: readonly string[];
}

/** One key of redis: a text, a number or a list, of which the length alone is told. */
export const REDIS_KEY: Model<RedisAction, RedisReply> = {
  initial: '',
  after(state, action, reply) {
    const fits = (expected: RedisReply) => reply === undefined || reply === expected;
    switch (action.kind) {
      case 'get':
        return fits(state === '' ? null : state) ? state : undefined;
      case 'set':
        return fits('OK') ? action.value : undefined;
      case 'increment':
      case 'push': {
        const next = Number(state) + 1;
        return fits(next) ? String(next) : undefined;
      }
    }
  },
};

export function commandOf(key: string, action: RedisAction): string[] {
  switch (action.kind) {
    case 'get':
      return ['GET', key];
    case 'set':
      return ['SET', key, action.value];
    case 'increment':
      return ['INCR', key];
    case 'push':
      return ['RPUSH', key, action.value];
  }
}

/** `lists`: what each list that was pushed to holds in the end. */
export function judge(
  history: readonly RedisOperation[],
  lists: ReadonlyMap<string, readonly string[]>,
): RedisJudgement {
  const keys = new Map<string, RedisOperation[]>();
  for (const operation of history) {
    const same = keys.get(operation.key);
    if (same) same.push(operation);
    else keys.set(operation.key, [operation]);
  }
  let acknowledgedWritesLost = 0;
  for (const { key, action, answer } of history) {
    if (action.kind !== 'push' || !answer) continue;
    // The answer named the place.
    if (lists.get(key)?.[Number(answer.reply) - 1] !== action.value) acknowledgedWritesLost += 1;
  }
  return {
    unknownOutcomes: history.filter(({ answer }) => answer === undefined).length,
    acknowledgedWritesLost,
    notLinearizable: [...keys].filter(([, all]) => !isLinearizable(all, REDIS_KEY)).map(([key]) => key),
  };
}
