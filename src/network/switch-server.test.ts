import { connect, type Socket } from 'node:net';
import { afterEach, describe, expect, test } from 'vitest';
import { plainFrame, tcpFrame, textOf } from '../../tests/data/test-frames.ts';
import { wireFrames } from '../base/packet/segmentation.ts';
import { epoch, vmId } from '../ft/identity.ts';
import { encodeFrame, FrameDecoder } from './frame-stream.ts';
import { SwitchNetworkPort } from './switch-port.ts';
import { SwitchServer } from './switch-server.ts';

const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

async function start(port = 0): Promise<SwitchServer> {
  const server = await SwitchServer.start({ port });
  if (!server.ok) throw new Error(server.error);
  closing.push(() => server.value.close());
  return server.value;
}

const GREETING = 'hello';

/** Frames in the order of arrival, without greetings; `next` waits for one. */
class Inbox {
  greeted = false;
  readonly #frames: Uint8Array[] = [];
  #waiting: ((frame: Uint8Array) => void) | undefined;

  push(frame: Uint8Array): void {
    if (textOf(frame) === GREETING) {
      this.greeted = true;
      return;
    }
    const waiting = this.#waiting;
    this.#waiting = undefined;
    if (waiting === undefined) this.#frames.push(frame);
    else waiting(frame);
  }

