import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { readPcap } from '../../tests/data/pcap-reader.ts';
import { plainFrame } from '../../tests/data/test-frames.ts';
import { captureFlags } from './capture-file.ts';
import { PcapWriter } from './pcap-writer.ts';

let folder: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lockstep-pcap-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

test("a file for its owner alone, with every packet, in order, at the host's time", async () => {
  const path = join(folder, 'a.pcap');
  const said: string[] = [];
  const before = BigInt(Date.now()) * 1_000_000n;
  const writer = PcapWriter.toFile(path, (line) => said.push(line));
  const frames = ['one', 'two', 'three'].map((text) => plainFrame(2, 15, text));
  for (const frame of frames) writer.packet({ frame });
  await writer.close();
  writer.packet({ frame: frames[0]! });
  const packets = readPcap(await readFile(path));
  expect(packets.map(({ frame }) => frame)).toEqual(frames);
  const second = 10n ** 9n;
  expect(packets.every(({ ns }) => ns > before - second && ns < before + 60n * second)).toBe(true);
  expect(packets.map(({ ns }) => ns)).toEqual(packets.map(({ ns }) => ns).sort((a, b) => (a < b ? -1 : 1)));
  expect((await stat(path)).mode & 0o777).toBe(0o600);
  expect(said).toEqual([]);
});

test('a packet with something left to do is finished in the capture', async () => {
  const path = join(folder, 'a.pcap');
  const writer = PcapWriter.toFile(path, () => {});
  const frame = new Uint8Array(60).fill(1, 20);
  const offload = {
    checksumStart: 20,
    checksumOffset: 2,
    segmentBytes: 0,
    segments: 'none',
    ecn: false,
  } as const;
  writer.packet({ frame, offload });
  await writer.close();
  const [packet] = readPcap(await readFile(path));
  // 20 words of 0x0101 add up to 0x1414.
  expect([...packet!.frame.subarray(22, 24)]).toEqual([0xeb, 0xeb]);
});

test.each([
  ['/dev/full', 'the capture to /dev/full has ended: no space is left there'],
  [
    '/nowhere/a.pcap',
    "the capture to /nowhere/a.pcap has ended: ENOENT: no such file or directory, open '/nowhere/a.pcap'",
  ],
])('%s is one line, and no more', async (path, line) => {
  const said: string[] = [];
  const writer = PcapWriter.toFile(path, (each) => said.push(each));
  while (said.length === 0) {
    writer.packet({ frame: plainFrame(2, 15, 'x') });
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  writer.packet({ frame: plainFrame(2, 15, 'x') });
  await writer.close();
  expect(said).toEqual([line]);
  expect(writer.over).toBe(true);
});

test('whoever does not read loses packets, and holds nothing up; the line tells how many', async () => {
  const said: string[] = [];
  let go: () => void = () => {};
  const slow = new Writable({ write: (_chunk, _encoding, done) => void (go = done) });
  const writer = new PcapWriter(slow, 'a slow disk', (line) => said.push(line));
  for (let n = 0; n < 400; n++) writer.packet({ frame: new Uint8Array(64 * 1024) });
  expect(slow.writableLength).toBeLessThan(17 * 1024 * 1024);
  slow.destroy();
  go();
  await new Promise((resolve) => setTimeout(resolve, 5));
  expect(said).toEqual([
    expect.stringMatching(/^the capture to a slow disk lacks 1\d\d packets: it is too slow$/),
  ]);
});

test('a listener on a socket gets the same, and its leaving ends the capture', async () => {
  const path = join(folder, 's');
  const chunks: Buffer[] = [];
  const server = createServer((socket) => {
    socket.on('data', (chunk) => chunks.push(chunk));
    socket.on('error', () => undefined);
    setTimeout(() => socket.destroy(), 50);
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  const writer = PcapWriter.toSocket(path, () => {});
  const frame = plainFrame(2, 15, 'one');
  writer.packet({ frame });
  while (!writer.over) await new Promise((resolve) => setTimeout(resolve, 5));
  expect(readPcap(Buffer.concat(chunks))[0]?.frame).toEqual(frame);
  await new Promise((resolve) => server.close(resolve));
});

test('a file that is there stays as it is', async () => {
  const path = join(folder, 'keep.pcap');
  await writeFile(path, 'kept');
  const said: string[] = [];
  const writer = PcapWriter.toFile(path, (each) => said.push(each));
  await expect.poll(() => said.length).toBe(1);
  expect(said[0]).toContain('file already exists');
  await writer.close();
  expect(await readFile(path, 'utf8')).toBe('kept');
  expect(captureFlags(path)).toEqual({
    ok: false,
    error: `${path} is there already: name another file for the capture`,
  });
});
