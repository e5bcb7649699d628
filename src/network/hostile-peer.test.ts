import { connect } from 'node:net';
import { afterEach, expect, test } from 'vitest';
import { plainFrame } from '../../tests/data/test-frames.ts';
import { epoch, vmId } from '../ft/identity.ts';
import { encodeFrame } from './frame-stream.ts';
import { encodeSwitchMessage, SWITCH_MAGIC } from './switch-message.ts';
import { SwitchNetworkPort } from './switch-port.ts';
import { SwitchServer } from './switch-server.ts';

/** Whatever bytes a stranger sends to the switch: it goes on, and an older epoch does not come in. */

const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

/** Sends the bytes; true when the switch hung up within so many milliseconds. */
async function send(port: number, bytes: Uint8Array, patience = 40): Promise<boolean> {
  const socket = connect({ host: '127.0.0.1', port });
  socket.on('error', () => {});
  socket.resume();
  socket.write(bytes);
  const hungUp = await new Promise<boolean>((resolve) => {
    const timer = setTimeout(resolve, patience, false);
    socket.on('close', () => {
      clearTimeout(timer);
      resolve(true);
    });
  });
  socket.destroy();
  return hungUp;
}

const lockstep = (...messages: Uint8Array[]): Buffer =>
  Buffer.concat([SWITCH_MAGIC, ...messages.map((message) => encodeFrame(message))]);

test('rubbish ends its connection, and a guest is still reached', async () => {
  const server = await SwitchServer.start({ port: 0 });
  if (!server.ok) throw new Error(server.error);
  closing.push(() => server.value.close());
  const { port } = server.value;
  const guest = new SwitchNetworkPort({ vm: vmId('vm'), nics: 1, host: '127.0.0.1', port });
  closing.push(() => guest.close());
  let heard = 0;
  guest.listen({ frame: () => heard++ });
  guest.open(epoch(2));

  const open = encodeSwitchMessage({ kind: 'open', vm: 'x', nic: 0, epoch: epoch(1) });
  const ended = [
    Buffer.alloc(64, 0xff),
    Buffer.concat([SWITCH_MAGIC, Buffer.alloc(64, 0xff)]),
    lockstep(Buffer.alloc(0)),
    lockstep(Buffer.of(99)),
    lockstep(Buffer.of(2)),
    lockstep(encodeSwitchMessage({ kind: 'frame', output: 1n, frame: plainFrame('everyone', 2, 'x') })),
    lockstep(encodeSwitchMessage({ kind: 'announce', mac: Buffer.alloc(6) })),
    lockstep(open.subarray(0, 10)),
    lockstep(open, Buffer.of(3, 1, 2)),
    lockstep(open, Buffer.of(4, 0, 0, 0, 0, 0, 0, 0, 9)),
  ];
  for (const [index, bytes] of ended.entries())
    expect({ index, hungUp: await send(port, bytes, 5000) }).toEqual({ index, hungUp: true });
  // A frame too short for its header goes nowhere; neither do frames of an epoch that has passed.
  await send(port, encodeFrame(Buffer.alloc(3)));
  const old = encodeSwitchMessage({ kind: 'open', vm: 'vm', nic: 0, epoch: epoch(1) });
  const late = encodeSwitchMessage({ kind: 'frame', output: 1n, frame: plainFrame('everyone', 15, 'late') });
  await send(port, lockstep(old, late));
  expect(heard).toBe(0);
  while (heard === 0) await send(port, encodeFrame(plainFrame('everyone', 2, 'hello')));
});

test('a stranger that opens without end and reads no verdict is hung up on', async () => {
  const server = await SwitchServer.start({ port: 0 });
  if (!server.ok) throw new Error(server.error);
  closing.push(() => server.value.close());
  const socket = connect({ host: '127.0.0.1', port: server.value.port });
  closing.push(() => socket.destroy());
  let hungUp = false;
  socket.on('error', () => {
    hungUp = true;
  });
  socket.write(SWITCH_MAGIC);
  const open = encodeFrame(encodeSwitchMessage({ kind: 'open', vm: 'x', nic: 0, epoch: epoch(1) }));
  const many = Buffer.concat(Array.from({ length: 4096 }, () => open));
  const LIMIT = 64 * 1024 * 1024;
  let sent = 0;
  while (!hungUp && sent < LIMIT) {
    await new Promise((resolve) => socket.write(many, resolve));
    sent += many.length;
  }
  expect(hungUp).toBe(true);
});