  next(): Promise<Uint8Array> {
    const frame = this.#frames.shift();
    return frame === undefined ? new Promise((resolve) => (this.#waiting = resolve)) : Promise.resolve(frame);
  }
}

function host(server: SwitchServer): { port: SwitchNetworkPort; inbox: Inbox } {
  const port = new SwitchNetworkPort({ vm: vmId('vm'), nics: 1, host: '127.0.0.1', port: server.port });
  const inbox = new Inbox();
  port.listen({ frame: (_, { frame }) => inbox.push(frame) });
  closing.push(() => port.close());
  return { port, inbox };
}

/** A peer in QEMU's own framing. */
function peer(server: SwitchServer): { socket: Socket; inbox: Inbox; send(frame: Buffer): void } {
  const socket = connect(server.port, '127.0.0.1');
  const decoder = new FrameDecoder();
  const inbox = new Inbox();
  socket.on('data', (bytes) => {
    for (const frame of decoder.push(bytes) ?? []) inbox.push(Buffer.from(frame));
  });
  closing.push(() => socket.destroy());
  return { socket, inbox, send: (frame) => socket.write(encodeFrame(frame)) };
}

/** Greets everyone until all of these have heard it: then they are attached to the switch. */
async function greet(from: { send(frame: Buffer): void }, number: number, ...all: Inbox[]): Promise<void> {
  while (!all.every((inbox) => inbox.greeted)) {
    from.send(plainFrame('everyone', number, GREETING));
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

describe('user switch', () => {
  test('a peer and a VM find each other, and frames are not sent where they do not belong', async () => {
    const server = await start();
    const [a, b] = [peer(server), peer(server)];
    const vm = host(server);
    vm.port.open(epoch(1));
    // A peer is known from its first frame on.
    await greet(b, 3, vm.inbox);
    await greet(a, 2, vm.inbox, b.inbox);
    a.send(plainFrame('everyone', 2, 'who is 15?'));
    expect(textOf(await vm.inbox.next())).toBe('who is 15?');
    expect(textOf(await b.inbox.next())).toBe('who is 15?');
    vm.port.send(0, { frame: plainFrame(2, 15, 'me') }, 1n);
    expect(textOf(await a.inbox.next())).toBe('me');
    a.send(plainFrame(15, 2, 'secret'));
    expect(textOf(await vm.inbox.next())).toBe('secret');
    a.send(plainFrame(3, 2, 'for 3'));
    expect(textOf(await b.inbox.next())).toBe('for 3');
  });

  test('a conversation goes on through a takeover: held, replayed, repeats dropped', async () => {
    const server = await start();
    const client = peer(server);
    const [primary, backup] = [host(server), host(server)];
    primary.port.open(epoch(1));
    const segment = (sequence: number, payload: string) =>
      tcpFrame({ from: [2, 40000], to: [15, 80], sequence, acknowledges: 1, payload });
    const reply = (sequence: number, acknowledges: number, payload: string) =>
      tcpFrame({ from: [15, 80], to: [2, 40000], sequence, acknowledges, payload });
    await greet(client, 2, primary.inbox);
    primary.port.send(0, { frame: plainFrame('everyone', 15, 'here') }, 1n);
    expect(textOf(await client.inbox.next())).toBe('here');

    client.send(segment(1, 'one'));
    await primary.inbox.next();
    primary.port.send(0, { frame: reply(1, 4, 'ONE') }, 2n);
    await client.inbox.next();
    client.send(segment(4, 'two'));
    await primary.inbox.next();
    primary.port.close();
    client.send(segment(7, 'six'));

    backup.port.open(epoch(2));
    // The survivor does not know that output 2 has left, and sends it again.
    backup.port.send(0, { frame: reply(1, 4, 'ONE') }, 2n);
    expect((await backup.inbox.next()).subarray(54)).toEqual(new Uint8Array(Buffer.from('two')));
    expect((await backup.inbox.next()).subarray(54)).toEqual(new Uint8Array(Buffer.from('six')));
    backup.port.send(0, { frame: reply(4, 10, 'TWOSIX') }, 3n);
    expect(Buffer.from((await client.inbox.next()).subarray(54)).toString()).toBe('TWOSIX');
  });

  test('what the survivor sends again before the switch has answered is a repeat, finished or not', async () => {
    const server = await start();
    const client = peer(server);
    const [primary, backup] = [host(server), host(server)];
    primary.port.open(epoch(1));
    await greet(client, 2, primary.inbox);
    const frame = plainFrame(2, 15, 'a datagram whose checksum is left to the network');
    const offload = {
      checksumStart: 14,
      checksumOffset: 6,
      segmentBytes: 0,
      segments: 'none',
      ecn: false,
    } as const;
    primary.port.send(0, { frame, offload }, 1n);
    const [finished] = wireFrames({ frame, offload });
    expect([...(await client.inbox.next())]).toEqual([...finished!]);
    backup.port.open(epoch(2));
    backup.port.send(0, { frame, offload }, 1n);
    backup.port.send(0, { frame: plainFrame(2, 15, 'the next one') }, 2n);
    expect(textOf(await client.inbox.next())).toBe('the next one');
  });

  test('an older generation is refused, whatever it sends', async () => {
    const server = await start();
    const client = peer(server);
    const [old, fresh] = [host(server), host(server)];
    fresh.port.open(epoch(2));
    await greet(client, 2, fresh.inbox);
    fresh.port.send(0, { frame: plainFrame(2, 15, 'fresh 1') }, 1n);
    expect(textOf(await client.inbox.next())).toBe('fresh 1');
    old.port.open(epoch(1));
    old.port.send(0, { frame: plainFrame(2, 15, 'old') }, 2n);
    await new Promise((resolve) => setTimeout(resolve, 50));
    fresh.port.send(0, { frame: plainFrame(2, 15, 'fresh 2') }, 2n);
    expect(textOf(await client.inbox.next())).toBe('fresh 2');
  });

  test('a generation that is refused says so once for each interface', async () => {
    const server = await start();
    const fresh = host(server);
    fresh.port.open(epoch(7));
    await greet(peer(server), 2, fresh.inbox);
    const said: string[] = [];
    const options = { vm: vmId('vm'), nics: 2, host: '127.0.0.1', port: server.port };
    const old = new SwitchNetworkPort({ ...options, say: (line) => said.push(line) });
    closing.push(() => old.close());
    old.open(epoch(1));
    old.open(epoch(2));
    await expect.poll(() => said.length).toBeGreaterThan(0);
    // Time enough to connect again, which it does not do.
    await new Promise((resolve) => setTimeout(resolve, 150));
    expect(said).toEqual([
      'interface 0 is cut off: the switch refuses epoch 2, it has seen epoch 7 of this VM',
    ]);
  });

  test('a VM finds the switch again after the switch was gone', async () => {
    const before = await start();
    const vm = host(before);
    vm.port.open(epoch(1));
    await before.close();
    const after = await start(before.port);
    const client = peer(after);
    await greet(client, 2, vm.inbox);
  });

  test('rubbish ends that connection and no other', async () => {
    const server = await start();
    const vm = host(server);
    vm.port.open(epoch(1));
    await greet(peer(server), 9, vm.inbox);
    for (const rubbish of [
      Buffer.alloc(100, 0xff),
      Buffer.from('LOCKSTEPNET1\0\0\0\x01\x63'),
      Buffer.from('LOCKSTEPNET1\0\0\0\x03\x01\0\0'),
    ]) {
      const bad = peer(server);
      bad.socket.write(rubbish);
      await new Promise((resolve) => bad.socket.once('close', resolve));
    }
    const client = peer(server);
    vm.inbox.greeted = false;
    await greet(client, 2, vm.inbox);
  });

  test('a port in use is one line', async () => {
    const { port } = await start();
    const second = await SwitchServer.start({ port });
    expect(second.ok ? 'started' : second.error).toMatch(/is in use/);
  });
});
