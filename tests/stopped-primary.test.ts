import { existsSync } from 'node:fs';
import { connect } from 'node:net';
import { afterEach, expect, test } from 'vitest';
import { RedisClients } from '../bench/chaos/redis-clients.ts';
import { judge } from '../bench/chaos/redis-history.ts';
import { buildImage } from '../src/host/image/build-image.ts';
import { encodeFrame, FrameDecoder } from '../src/network/frame-stream.ts';
import {
  decodeSwitchMessage,
  encodeSwitchMessage,
  SWITCH_MAGIC,
  SWITCH_MESSAGE_LENGTH_MAX,
} from '../src/network/switch-message.ts';
import { NBD_ERROR } from '../src/storage/nbd-wire.ts';
import type { StatusLine } from '../tools/pair/json-process.ts';
import type { HostView } from '../tools/pair/protected-guest.ts';
import { savedGuest } from '../tools/pair/saved-guest.ts';
import { withPair } from '../tools/pair/with-pair.ts';
import { CuttableRelay } from './cuttable-relay.ts';
import { writesOf } from './nbd-transcript.ts';
import { Tap } from './tap.ts';

/**
 * An old primary that comes back: stopped while its backup goes live, continued afterwards. Everything that it says
 * to the disk server and to the switch goes through taps, and some of it is still on its way when the backup is
 * live already.
 */

const MINUTES = 60_000;
const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

