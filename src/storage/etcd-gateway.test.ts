import { createServer, type RequestListener, type Server } from 'node:http';
import { afterEach, expect, test } from 'vitest';
import { EtcdGateway } from './etcd-gateway.ts';

const closing: (() => void)[] = [];
afterEach(() => {
  for (const close of closing.splice(0)) close();
});

async function member(answer: RequestListener): Promise<string> {
  const server: Server = createServer(answer);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  closing.push(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as { port: number }).port}`;
}

test('a member that hangs is asked once, then another one', async () => {
  let hung = 0;
  const time = new AbortController();
  const hangs = await member(() => {
    hung++;
    // Not by a clock: on a busy host the time would run out before the member has been asked at all.
    time.abort(new DOMException('the time has run out: timeout', 'TimeoutError'));
  });
  const answers = await member((_, response) => response.end('{"ID":"7"}'));
  const gateway = new EtcdGateway([hangs, answers]);
  await expect(gateway.grantLease(10, time.signal)).rejects.toThrow(/timeout/);
  expect(await gateway.grantLease(10, AbortSignal.timeout(5000))).toBe('7');
  expect(await gateway.grantLease(10, AbortSignal.timeout(5000))).toBe('7');
  expect(hung).toBe(1);
});

test('a page that is too long is asked for in smaller ones', async () => {
  const asked: number[] = [];
  const encode = (text: string) => Buffer.from(text).toString('base64');
  const answers = await member((request, response) => {
    let body = '';
    request.on('data', (chunk) => (body += chunk));
    request.on('end', () => {
      const limit = Number((JSON.parse(body) as { limit: string }).limit);
      asked.push(limit);
      const kvs = [{ key: encode('a'), value: encode('1'), mod_revision: '3' }];
      const answer = JSON.stringify({ header: { revision: '5' }, kvs });
      // Whatever stands in it: it is not read to its end.
      response.end(limit > 500 ? Buffer.alloc(65 * 1024 * 1024, 32) : answer);
    });
  });
  const { entries, revision } = await new EtcdGateway([answers]).readAll('a', AbortSignal.timeout(30_000));
  expect(asked).toEqual([4000, 500]);
  expect(revision).toBe(5n);
  expect(entries).toEqual([{ key: 'a', text: '1', revision: 3n }]);
});
