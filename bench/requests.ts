import type { RedisConnection } from '../tools/pair/redis-connection.ts';

const ANSWER_MS_MAX = 30_000;

/** How long each of so many small requests took, one after the other over one connection. */
export async function requestLatencies(connection: RedisConnection, count: number): Promise<number[]> {
  const latencies: number[] = [];
  for (let n = 0; n < count; n++) {
    const since = performance.now();
    const [reply] = await answered(connection.call(['PING', String(n)]));
    latencies.push(performance.now() - since);
    if (reply !== String(n)) throw new Error(`redis answered ${String(reply)} to ping ${n}`);
  }
  return latencies;
}

function answered<Value>(answer: Promise<Value>): Promise<Value> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error('redis does not answer')), ANSWER_MS_MAX);
  });
  return Promise.race([answer, late]).finally(() => clearTimeout(timer));
}