async function until(what: string, holds: () => boolean): Promise<void> {
  const deadline = performance.now() + MINUTES;
  while (!holds()) {
    if (performance.now() > deadline) throw new Error(`not within a minute: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** The frames with their output numbers that a host has said to the switch, and what is left of an unfinished one. */
function framesOf(tap: Tap): { output: bigint; frame: string }[] {
  return tap.connections.flatMap(({ sent }) => {
    const decoder = new FrameDecoder(SWITCH_MESSAGE_LENGTH_MAX);
    const messages = decoder.push(Buffer.concat(sent).subarray(SWITCH_MAGIC.length)) ?? [];
    return messages.flatMap((content) => {
      const message = decodeSwitchMessage(content);
      if (message?.kind !== 'frame') return [];
      return [{ output: message.output, frame: Buffer.from(message.frame).toString('hex') }];
    });
  });
}

/** A broadcast that nobody but this test makes [IEEE 802, EtherType for local experiments]. */
function broadcast(number: number): Buffer {
  const frame = Buffer.alloc(60);
  frame.fill(0xff, 0, 6);
  Buffer.from('525400123456', 'hex').copy(frame, 6);
  frame.writeUInt16BE(0x88b5, 12);
  frame.writeUInt32BE(number, 14);
  return frame;
}

/** A plain peer of the switch: every broadcast reaches it. */
function listenForBroadcasts(port: number): Set<number> {
  const heard = new Set<number>();
  const decoder = new FrameDecoder();
  const socket = connect({ port, host: '127.0.0.1' });
  closing.push(() => socket.destroy());
  socket.on('error', () => {});
  socket.on('data', (bytes: Buffer) => {
    for (const frame of decoder.push(bytes) ?? [])
      if (frame.readUInt16BE(12) === 0x88b5) heard.add(frame.readUInt32BE(14));
  });
  // The switch waits for the first bytes to know who speaks.
  socket.write(encodeFrame(broadcast(0)));
  return heard;
}

/** Opens a connection now and then, which the guest's kernel answers by itself; they end with the test. */
function knock(port: number): () => void {
  const timer = setInterval(() => {
    const socket = connect({ port, host: '127.0.0.1' });
    socket.on('error', () => {});
    closing.push(() => socket.destroy());
  }, 50);
  closing.push(() => clearInterval(timer));
  return () => clearInterval(timer);
}

/** Says a frame on a host's own connection to the switch, as that host would. */
function sayAs(tap: Tap, number: number): void {
  const message = encodeSwitchMessage({ kind: 'frame', output: 1n << 40n, frame: broadcast(number) });
  tap.connections.at(-1)?.far.write(encodeFrame(message));
}

function detailOf(host: HostView, state: string): () => string {
  let detail = '';
  host.process.listen((line: StatusLine) => {
    if (line.kind === 'state' && line.state === state) detail = String(line.detail);
  });
  return () => detail;
}

test.skipIf(!existsSync('/usr/bin/passt'))(
  'an old primary that was stopped during go-live sends nothing that was not acked, writes nothing, and the switch drops its frames',
  async () => {
    const image = await buildImage('demo', { progress: () => undefined });
    if (!image.ok) throw new Error(image.error);
    const from = await savedGuest(image.value, () => undefined);
    const taps = new Map<string, Tap>();
    let switchPort = 0;
    const serviceVia = async (host: string, service: string, address: string) => {
      const port = Number(address.split(':')[1]);
      if (service === 'switch') switchPort = port;
      const tap = await Tap.start(port);
      closing.push(() => tap.close());
      taps.set(`${host} ${service}`, tap);
      return `127.0.0.1:${tap.port}`;
    };
    let channel: CuttableRelay | undefined;
    const channelVia = async (address: string) => {
      channel = await CuttableRelay.start(Number(address.split(':')[1]));
      closing.push(() => channel?.close());
      return `127.0.0.1:${channel.port}`;
    };
    await withPair(image.value, { from, serviceVia, channelVia }, async (guest) => {
      const [a, b] = guest.hosts;
      await until('a pair', () => a.state === 'PAIR' && b.state === 'BACK');
      const live = detailOf(b, 'LIVE');
      const disks = taps.get('A disks')!;
      const frames = { a: taps.get('A switch')!, b: taps.get('B switch')! };
      const clients = await RedisClients.open(guest.redisPort, 8, 20);
      closing.push(() => clients.close());
      clients.start('stopped');
      await until('answers', () => clients.answered > 100);
      const heard = listenForBroadcasts(switchPort);
      await until('a frame of host A is passed on', () => {
        sayAs(frames.a, 1);
        return heard.has(1);
      });

      // What the primary may say is on its way for long; then nothing is acked any more, and it stops. Redis waits
      // for its disk then, and the clients for redis: the guest goes on to answer who knocks.
      const stopKnocking = knock(guest.redisPort);
      disks.holdFrom(4096);
      await until('a write is on its way', () => disks.heldBytes >= 4096);
      frames.a.hold();
      await until('frames are on their way', () => frames.a.heldBytes > 100);
      channel!.tcp = 'silent';
      await until('outputs wait for acks', () => Number(a.figures?.heldOutputs) > 0);
      a.process.signal('SIGSTOP');
      stopKnocking();
      await until('host B is live', () => b.state === 'SOLE');
      const answered = clients.answered;
      await until('the clients go on', () => clients.answered > answered + 50);

      // All of it arrives now, and the old primary goes on.
      disks.release();
      frames.a.release();
      sayAs(frames.a, 3);
      a.process.signal('SIGCONT');
      await until('host A halts', () => !a.process.running);
      expect(a.reason).toMatch(/superseded|newer generation/);

      const late = disks.connections.flatMap((connection) =>
        writesOf(connection).filter(
          ({ at, length }) => at + 28 + length > (connection.passedBeforeHold ?? Number.POSITIVE_INFINITY),
        ),
      );
      expect(late.length).toBeGreaterThan(0);
      // Every late write was refused by the fence, or its connection was closed before it was read.
      expect(late.filter(({ error }) => error !== NBD_ERROR.shutdown && error !== undefined)).toEqual([]);
      expect(late.filter(({ error }) => error === NBD_ERROR.shutdown).length).toBeGreaterThan(0);

      const [, made = '', left = ''] = /made up to (\d+), known to have left up to (\d+)/.exec(live()) ?? [];
      const said = framesOf(frames.a);
      expect(said.length).toBeGreaterThan(50);
      // Host B has acked everything that it replayed: what host A said lies within.
      expect(said.filter(({ output }) => output > BigInt(made))).toEqual([]);
      expect(BigInt(made)).toBeGreaterThanOrEqual(BigInt(left));
      // What both said, they said alike.
      const again = new Map(framesOf(frames.b).map(({ output, frame }) => [output, frame]));
      for (const { output, frame } of said) expect(again.get(output) ?? frame).toBe(frame);
      expect(again.size).toBeGreaterThan(20);

      sayAs(frames.b, 2);
      await until('a frame of host B is passed on', () => heard.has(2));
      expect([...heard].sort()).toEqual([1, 2]);

      const { history, lists } = await clients.finish();
      expect(clients.connectionsLost).toBe(0);
      expect(judge(history, lists)).toEqual({
        unknownOutcomes: 0,
        acknowledgedWritesLost: 0,
        notLinearizable: [],
      });
    });
  },
  5 * MINUTES,
);
