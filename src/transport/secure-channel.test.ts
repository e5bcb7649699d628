import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type ConnectionOptions, connect as tlsConnect } from 'node:tls';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { INTRODUCED } from '../../tests/greetings.ts';
import { epoch, instanceId, vmId } from '../ft/identity.ts';
import type { Message } from '../ft/message.ts';
import { encodeMessage } from '../ft/message-codec.ts';
import { VmAuthority } from '../host/vm-authority.ts';
import type { ChannelCredentials } from './credentials.ts';
import { contextOptions, sessionProtocol } from './secure-session.ts';
import { Side } from './testing/side.ts';

/** Whoever has not a certificate of this VM, or comes from a generation that is over, gets nowhere [FT 2.3]. */

const vm = vmId('vm');
const generation = epoch(5);
const sender = instanceId('a');
const hello = (changed: object = {}): Message => ({
  kind: 'hello',
  vm,
  generation,
  sender,
  ...INTRODUCED,
  fresh: true,
  attempt: 1,
  purpose: 'pair',
  ...changed,
});
const welcome = (changed: object = {}): Message => ({
  kind: 'welcome',
  vm,
  generation,
  sender,
  ...INTRODUCED,
  loaded: false,
  received: 0n,
  ...changed,
});

let ours: ChannelCredentials;
let othersAuthority: ChannelCredentials;
/** Of the same authority, as one cluster may have for all. */
let othersName: ChannelCredentials;
let folder = '';
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lockstep-authority-'));
  const issue = async (name: string): Promise<ChannelCredentials> => {
    const authority = await VmAuthority.inFolder(name, folder);
    if (!authority.ok) throw new Error(authority.error);
    return authority.value.issue();
  };
  ours = await issue('vm');
  othersName = await issue('other');
  othersAuthority = await (await VmAuthority.create('vm')).issue();
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const sides: Side[] = [];
afterEach(() => {
  for (const side of sides.splice(0)) side.channel.shutDown();
});
function side(security: ChannelCredentials | 'none', name = vm): Side {
  const made = new Side({ vm: name, security });
  sides.push(made);
  return made;
}

async function greet(a: Side, b: Side, port: number, at = generation): Promise<void> {
  const links = a.links.length;
  const messages = b.messages.length;
  a.channel.connect(`127.0.0.1:${port}`, at);
  await a.until(() => a.links.length > links);
  a.channel.send(a.links.at(-1)!, hello({ generation: at }));
  a.channel.flush(a.links.at(-1)!);
  await b.until(() => b.messages.length > messages);
}

/** A TLS client that does as it likes, and what becomes of it. */
async function stranger(port: number, options: ConnectionOptions, says: Uint8Array): Promise<Buffer> {
  const socket = tlsConnect({
    ...contextOptions(ours),
    ALPNProtocols: [sessionProtocol(generation)],
    ...options,
    host: '127.0.0.1',
    port,
    checkServerIdentity: () => undefined,
  });
  const heard: Buffer[] = [];
  socket.on('data', (bytes: Buffer) => heard.push(bytes));
  socket.on('error', () => {});
  socket.on('secureConnect', () => socket.write(says));
  await new Promise((resolve) => socket.on('close', resolve));
  return Buffer.concat(heard);
}

test('two ends of one VM meet, in TLS 1.3, and both know the keys of their heartbeats', async () => {
  const [a, b] = [side(ours), side(ours)];
  await greet(a, b, await b.accept());
  expect(b.messages).toEqual([hello()]);
  expect([a.heartbeatKeys, b.heartbeatKeys]).toEqual([[generation], [generation]]);
});

test('who has no right certificate is turned away, and nothing of what it says is given out', async () => {
  const b = side(ours);
  const port = await b.accept();
  const wrong: [string, ConnectionOptions][] = [
    ['no certificate', { cert: undefined, key: undefined }],
    ['another authority', { ...contextOptions(othersAuthority), ca: ours.authority }],
    ["another VM's, of the same authority", contextOptions(othersName)],
    ['TLS 1.2', { minVersion: 'TLSv1.2', maxVersion: 'TLSv1.2' }],
    ['no generation', { ALPNProtocols: undefined } as unknown as ConnectionOptions],
    ['another protocol', { ALPNProtocols: ['h2', 'lockstep-log/2/x', 'lockstep-log/1/5'] }],
  ];
  for (const [what, options] of wrong) {
    const turnedAway = b.broken.length;
    const heard = await stranger(port, options, encodeMessage(hello()));
    await b.until(() => b.broken.length > turnedAway);
    expect([what, heard.length]).toEqual([what, 0]);
  }
  expect(b.messages).toEqual([]);
  expect(b.links).toEqual([]);
});

