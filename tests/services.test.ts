import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Ended, LockstepProcess, lockstep } from './lockstep-process.ts';

let folder = '';
let image = '';
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lockstep-services-'));
  image = join(folder, 'disk.img');
  await writeFile(image, Buffer.alloc(1024 * 1024));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

/** Wrong input: exit code 2, nothing on standard output, one line that says what. */
function expectOneLine(ended: Ended, line: RegExp): void {
  expect(ended.stdout).toBe('');
  expect(ended.stderr.trim().split('\n')).toHaveLength(1);
  expect(ended.stderr).toMatch(line);
  expect(ended.code).toBe(2);
}

/** Starts a service and returns the port it names. */
async function listening(service: LockstepProcess): Promise<number> {
  const line = await new Promise<string>((resolve) => {
    service.child.stdout.once('data', (chunk: Buffer) => resolve(chunk.toString()));
    void service.ended.then(({ stderr }) => resolve(stderr));
  });
  return (JSON.parse(line) as { port: number }).port;
}

describe('services', () => {
  test('a disk server names its port, and ends with its standard input when it is told to', async () => {
    const service = new LockstepProcess([
      'disk',
      'serve',
      image,
      '--port',
      '0',
      '--json',
      '--until-stdin-ends',
    ]);
    const port = await listening(service);
    expect(port).toBeGreaterThan(0);

    const other = join(folder, 'other.img');
    await writeFile(other, Buffer.alloc(512));
    expectOneLine(await lockstep(['disk', 'serve', other, '--port', String(port)]), /port \d+ .* is in use/);
    expectOneLine(
      await lockstep(['disk', 'serve', image, '--port', '0']),
      /in use by another guest or disk server/,
    );

    service.child.stdin.end();
    expect((await service.ended).code).toBe(0);
  });

  test('a switch without an uplink starts, and SIGTERM ends it in good order', async () => {
    const service = new LockstepProcess(['switch', 'start', '--uplink', 'none', '--port', '0', '--json']);
    const port = await listening(service);
    expectOneLine(
      await lockstep(['switch', 'start', '--uplink', 'none', '--port', String(port)]),
      /is in use/,
    );
    service.child.kill('SIGTERM');
    expect((await service.ended).code).toBe(0);
  });

  test('a disk that is missing, read-only or no disk is one line', async () => {
    expectOneLine(await lockstep(['disk', 'serve', join(folder, 'none')]), /does not exist/);
    expectOneLine(await lockstep(['disk', 'serve', folder]), /is a folder/);
    const readOnly = join(folder, 'read-only.img');
    await writeFile(readOnly, Buffer.alloc(512));
    await chmod(readOnly, 0o444);
    expectOneLine(
      await lockstep(['disk', 'serve', readOnly, '--port', '0']),
      /is read-only: make it writable/,
    );
  });

  test('wrong options are one line', async () => {
    expectOneLine(await lockstep(['switch', 'start', '--forward', '80:80']), /write it like tcp:8080:80/);
    expectOneLine(await lockstep(['disk', 'serve', image, '--port', 'http']), /is no port number/);
    expectOneLine(
      await lockstep(['image', 'build', 'windows']),
      /no image is named windows; there are boot, check/,
    );
    expectOneLine(await lockstep(['image', 'build', '--packages', 'nginx']), /--packages needs --name/);
    expectOneLine(
      await lockstep(['image', 'build', 'demo', '--out', image]),
      /disk.img exists: take another name, or remove it/,
    );
    expectOneLine(
      await lockstep(['image', 'seed', image, '--out', join(folder, 'seed.img')]),
      /is no user data of cloud-init/,
    );
    expectOneLine(await lockstep(['frobnicate']), /unknown command 'frobnicate'/);
    expectOneLine(await lockstep(['run']), /--kernel/);
  });

  test('doctor looks at the host and finds nothing that is required missing', async () => {
    const { stdout, code } = await lockstep(['doctor', '--json']);
    const { ok, findings } = JSON.parse(stdout) as {
      ok: boolean;
      findings: { found: boolean; required: boolean }[];
    };
    expect(ok).toBe(findings.every(({ found, required }) => found || !required));
    expect(code).toBe(0);
  });
});
