import { connect, createServer, type Socket } from 'node:net';
import { afterEach, expect, test } from 'vitest';
import { epoch, instanceId, nonce, vmId } from '../ft/identity.ts';
import { DiskLease } from './disk-lease.ts';
import { NbdRequests } from './nbd-requests.ts';
import { NBD_SIMPLE_REPLY_LENGTH, NBD_SIMPLE_REPLY_MAGIC } from './nbd-wire.ts';
import { SocketReader } from './socket-reader.ts';

const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

const PIECE = 1 << 20;
const PIECES = 32;
const disk = { size: 1 << 30, readOnly: false, flush: true, fua: true, writeZeroes: true, multiConn: true };
const shape = { ...disk, blockBytes: 1, payloadMax: 32 * PIECE };

/** A lease of one second at time 0, and a server that reads nothing yet. */
async function standing() {
  const clock = { ms: 0 };
  const lease = new DiskLease({ leaseMs: 1000, driftMs: 100, lateMs: 100 }, () => clock.ms);
  let renewed: (name: string) => void = () => {};
  const arbiter = lease.overhear({
    listen: ({ answered }) => {
      renewed = (name) => answered({ nonce: nonce(name), verdict: 'won', epoch: epoch(1) });
    },
    request: () => {},
  });
  arbiter.listen({ answered: () => {} });
  const renew = (name: string) => {
    const asks = { vm: vmId('vm'), instance: instanceId('a'), nonce: nonce(name), epoch: epoch(1) };
    arbiter.request({ kind: 'renew', ...asks });
    renewed(name);
  };
  renew('first');
  let arrived: (socket: Socket) => void = () => {};
  const peer = new Promise<Socket>((resolve) => (arrived = resolve));
  const server = createServer((socket) => {
    socket.pause();
    arrived(socket);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  closing.push(() => server.close());
  const socket = connect((server.address() as { port: number }).port, '127.0.0.1');
  await new Promise<void>((resolve) => socket.once('connect', resolve));
  socket.on('error', () => {});
  closing.push(() => socket.destroy());
  const requests = new NbdRequests(socket, new SocketReader(socket), false, lease);
  requests.receive().catch((error: Error) => requests.fail(error));
  return { clock, socket, requests, peer: await peer };
}

test('what has no answer when the lease ends goes with its connection, and one change at most waits in this process', async () => {
  const { clock, socket, requests, peer } = await standing();
  const ended: string[] = [];
  for (let at = 0; at < PIECES; at++) {
    const data = new Uint8Array(PIECE);
    const change = { kind: 'write', offset: at * PIECE, data, durable: false } as const;
    void requests.execute(change, shape).catch((error: Error) => ended.push(error.name));
  }
  // Both kernels are full.
  for (let before = -1; before !== socket.bytesWritten; ) {
    before = socket.bytesWritten;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  expect(socket.writableLength).toBeLessThanOrEqual(PIECE + 28);
  expect(socket.destroyed).toBe(false);
  const handedOver = socket.bytesWritten - socket.writableLength;
  const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()));
  clock.ms = 900;
  await closed;
  while (ended.length < PIECES) await new Promise((resolve) => setTimeout(resolve, 5));
  // Nor does the kernel send what it had not sent.
  let received = 0;
  const over = new Promise<void>((resolve) => peer.once('close', () => resolve()));
  peer.on('error', () => {});
  peer.on('data', (data) => (received += data.length));
  peer.resume();
  await over;
  expect(received).toBeLessThan(handedOver);
});

test('a connection whose changes all have their answers outlives the lease', async () => {
  const { clock, socket, requests, peer } = await standing();
  peer.resume();
  const reply = Buffer.alloc(NBD_SIMPLE_REPLY_LENGTH);
  reply.writeUInt32BE(NBD_SIMPLE_REPLY_MAGIC);
  reply.writeBigUInt64BE(1n, 8);
  const write = requests.execute(
    { kind: 'write', offset: 0, data: new Uint8Array(512), durable: false },
    shape,
  );
  peer.write(reply);
  expect((await write).status).toBe('ok');
  clock.ms = 900;
  await new Promise((resolve) => setTimeout(resolve, 200));
  expect(socket.destroyed).toBe(false);
  peer.destroy();
});