test('a primary tells nothing to a backup that has another certificate', async () => {
  for (const [credentials, why] of [
    [othersAuthority, /self-signed certificate|unable to verify|unable to get|signature/],
    [othersName, /certificate is of another VM/],
  ] as const) {
    const b = side(credentials, credentials === othersName ? vmId('other') : vm);
    const a = side(ours);
    const port = await b.accept();
    a.channel.connect(`127.0.0.1:${port}`, generation);
    await a.until(() => a.broken.length > 0);
    expect(a.broken[0]).toMatch(/^cannot connect to /);
    expect(a.broken[0]).toMatch(why);
    expect([a.links, b.messages]).toEqual([[], []]);
  }
});

test('a primary that speaks TLS tells nothing to one that does not, and the other way round', async () => {
  const [a, plain] = [side(ours), side('none')];
  a.channel.connect(`127.0.0.1:${await plain.accept()}`, generation);
  await a.until(() => a.broken.length > 0);
  expect([a.links, plain.messages]).toEqual([[], []]);

  const [b, old] = [side(ours), side('none')];
  old.channel.connect(`127.0.0.1:${await b.accept()}`, generation);
  await old.until(() => old.links.length > 0);
  old.channel.send(old.links[0]!, hello());
  await b.until(() => b.broken.length > 0);
  expect([b.links, b.messages]).toEqual([[], []]);
});

test('an older generation is refused in the handshake once a newer one was welcomed', async () => {
  const [a, b] = [side(ours), side(ours)];
  const port = await b.accept();
  await greet(a, b, port);
  b.channel.send(b.links[0]!, welcome());
  b.channel.flush(b.links[0]!);
  await a.until(() => a.messages.length > 0);
  a.channel.connect(`127.0.0.1:${port}`, epoch(4));
  await a.until(() => a.broken.length > 0);
  expect(a.broken[0]).toMatch(/no application protocol/);
  // The same one may come again after a break, and a newer one may.
  await greet(a, b, port);
  await greet(a, b, port, epoch(6));
  expect(b.messages).toEqual([hello(), hello(), hello({ generation: 6 })]);
});

test('a greeting says what the session says: neither another generation nor another VM', async () => {
  const b = side(ours);
  const port = await b.accept();
  for (const lie of [{ generation: epoch(6) }, { vm: vmId('other') }]) {
    const before = b.broken.length;
    await stranger(port, {}, encodeMessage(hello(lie)));
    await b.until(() => b.broken.length > before);
    expect(b.broken.at(-1)).toBe('bad frame: hello of another VM or generation than its session');
  }
  expect(b.messages).toEqual([]);
});

test('strangers in their handshake are counted: the seventeenth is turned away at once', async () => {
  const b = side(ours);
  const port = await b.accept();
  const { connect } = await import('node:net');
  const sockets = Array.from({ length: 16 }, () => connect(port, '127.0.0.1').on('error', () => {}));
  await Promise.all(sockets.map((socket) => new Promise((resolve) => socket.once('connect', resolve))));
  const last = connect(port, '127.0.0.1').on('error', () => {});
  await new Promise((resolve) => last.once('close', resolve));
  // They make room when they go.
  for (const socket of sockets) socket.destroy();
  await b.until(() => b.broken.length >= 16);
  await greet(side(ours), b, port);
});

test('strangers at other addresses do not keep a partner from coming back', async () => {
  const b = side(ours);
  const port = await b.accept();
  const first = side(ours);
  await greet(first, b, port);
  first.channel.shutDown();
  const { connect } = await import('node:net');
  const sockets = Array.from({ length: 16 }, () =>
    connect({ port, host: '127.0.0.1', localAddress: '127.0.0.2' }).on('error', () => {}),
  );
  await Promise.all(sockets.map((socket) => new Promise((resolve) => socket.once('connect', resolve))));
  await greet(side(ours), b, port);
  for (const socket of sockets) socket.destroy();
});
