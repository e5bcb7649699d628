import { connect, createServer, type Socket } from 'node:net';
import { afterEach, expect, test } from 'vitest';
import { INTRODUCED } from '../../tests/greetings.ts';
import { instructionCount } from '../base/units.ts';
import { epoch, instanceId, vmId } from '../ft/identity.ts';
import type { Link } from '../ft/link.ts';
import type { Heartbeat, Message } from '../ft/message.ts';
import { encodeMessage } from '../ft/message-codec.ts';
import { VmAuthority } from '../host/vm-authority.ts';
import { parseHostPort } from './address.ts';
import type { TcpChannelOptions } from './tcp-channel.ts';
import { Side } from './testing/side.ts';
import { UdpHeartbeats } from './udp-heartbeats.ts';

const envelope = { vm: vmId('vm'), generation: epoch(2), sender: instanceId('a') };
const hello: Message = {
  kind: 'hello',
  ...envelope,
  ...INTRODUCED,
  fresh: true,
  attempt: 1,
  purpose: 'pair',
};
const welcome: Message = {
  kind: 'welcome',
  ...envelope,
  ...INTRODUCED,
  loaded: false,
  received: 0n,
};
const entry = (sequence: bigint, size = 10): Message => ({
  kind: 'entry',
  entry: {
    sequence,
    at: instructionCount(sequence),
    kind: 'input',
    input: { kind: 'frame', nic: 0, frame: new Uint8Array(size).fill(Number(sequence & 255n)) },
  },
});

const sides: Side[] = [];
const sockets: Socket[] = [];
function side(options: Partial<TcpChannelOptions> = {}): Side {
  const made = new Side({ vm: envelope.vm, security: 'none', ...options });
  sides.push(made);
  return made;
}
afterEach(() => {
  for (const made of sides.splice(0)) made.channel.shutDown();
  for (const socket of sockets.splice(0)) socket.destroy();
});

/** How the two ends may be: what must hold does not depend on it. */
const kinds: { [name: string]: () => Promise<[Partial<TcpChannelOptions>, Partial<TcpChannelOptions>]> } = {
  plain: async () => [{}, {}],
  'in TLS': async () => {
    const authority = await VmAuthority.create(envelope.vm);
    return [{ security: await authority.issue() }, { security: await authority.issue() }];
  },
  compressed: async () => [{ compresses: true }, {}],
};

async function pair(kind = 'plain'): Promise<{ a: Side; b: Side; toB: Link }> {
  const [ofA, ofB] = await kinds[kind]!();
  const a = side(ofA);
  const b = side(ofB);
  const port = await b.accept();
  a.channel.connect(`127.0.0.1:${port}`, envelope.generation);
  await a.until(() => a.links.length > 0);
  const toB = a.links[0]!;
  a.channel.send(toB, hello);
  a.channel.flush(toB);
  await b.until(() => b.messages.length > 0);
  b.channel.send(b.links[0]!, welcome);
  b.channel.flush(b.links[0]!);
  await a.until(() => a.messages.length > 0);
  return { a, b, toB };
}

test.each(Object.keys(kinds))(
  '%s: messages cross in order, with a snapshot of many parts between two of them',
  async (kind) => {
    const { a, b, toB } = await pair(kind);
    const snapshot = Uint8Array.from({ length: 3_000_001 }, (_, index) => index * 31);
    a.channel.send(toB, entry(1n));
    a.channel.sendSnapshot(toB, snapshot);
    a.channel.send(toB, { kind: 'snapshot-end' });
    a.channel.send(toB, entry(2n));
    a.channel.flush(toB);
    await b.until(() => b.messages.length > 3 && b.messages.at(-1)?.kind === 'entry');
    const parts = b.messages.filter((message) => message.kind === 'snapshot-part');
    expect(Buffer.compare(Buffer.concat(parts.map((part) => part.bytes)), snapshot)).toBe(0);
    expect(b.messages.map((message) => message.kind).filter((kind) => kind !== 'snapshot-part')).toEqual([
      'hello',
      'entry',
      'snapshot-end',
      'entry',
    ]);
  },
);

test.each(Object.keys(kinds))('%s: an unflushed message leaves by itself', async (kind) => {
  const { a, b, toB } = await pair(kind);
  a.channel.send(toB, entry(1n));
  await b.until(() => b.messages.length === 2);
  expect(b.messages[1]).toEqual(entry(1n));
});

test('rubbish is refused before anything of it is given out', async () => {
  const b = side();
  const port = await b.accept();
  for (const rubbish of [
    Buffer.from('GET / HTTP/1.1\r\nHost: x\r\n\r\n'),
    Buffer.alloc(4096, 0xff),
    Buffer.from(encodeMessage(entry(1n))),
    Buffer.concat([encodeMessage(hello).subarray(0, 20), Buffer.alloc(100)]),
  ]) {
    const before = b.broken.length;
    const socket = connect(port, '127.0.0.1');
    sockets.push(socket);
    socket.on('error', () => {});
    socket.write(rubbish);
    await b.until(() => b.broken.length > before);
    expect(b.broken.at(-1)).toMatch(/^bad frame: /);
  }
  expect(b.messages).toEqual([]);
});

