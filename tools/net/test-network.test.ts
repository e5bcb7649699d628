import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { TestHost } from './test-host.ts';
import { TestNetwork } from './test-network.ts';

const missing = TestNetwork.impossible();
const PORT = 4000;
const ECHO = `require('node:net').createServer((s) => s.pipe(s)).listen(${PORT}, () => console.log('listening'))`;

describe.skipIf(missing !== undefined)(`a test network${missing ? `: skipped, ${missing}` : ''}`, () => {
  let network: TestNetwork;
  let a: TestHost;
  let b: TestHost;

  beforeAll(async () => {
    network = await TestNetwork.create();
    a = await network.host('a');
    b = await network.host('b');
    const echo = start(b, ECHO);
    await once(echo.stdout!, 'data');
  });

  afterAll(() => network?.close());

  const toB = () => a.connect({ host: b.address, port: PORT });

  async function echoed(connection: Socket, text: string): Promise<string> {
    connection.write(text);
    const [bytes] = (await once(connection, 'data')) as [Buffer];
    return bytes.toString();
  }

  it('joins hosts that have addresses of their own', async () => {
    const connection = await toB();
    expect([connection.localAddress, connection.remoteAddress]).toEqual(['10.77.0.1', '10.77.0.2']);
    expect(await echoed(connection, 'hello')).toBe('hello');
    connection.destroy();
  });

  it.each(['silent', 'unplugged'] as const)('cuts a host off (%s), and mends it', async (how) => {
    const connection = await toB();
    expect(await echoed(connection, 'before')).toBe('before');
    await b.cut(how);
    const received: string[] = [];
    connection.on('data', (bytes) => received.push(bytes.toString()));
    connection.write('meanwhile');
    // Loopback and veth need microseconds; a repeat comes after 200 ms.
    await new Promise((resolve) => setTimeout(resolve, 500));
    expect(received).toEqual([]);
    const [{ operstate }] = JSON.parse(await b.namespace.ip('-j link show eth0')) as [{ operstate: string }];
    expect(operstate).toBe(how === 'silent' ? 'UP' : 'DOWN');
    await b.mend();
    while (received.join('') !== 'meanwhile') await once(connection, 'data');
    connection.destroy();
  });

  it('tells behind which host an address was seen last', async () => {
    (await toB()).destroy();
    for (const host of [a, b]) {
      const [{ address }] = JSON.parse(await host.namespace.ip('-j link show br0')) as [{ address: string }];
      expect((await network.whereIs(address))?.name).toBe(host.name);
    }
    expect(await network.whereIs('52:54:00:00:00:01')).toBeUndefined();
  });

  it('leaves no process and no namespace behind', async () => {
    const other = await TestNetwork.create();
    const { namespace } = await other.host('c');
    const ended = once(start(namespace, ECHO), 'close');
    expect(namespaces()).toContain(namespace.name);
    await other.close();
    expect((await ended)[1]).toBe('SIGKILL');
    expect(namespaces()).not.toContain(namespace.name);
  });

  it('removes what a killed run has left behind, and nothing else', async () => {
    const { pid } = spawnSync('true');
    execFileSync('ip', ['netns', 'add', `lockstep-${pid}-1-left`]);
    const other = await TestNetwork.create();
    const names = namespaces();
    await other.close();
    expect(names).not.toContain(`lockstep-${pid}-1-left`);
    for (const { namespace } of [a, b]) expect(names).toContain(namespace.name);
  });
});

function start(host: Pick<TestHost, 'command'>, script: string): ChildProcess {
  const [program = '', ...words] = host.command([process.execPath, '-e', script]);
  return spawn(program, words, { stdio: ['ignore', 'pipe', 'inherit'] });
}

function namespaces(): string {
  return execFileSync('ip', ['netns', 'list']).toString();
}
