import { chmod, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { LOG_FORMAT_VERSION } from '../src/replay/frame.ts';
import { assembledGuest } from './assembled-guest.ts';
import { type Ended, LockstepProcess, lockstep } from './lockstep-process.ts';

/** Bad input gets one clear line on standard error and a non-zero exit, and nothing is lost. */
let folder = '';
let kernel = '';
let recording = '';

const at = (name: string) => join(folder, name);

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lockstep-hostile-'));
  kernel = at('ticker.bz');
  recording = at('recording');
  await writeFile(kernel, await assembledGuest('ticker'));
  const recorded = await lockstep([...ticker('q'), '--record', recording]);
  expect(recorded.code).toBe(0);
});

afterAll(() => rm(folder, { recursive: true, force: true }));

const ticker = (command: string, ...options: string[]) => [
  ...['run', '--kernel', kernel, '--memory', '16M', '--append', command],
  ...options,
];

function expectRefusal(ended: Ended, line: RegExp, code = 2): void {
  expect(ended.stderr).toMatch(/^lockstep: [^\n]+\n$/);
  expect(ended.stderr).toMatch(line);
  expect(ended.stdout).toBe('');
  expect(ended.code).toBe(code);
}

describe('run refuses', () => {
  it('a file that is no kernel, whatever it is', async () => {
    const files: [string, Uint8Array, RegExp][] = [
      ['empty', new Uint8Array(0), /kernel .*empty is empty/],
      ['text', Buffer.from('hello'), /not a Linux kernel/],
      ['zeroes', new Uint8Array(100_000), /not a Linux kernel/],
      ['elf', Buffer.from('\x7fELF'.padEnd(5000, '\0'), 'latin1'), /not a Linux kernel: it is an ELF file/],
      ['cut', (await readFile(kernel)).subarray(0, 3000), /the kernel is truncated/],
    ];
    for (const [name, bytes, line] of files) {
      await writeFile(at(name), bytes);
      expectRefusal(await lockstep(['run', '--kernel', at(name)]), line);
    }
  });

  it('a kernel, an initrd and a disk that are not there', async () => {
    const missing = at('missing');
    expectRefusal(await lockstep(['run', '--kernel', missing]), /kernel .*missing does not exist/);
    expectRefusal(await lockstep(ticker('q', '--initrd', missing)), /initrd .*missing does not exist/);
    expectRefusal(await lockstep(ticker('q', '--disk', missing)), /disk .*missing does not exist/);
  });

  it('a folder in place of a file', async () => {
    expectRefusal(await lockstep(['run', '--kernel', folder]), /kernel .* is a folder/);
    expectRefusal(await lockstep(ticker('q', '--disk', folder)), /disk .* is a folder/);
    expectRefusal(await lockstep(ticker('q', '--record', folder)), /recording .* is a folder/);
  });

  it('too little memory, too much, and what is no size', async () => {
    const memory = (size: string) => lockstep(['run', '--kernel', kernel, '--memory', size]);
    expectRefusal(await memory('8M'), /memory/);
    expectRefusal(await memory('4G'), /a guest has at most 3584M/);
    expectRefusal(await memory('lots'), /write it like 512M/);
    await writeFile(at('big-initrd'), new Uint8Array(15 * 2 ** 20));
    expectRefusal(await lockstep(ticker('q', '--initrd', at('big-initrd'))), /the initrd is too big.*MiB/);
  });

  it('a disk that is read-only, in use, or no disk image', async () => {
    await writeFile(at('read-only.img'), new Uint8Array(4096));
    await chmod(at('read-only.img'), 0o444);
    expectRefusal(await lockstep(ticker('q', '--disk', at('read-only.img'))), /read-only: make it writable/);
    await writeFile(at('odd.img'), new Uint8Array(1000));
    expectRefusal(await lockstep(ticker('q', '--disk', at('odd.img'))), /no multiple of 512/);
    await writeFile(at('shared.img'), new Uint8Array(4096));
    const owner = new LockstepProcess(ticker('x', '--disk', at('shared.img')));
    await owner.says('TICKER');
    expectRefusal(await lockstep(ticker('q', '--disk', at('shared.img'))), /is in use by another guest/);
    owner.child.kill('SIGKILL');
    await owner.ended;
    // The lock went with its owner, however that ended.
    expect((await lockstep(ticker('q', '--disk', at('shared.img')))).code).toBe(0);
  });

  it('a port that is in use, and leaves nothing behind', async () => {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as { port: number };
    const before = await readdir(tmpdir());
    const ended = await lockstep(ticker('q', '--net', 'user', '--forward', `tcp:${port}:80`));
    server.close();
    expectRefusal(ended, new RegExp(`port ${port} is in use`));
    const left = (await readdir(tmpdir())).filter((name) => !before.includes(name));
    expect(left.filter((name) => name.startsWith('lockstep-passt'))).toEqual([]);
  });

  it('options that are wrong', async () => {
    expectRefusal(await lockstep(ticker('q', '--engine', 'steam')), /auto, interpreter or jit/);
    expectRefusal(await lockstep(ticker('q', '--net', 'token-ring')), /--net token-ring/);
    expectRefusal(await lockstep(ticker('q', '--forward', 'tcp:80')), /write it like tcp:8080:80/);
    expectRefusal(await lockstep(ticker('ü')), /printable ASCII/);
  });
});

describe('replay refuses', () => {
  it('what is no recording', async () => {
    expectRefusal(await lockstep(['replay', at('missing')]), /recording .*missing does not exist/);
    expectRefusal(await lockstep(['replay', folder]), /is (not a file|a folder)/);
    expectRefusal(await lockstep(['replay', kernel]), /not a Lockstep recording/);
    await writeFile(at('nothing'), '');
    expectRefusal(await lockstep(['replay', at('nothing')]), /truncated/);
  });

  it('a recording of another version', async () => {
    const bytes = await readFile(recording);
    // The version stands behind the length of the first frame.
    bytes[8 + 4] = 99;
    await writeFile(at('version'), bytes);
    const refused = new RegExp(`log format 99, this program reads ${LOG_FORMAT_VERSION}`);
    expectRefusal(await lockstep(['replay', at('version')]), refused);
  });

  it('a recording that is cut or damaged anywhere in what comes before its entries', async () => {
    const bytes = await readFile(recording);
    for (const length of [5, 12, 40, 30_000]) {
      await writeFile(at('cut'), bytes.subarray(0, length));
      expectRefusal(await lockstep(['replay', at('cut')]), /truncated/);
    }
    for (const place of [15, 60, 30_000]) {
      const damaged = Buffer.from(bytes);
      damaged[place]! ^= 0x10;
      await writeFile(at('damaged'), damaged);
      expectRefusal(await lockstep(['replay', at('damaged')]), /damaged|log format/);
    }
  });

  it('a recording that is cut or damaged among its entries, after what is still good', async () => {
    const bytes = await readFile(recording);
    await writeFile(at('cut'), bytes.subarray(0, bytes.length - 30));
    const cut = await lockstep(['replay', at('cut')]);
    expect(cut.stderr).toMatch(/^lockstep: [^\n]*after entry \d+ \(count \d+\) is truncated[^\n]*\n$/);
    expect(cut.stdout).toContain('TICKER');
    expect(cut.code).toBe(1);
    const damaged = Buffer.from(bytes);
    damaged[bytes.length - 60]! ^= 0x10;
    await writeFile(at('damaged'), damaged);
    const ended = await lockstep(['replay', at('damaged')]);
    expect(ended.stderr).toMatch(/^lockstep: [^\n]*count \d+[^\n]*\n$/);
    expect(ended.code).toBe(1);
  });
});
