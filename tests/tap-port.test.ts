import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { checksumOf, onesSum } from '../src/base/packet/checksum.ts';
import type { Packet } from '../src/base/packet/offload.ts';
import { wireFrames } from '../src/base/packet/segmentation.ts';
import { pseudoHeaderSum } from '../src/base/packet/tcp-layout.ts';
import { epoch } from '../src/ft/identity.ts';
import { repositoryRoot } from '../src/host/image/repository.ts';
import { announcement, gratuitousArp } from '../src/network/announcement.ts';
import type * as TapPort from '../src/network/tap-port.ts';
import type { TestHost } from '../tools/net/test-host.ts';
import { TestNetwork } from '../tools/net/test-network.ts';
import { answerTo } from './frame-responder.ts';
import { ping } from './ping.ts';

const missing = TestNetwork.impossible();
const MAC = Uint8Array.of(0x52, 0x54, 0, 0, 0, 1);
const MAC_TEXT = '52:54:00:00:00:01';
const ADDRESS = Uint8Array.of(10, 77, 0, 100);
const ADDRESS_TEXT = '10.77.0.100';
/** The port's thread runs what was built. */
const PORT = pathToFileURL(join(repositoryRoot(), 'dist/src/network/tap-port.js')).href;

describe.skipIf(missing !== undefined)(
  `a TAP as a network port${missing ? `: skipped, ${missing}` : ''}`,
  () => {
    let network: TestNetwork;
    let a: TestHost;
    let b: TestHost;
    let client: TestHost;
    let TapNetworkPort: typeof TapPort.TapNetworkPort;
    const ports: TapPort.TapNetworkPort[] = [];
    const said: string[] = [];

    beforeAll(async () => {
      ({ TapNetworkPort } = (await import(PORT)) as typeof TapPort);
      network = await TestNetwork.create();
      a = await network.host('a');
      b = await network.host('b');
      client = await network.host('client');
      for (const host of [a, b]) await host.addTap('t0');
      await client.addTap('watch');
    });

    afterAll(() => network?.close());

    afterEach(async () => {
      await Promise.all(ports.splice(0).map((port) => port.close()));
      said.length = 0;
    });

    function attach(host: TestHost, tap = 't0'): TapPort.TapNetworkPort {
      const options = { nics: [{ tap, mac: MAC }], say: (line: string) => said.push(line) };
      const port = host.enter(() => TapNetworkPort.attach(options));
      if (!port.ok) throw new Error(port.error);
      ports.push(port.value);
      return port.value;
    }

    /** A guest that answers, and counts what it was given and what it was asked. */
    function answering(port: TapPort.TapNetworkPort): { frames: number; asked: number } {
      const guest = { frames: 0, asked: 0 };
      let output = 0n;
      port.listen({
        frame: (nic, { frame }) => {
          guest.frames += 1;
          const answer = answerTo(frame, MAC, ADDRESS);
          if (answer === undefined) return;
          guest.asked += 1;
          port.send(nic, { frame: answer }, ++output);
        },
      });
      return guest;
    }

    /** Everything that comes past the client's bridge, in hexadecimal digits. */
    async function watching(): Promise<{ frames: string[]; saw: (frame: Uint8Array) => number }> {
      const port = attach(client, 'watch');
      const frames: string[] = [];
      port.listen({ frame: (_nic, { frame }) => frames.push(hex(frame)) });
      port.open(epoch(1));
      await until(async () => (await stateOf(client, 'watch')) === 'forwarding');
      return { frames, saw: (frame) => frames.filter((each) => each === hex(frame)).length };
    }

    it('frames go both ways: a guest behind it answers ping', async () => {
      const port = attach(a);
      answering(port);
      port.open(epoch(1));
      expect(await ping(client, ADDRESS_TEXT, 20)).toBe(20);
      const neighbour = await client.namespace.ip(`neigh show ${ADDRESS_TEXT} dev br0`);
      expect(neighbour).toContain(MAC_TEXT);
      expect(await network.whereIs(MAC_TEXT)).toBe(a);
    });

    it('before it is opened and after it is closed it is no port of the bridge, and neither sends nor delivers', async () => {
      const watch = await watching();
      const port = attach(a);
      const guest = answering(port);
      const sent = [1, 2, 3].map((last) => gratuitousArp(MAC, Uint8Array.of(10, 77, 0, last)));
      const [early = MAC, middle = MAC, late = MAC] = sent;

      // The kernel takes up to a second to tell the bridge that a carrier is gone: that of the test before.
      await until(async () => (await stateOf(a, 't0')) === 'disabled');
      port.send(0, { frame: early }, 1n);
      expect(await ping(client, ADDRESS_TEXT, 1, { seconds: 1 })).toBe(0);
      expect(guest.frames).toBe(0);

      port.open(epoch(1));
      port.send(0, { frame: middle }, 2n);
      expect(await ping(client, ADDRESS_TEXT, 1)).toBe(1);
      expect(await stateOf(a, 't0')).toBe('forwarding');

      const closed = port.close();
      port.send(0, { frame: late }, 3n);
      await until(async () => (await stateOf(a, 't0')) === 'disabled');
      const { frames } = guest;
      expect(await ping(client, ADDRESS_TEXT, 1, { seconds: 1 })).toBe(0);
      await closed;
      port.send(0, { frame: late }, 4n);
      port.open(epoch(2));
      expect(await ping(client, ADDRESS_TEXT, 1, { seconds: 1 })).toBe(0);
      expect(guest.frames).toBe(frames);
      expect(sent.map(watch.saw)).toEqual([0, 1, 0]);
    });

    it('what came before it was opened is not delivered afterwards', async () => {
      const first = attach(a);
      first.open(epoch(1));
      expect(await stateOf(a, 't0')).toBe('forwarding');
      await first.close();
      // For a moment the bridge goes on forwarding to a port without a carrier.
      const port = attach(a);
      const guest = answering(port);
      await ping(client, ADDRESS_TEXT, 1, { seconds: 1 });
      await until(async () => (await stateOf(a, 't0')) === 'disabled');
      port.open(epoch(2));
      await until(async () => (await stateOf(a, 't0')) === 'forwarding');
      await new Promise((resolve) => setTimeout(resolve, 100));
      expect(guest.asked).toBe(0);
    });

    it('from the first moment frames are not lost, and after the last none leaves', async () => {
      const watch = await watching();
      const late = gratuitousArp(MAC, Uint8Array.of(10, 77, 2, 0));
      for (let round = 0; round < 5; round++) {
        const port = attach(a);
        await until(async () => (await stateOf(a, 't0')) === 'disabled');
        port.open(epoch(1));
        const frame = gratuitousArp(MAC, Uint8Array.of(10, 77, 1, round));
        port.send(0, { frame }, 1n);
        await until(() => watch.saw(frame) === 1);
        const closed = port.close();
        port.send(0, { frame: late }, 2n);
        await closed;
      }
      expect(watch.saw(late)).toBe(0);
    });

    it('where it cannot send yet it holds a bounded number of frames, and sends them in order', async () => {
      const watch = await watching();
      const port = attach(a);
      await a.namespace.ip('link set t0 down');
      port.open(epoch(1));
      const frame = (number: number) => gratuitousArp(MAC, Uint8Array.of(10, 78, number >> 8, number & 255));
      for (let number = 0; number < 1000; number++) port.send(0, { frame: frame(number) }, BigInt(number));
      await a.namespace.ip('link set t0 up');
      await until(() => watch.saw(frame(255)) === 1);
      port.send(0, { frame: frame(1000) }, 1000n);
      await until(() => watch.saw(frame(1000)) === 1);
      const held = Array.from({ length: 256 }, (_, number) => hex(frame(number)));
      expect(watch.frames.filter((each) => each.startsWith(hex(frame(0)).slice(0, 40)))).toEqual([
        ...held,
        hex(frame(1000)),
      ]);
    });

    it('refuses frames that no Ethernet of its MTU carries', async () => {
      const watch = await watching();
      const port = attach(a);
      port.open(epoch(1));
      const ofLength = (length: number) => {
        const frame = new Uint8Array(length).fill(0xee);
        frame.set(gratuitousArp(MAC, ADDRESS).subarray(0, Math.min(length, 12)));
        return frame;
      };
      const largest = ofLength(1514);
      for (const frame of [ofLength(0), ofLength(13), ofLength(1519), ofLength(70_000), largest])
        port.send(0, { frame }, 1n);
      port.send(1, { frame: gratuitousArp(MAC, ADDRESS) }, 2n);
      await until(() => watch.saw(largest) === 1);
      expect(watch.frames.filter((each) => each.slice(12, 24) === hex(MAC))).toEqual([hex(largest)]);
      expect(said).toEqual([]);
    });

    it('a long packet goes through the kernel, and is the same wherever it is cut', async () => {
      const watch = attach(client, 'watch');
      const came: Uint8Array[] = [];
      watch.listen({ frame: (_nic, packet) => came.push(...wireFrames(packet)) });
      watch.open(epoch(1));
      const port = attach(a);
      port.open(epoch(1));
      await until(async () => (await stateOf(client, 'watch')) === 'forwarding');
      await until(async () => (await stateOf(a, 't0')) === 'forwarding');
      const packet = longPacket(20_000);
      port.send(0, packet, 1n);
      const sent = wireFrames(packet);
      const own = () => came.filter((frame) => hex(frame.subarray(6, 12)) === hex(MAC) && frame.length > 54);
      await until(() => own().length >= sent.length);
      expect(own().map(hex)).toEqual(sent.map(hex));
    });

    it('has a TAP for each interface', async () => {
      const watch = await watching();
      await a.addTap('t2');
      const nics = ['t0', 't2'].map((tap) => ({ tap, mac: MAC }));
      const port = a.enter(() => TapNetworkPort.attach({ nics, say: (line) => said.push(line) }));
      if (!port.ok) throw new Error(port.error);
      ports.push(port.value);
      const came: string[] = [];
      port.value.listen({ frame: (nic, { frame }) => came.push(`${nic} ${hex(frame)}`) });
      port.value.open(epoch(1));
      const fromSecond = announcement(Uint8Array.of(0x52, 0x54, 0, 0, 0, 2));
      port.value.send(1, { frame: fromSecond }, 1n);
      // A broadcast of the one goes out, and comes back in at the other.
      await until(() => watch.saw(fromSecond) === 1 && came.includes(`0 ${hex(fromSecond)}`));
      expect(came).not.toContain(`1 ${hex(fromSecond)}`);
    });

    it('names all TAPs that cannot be had', () => {
      const nics = ['br0', 'a/b', 't0'].map((tap) => ({ tap, mac: MAC }));
      const port = a.enter(() => TapNetworkPort.attach({ nics, say: () => {} }));
      expect(port.ok ? '' : port.error).toMatch(/^interface br0 .*; "a\/b" is no name for a TAP[^;]*$/);
    });

    it('announces five times, and what it has seen the guest send or send again besides', async () => {
      const watch = await watching();
      const port = attach(a);
      port.replayed(0, { frame: gratuitousArp(MAC, ADDRESS) });
      port.open(epoch(1));
      port.announce(0, MAC);
      const own = [announcement(MAC), gratuitousArp(MAC, ADDRESS)];
      await until(() => own.every((frame) => watch.saw(frame) >= 5));
      const second = gratuitousArp(MAC, Uint8Array.of(10, 77, 0, 101));
      port.send(0, { frame: second }, 1n);
      port.announce(0, MAC);
      await until(() => [second, ...own].every((frame) => watch.saw(frame) >= 6));
    });

    it('after a takeover the bridges have the address behind the survivor, and neighbours hear of it', async () => {
      const old = attach(a);
      answering(old);
      old.open(epoch(1));
      expect(await ping(client, ADDRESS_TEXT, 1)).toBe(1);
      expect(await network.whereIs(MAC_TEXT)).toBe(a);
      // A neighbour that has been told something else believes a gratuitous ARP.
      await client.namespace.ip(`neigh replace ${ADDRESS_TEXT} lladdr 02:00:00:00:00:99 dev br0 nud stale`);

      const survivor = attach(b);
      survivor.replayed(0, { frame: gratuitousArp(MAC, ADDRESS) });
      survivor.open(epoch(2));
      survivor.announce(0, MAC);
      await until(async () => (await network.whereIs(MAC_TEXT)) === b);
      await until(async () => (await client.namespace.ip('neigh show dev br0')).includes(MAC_TEXT));
      answering(survivor);
      expect(await ping(client, ADDRESS_TEXT, 5)).toBe(5);
    });

    it('a closed port announces nothing more', async () => {
      const watch = await watching();
      const port = attach(a);
      port.open(epoch(1));
      port.announce(0, MAC);
      await until(() => watch.saw(announcement(MAC)) >= 2);
      await port.close();
      const next = attach(a);
      next.open(epoch(1));
      // Whoever sees the mark has seen what went before it.
      const seenAt = async (mark: Uint8Array) => {
        next.send(0, { frame: mark }, 1n);
        await until(() => watch.saw(mark) === 1);
        return watch.saw(announcement(MAC));
      };
      const seen = await seenAt(gratuitousArp(MAC, Uint8Array.of(10, 77, 0, 1)));
      await new Promise((resolve) => setTimeout(resolve, 800));
      expect(await seenAt(gratuitousArp(MAC, Uint8Array.of(10, 77, 0, 2)))).toBe(seen);
    });

    it('says once that its interface is down or was removed, and goes on', async () => {
      await a.addTap('t1');
      const port = attach(a, 't1');
      port.open(epoch(1));
      await until(async () => (await stateOf(a, 't1')) === 'forwarding');
      await a.namespace.ip('link set t1 down');
      for (let times = 0; times < 3; times++) port.send(0, { frame: announcement(MAC) }, 1n);
      expect(said).toEqual(['TAP t1 is cut off: it is down: as root, ip link set t1 up']);
      await a.namespace.ip('link del t1');
      await until(() => said.length === 2);
      for (let times = 0; times < 3; times++) port.send(0, { frame: announcement(MAC) }, 1n);
      expect(said[1]).toBe('TAP t1 is cut off: it was removed');
      expect(said.length).toBe(2);
    });

    it('a process that leaves with a TAP open ends at once', async () => {
      const folder = await mkdtemp(join(tmpdir(), 'lockstep-tap-'));
      // Where no frame comes by, the thread that reads stands still for good.
      await a.namespace.ip('tuntap add dev quiet mode tap');
      await a.namespace.ip('link set quiet addrgenmode none');
      const script = join(folder, 'leave.mjs');
      const text = `
      const { TapNetworkPort } = await import(${JSON.stringify(PORT)});
      const port = TapNetworkPort.attach({ nics: [{ tap: 'quiet', mac: new Uint8Array(6) }], say: console.log });
      port.value.listen({ frame: () => {} });
      port.value.open(1);
      setTimeout(() => process.exit(7), 200);`;
      await writeFile(script, text);
      const [program = '', ...words] = a.command([process.execPath, script]);
      const child = spawn(program, words, { stdio: 'inherit' });
      expect((await once(child, 'close'))[0]).toBe(7);
      await rm(folder, { recursive: true });
    });

    /** What the bridge does with this port of its. */
    async function stateOf(host: TestHost, port: string): Promise<string> {
      const [link] = JSON.parse(await host.namespace.bridge(`-j link show dev ${port}`)) as [
        { state: string },
      ];
      return link.state;
    }
  },
);

