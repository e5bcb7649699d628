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
  const hangs = await member(() => hung++);
  const answers = await member((_, response) => response.end('{"ID":"7"}'));
  const gateway = new EtcdGateway([hangs, answers]);
  await expect(gateway.grantLease(10, AbortSignal.timeout(200))).rejects.toThrow(/timeout/);
  expect(await gateway.grantLease(10, AbortSignal.timeout(5000))).toBe('7');
  expect(await gateway.grantLease(10, AbortSignal.timeout(5000))).toBe('7');
  expect(hung).toBe(1);
});
