import { createServer, type Server, type Socket } from 'node:net';
import { afterEach, describe, expect, test } from 'vitest';
import { RedisConnection } from '../pair/redis-connection.ts';
import { RedisLoad } from './redis-load.ts';

let server: Server | undefined;
const sockets = new Set<Socket>();
afterEach(async () => {
  for (const socket of sockets) socket.destroy();
  sockets.clear();
  await new Promise((resolve) => server?.close(resolve));
});

/** A redis of four commands; `answer` may change or withhold an answer. */
async function fakeRedis(
  answer: (command: string, count: number, honest: string) => string = (_, __, honest) => honest,
) {
  let counter = 0;
  const log: string[] = [];
  const execute = ([command = '', , value = '']: string[]): string => {
    switch (command) {
      case 'INCR':
        return answer(command, ++counter, `:${counter}\r\n`);
      case 'RPUSH': {
        const honest = `:${log.push(value)}\r\n`;
        return answer(command, log.length, honest);
      }
      case 'GET':
        return answer(command, counter, `$${String(counter).length}\r\n${counter}\r\n`);
      default:
        return answer(
          command,
          log.length,
          `*${log.length}\r\n${log.map((item) => `$${item.length}\r\n${item}\r\n`).join('')}`,
        );
    }
  };
  server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined);
    let words: string[] = [];
    let left = 0;
    let text = '';
    socket.on('data', (chunk) => {
      text += chunk.toString();
      let replies = '';
      for (let end = text.indexOf('\r\n'); end >= 0; end = text.indexOf('\r\n')) {
        const line = text.slice(0, end);
        text = text.slice(end + 2);
        if (line.startsWith('*')) [words, left] = [[], Number(line.slice(1))];
        else if (!line.startsWith('$')) words.push(line);
        if (words.length < left || left === 0) continue;
        left = 0;
        const reply = execute(words);
        if (reply === 'hang up') socket.destroy();
        else replies += reply;
      }
      // In two pieces: replies do not come in packets.
      socket.write(replies.slice(0, 1));
      setImmediate(() => socket.write(replies.slice(1)));
    });
  });
  await new Promise<void>((resolve) => server?.listen(0, '127.0.0.1', resolve));
  return { port: (server.address() as { port: number }).port, log };
}

async function loadUntil(port: number, acknowledged: number): Promise<RedisLoad> {
  const load = await RedisLoad.open(port);
  load.start();
  while (load.acknowledged < acknowledged && load.connectionEnded === undefined) {
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  await load.stop(1000);
  return load;
}

describe('the client of the demo', () => {
  test('an honest redis loses nothing and contradicts nothing', async () => {
    const { port } = await fakeRedis();
    const load = await loadUntil(port, 20);
    const findings = await load.verify(1000);
    expect(findings).toMatchObject({ acknowledgedWritesLost: 0, contradictions: 0 });
    expect(findings.acknowledged).toBeGreaterThanOrEqual(20);
  });

  test('a write that was acknowledged and is not there is counted', async () => {
    const redis = await fakeRedis();
    const load = await loadUntil(redis.port, 20);
    redis.log.splice(5, 3);
    expect((await load.verify(1000)).acknowledgedWritesLost).toBe(3);
  });

  test('an answer from an earlier state is a contradiction', async () => {
    const { port } = await fakeRedis((command, count, honest) =>
      command === 'INCR' && count === 7 ? ':5\r\n' : honest,
    );
    const load = await loadUntil(port, 10);
    expect((await load.verify(1000)).contradictions).toBe(1);
    expect(load.firstContradiction).toMatch(/operation 7 was answered 5/);
  });

  test('a write that took effect twice is a contradiction', async () => {
    const redis = await fakeRedis();
    const load = await loadUntil(redis.port, 10);
    redis.log.push('3');
    expect((await load.verify(1000)).contradictions).toBe(1);
  });

  test('a connection that ends is not made again, and everything acknowledged counts as lost', async () => {
    const { port } = await fakeRedis((command, count, honest) =>
      command === 'RPUSH' && count === 6 ? 'hang up' : honest,
    );
    const load = await loadUntil(port, 100);
    expect(load.connectionEnded).toBeDefined();
    expect(load.acknowledged).toBe(5);
    expect((await load.verify(1000)).acknowledgedWritesLost).toBe(5);
    expect(sockets.size).toBe(1);
  });

  test('rubbish ends the connection', async () => {
    const { port } = await fakeRedis(() => '?what\r\n');
    const connection = await RedisConnection.open(port);
    await expect(connection.call(['INCR', 'x'])).rejects.toThrow('rubbish');
  });
});