test('a damaged frame breaks a greeted connection, and nothing of its chunk is applied', async () => {
  const b = side();
  const port = await b.accept();
  const socket = connect(port, '127.0.0.1');
  sockets.push(socket);
  socket.on('error', () => {});
  socket.write(encodeMessage(hello));
  await b.until(() => b.messages.length === 1);
  const damaged = Buffer.from(encodeMessage(entry(2n)));
  damaged[20]! ^= 1;
  socket.write(Buffer.concat([encodeMessage(entry(1n)), damaged, encodeMessage(entry(3n))]));
  await b.until(() => b.broken.length > 0);
  expect(b.broken).toEqual(['bad frame: frame 3 is damaged (checksum)']);
  expect(b.messages).toHaveLength(1);
});

test.each(Object.keys(kinds))(
  '%s: a side that stops reading gets everything, once, when it reads again',
  async (kind) => {
    const { a, b, toB } = await pair(kind);
    const from = b.links[0]!;
    b.channel.pauseReading(from);
    for (let sequence = 1n; sequence <= 200n; sequence++) a.channel.send(toB, entry(sequence, 50_000));
    a.channel.flush(toB);
    await new Promise((resolve) => setTimeout(resolve, 20));
    const whilePaused = b.messages.length;
    b.channel.resumeReading(from);
    await b.until(() => b.messages.length === 201);
    expect(whilePaused).toBeLessThan(201);
    expect(
      b.messages.slice(1).map((message) => (message.kind === 'entry' ? message.entry.sequence : 0n)),
    ).toEqual(Array.from({ length: 200 }, (_, index) => BigInt(index + 1)));
  },
);

test.each(Object.keys(kinds))(
  '%s: closing sends what was given before it; the other side sees a break',
  async (kind) => {
    const { a, b, toB } = await pair(kind);
    a.channel.send(toB, entry(1n));
    a.channel.close(toB);
    await b.until(() => b.broken.length > 0);
    expect(b.messages.map((message) => message.kind)).toEqual(['hello', 'entry']);
    expect(a.broken).toEqual([]);
  },
);

test('nobody at the address and a port in use are one line each', async () => {
  const a = side();
  const taken = createServer();
  const port = await new Promise<number>((resolve) => {
    taken.listen(0, '127.0.0.1', () => resolve((taken.address() as { port: number }).port));
  });
  const refused = await new Promise<string>((resolve) => {
    a.channel.accept({ host: '127.0.0.1', port }, () => resolve('listening'), resolve);
  });
  expect(refused).toMatch(/^cannot listen on 127.0.0.1:\d+: .*EADDRINUSE/);
  await new Promise((resolve) => taken.close(resolve));
  a.channel.connect(`127.0.0.1:${port}`, envelope.generation);
  await a.until(() => a.broken.length > 0);
  expect(a.broken[0]).toMatch(/^cannot connect to 127.0.0.1:\d+: .*ECONNREFUSED/);
});

test('heartbeats reach the other side, and are answered where they came from', async () => {
  const a = new UdpHeartbeats(vmId('vm'), 'none');
  const b = new UdpHeartbeats(vmId('vm'), 'none');
  const heartbeat: Heartbeat = { ...envelope, received: 7n, replayed: 3n };
  const port = await new Promise<number>((resolve, reject) =>
    b.bind({ host: '127.0.0.1', port: 0 }, resolve, reject),
  );
  await new Promise((resolve, reject) => a.bind({ host: '127.0.0.1', port: 0 }, resolve, reject));
  const answered = new Promise<Heartbeat>((resolve) => {
    a.listen({ heartbeat: resolve });
    b.listen({ heartbeat: (received) => b.send({ ...received, sender: instanceId('b') }, undefined) });
  });
  a.send(heartbeat, `127.0.0.1:${port}`);
  expect(await answered).toEqual({ ...heartbeat, sender: 'b' });
  a.close();
  b.close();
});

test('a stranger with a heartbeat does not turn away the one who was told its partner', async () => {
  const [a, b, stranger] = [vmId('vm'), vmId('vm'), vmId('vm')].map((vm) => new UdpHeartbeats(vm, 'none'));
  if (!a || !b || !stranger) throw new Error('three ends');
  const heartbeat: Heartbeat = { ...envelope, received: 7n, replayed: 3n };
  const bind = (end: UdpHeartbeats): Promise<number> =>
    new Promise((resolve, reject) => end.bind({ host: '127.0.0.1', port: 0 }, resolve, reject));
  const [primary, backup] = [await bind(a), await bind(b)];
  await bind(stranger);
  const deceived = new Promise<void>((resolve) => a.listen({ heartbeat: () => resolve() }));
  stranger.send(heartbeat, `127.0.0.1:${primary}`);
  await deceived;
  const reached = new Promise<Heartbeat>((resolve) => b.listen({ heartbeat: resolve }));
  a.send(heartbeat, `127.0.0.1:${backup}`);
  expect(await reached).toEqual(heartbeat);
  for (const end of [a, b, stranger]) end.close();
});

test('addresses are checked', () => {
  expect(parseHostPort('127.0.0.1:70')).toEqual({ ok: true, value: { host: '127.0.0.1', port: 70 } });
  expect(parseHostPort('[::1]:70')).toEqual({ ok: true, value: { host: '::1', port: 70 } });
  for (const bad of ['', 'host', 'host:', ':80', 'host:99999', 'a:b:c'])
    expect(parseHostPort(bad).ok).toBe(false);
});