async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await condition())) await new Promise((resolve) => setTimeout(resolve, 5));
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}

/** TCP over IPv4 to everybody, to be cut into segments of 1,448 bytes. */
function longPacket(payload: number): Packet {
  const frame = new Uint8Array(54 + payload);
  const view = new DataView(frame.buffer);
  frame.fill(0xff, 0, 6);
  frame.set(MAC, 6);
  view.setUint32(12, 0x0800_4500);
  view.setUint16(16, 40 + payload);
  view.setUint32(20, 0x4000_4006);
  view.setUint32(26, 0x0a4d_0064);
  view.setUint32(30, 0x0a4d_0001);
  view.setUint32(34, 80 * 65_536 + 5000);
  view.setUint32(38, 1000);
  view.setUint16(46, 0x5010);
  view.setUint16(48, 512);
  for (let at = 54; at < frame.length; at++) frame[at] = at * 7;
  // The kernel wants what a guest writes there: the sum of the pseudo header.
  view.setUint16(50, pseudoHeaderSum(frame, { version: 4, ip: 14 }, 20 + payload));
  const offload = {
    checksumStart: 34,
    checksumOffset: 16,
    segmentBytes: 1448,
    segments: 'tcp4',
    ecn: false,
  } as const;
  view.setUint16(24, checksumOf(onesSum(frame, 14, 34)));
  return { frame, offload };
}
