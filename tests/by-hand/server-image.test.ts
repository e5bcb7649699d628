import { execFile, execFileSync } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { freePorts } from '../../tools/free-ports.ts';
import { LockstepProcess, lockstep } from '../lockstep-process.ts';

const MINUTES = 60_000;
let home = '';
let key = '';
beforeAll(async () => {
  home = await mkdtemp(join(tmpdir(), 'lockstep-server-'));
  key = join(home, 'key');
  execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', key]);
});
let guest: LockstepProcess | undefined;
// Also when the time is over.
afterAll(() => {
  guest?.child.kill('SIGKILL');
  return rm(home, { recursive: true, force: true });
});

interface Built {
  readonly kernel: string;
  readonly initrd: string;
  readonly commandLine: string;
  readonly copy: string;
  readonly packages: readonly string[];
}

let builds = 0;
async function build(...args: string[]): Promise<Built> {
  const disk = join(home, `disk-${++builds}.img`);
  const ended = await lockstep(['image', 'build', ...args, '--out', disk, '--json']);
  expect(ended.stderr + ended.code).toMatch(/0$/);
  return JSON.parse(ended.stdout) as Built;
}

/** Boots it, waits until somebody may log in, and gives what commands over ssh say; powers off at the end. */
async function loggedIn(
  built: Built,
  args: readonly string[],
  user: string,
  use: (ssh: (command: string) => Promise<string>) => Promise<void>,
): Promise<void> {
  const [port] = await freePorts(1);
  guest = new LockstepProcess([
    ...['run', '--kernel', built.kernel, '--initrd', built.initrd, '--append', built.commandLine],
    ...['--disk', built.copy, '--forward', `tcp:${port}:22`, ...args],
  ]);
  try {
    await guest.says('login:');
    const options = [
      ...['-i', key, '-p', String(port), '-o', 'BatchMode=yes', '-o', 'StrictHostKeyChecking=no'],
      ...['-o', `UserKnownHostsFile=${join(home, `known-${port}`)}`, '-o', 'ConnectTimeout=60'],
    ];
    await use(async (command) => {
      const { stdout } = await promisify(execFile)('ssh', [...options, `${user}@127.0.0.1`, command]);
      return stdout;
    });
    await promisify(execFile)('ssh', [...options, `${user}@127.0.0.1`, 'sudo systemctl poweroff']).catch(
      () => undefined,
    );
    expect((await guest.ended).code).toBe(0);
  } finally {
    guest.child.kill('SIGKILL');
  }
}

describe('a Debian server', () => {
  it(
    "is built with packages of one's own, boots, and lets in who has the key",
    async () => {
      const built = await build('--name', 'by-hand', '--packages', 'nginx-light', '--ssh-key', `${key}.pub`);
      expect(built.packages.some((each) => each.startsWith('nginx-light '))).toBe(true);
      await loggedIn(built, [], 'root', async (ssh) => {
        expect((await ssh('hostname')).trim()).toBe('by-hand');
        expect((await ssh('systemctl --failed --plain --no-legend')).trim()).toBe('');
        // The maintainer scripts ran: the web server has its user and runs.
        expect(await ssh('systemctl is-active nginx')).toBe('active\n');
        expect(await ssh('ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub')).toMatch(/SHA256:\S+/);
        expect((await ssh('dpkg --audit')).trim()).toBe('');
      });
    },
    20 * MINUTES,
  );

  it(
    'takes its name, a user, a key and its address from a seed of cloud-init',
    async () => {
      const built = await build('server');
      const publicKey = (await readFile(`${key}.pub`, 'utf8')).trim();
      await writeFile(
        join(home, 'user-data'),
        `#cloud-config\nhostname: seeded\nusers:\n  - name: ada\n    sudo: ALL=(ALL) NOPASSWD:ALL\n    ssh_authorized_keys:\n      - ${publicKey}\nruncmd:\n  - echo done > /run/seeded\n`,
      );
      await writeFile(join(home, 'meta-data'), 'instance-id: i-by-hand\n');
      await writeFile(
        join(home, 'network-config'),
        'version: 2\nethernets:\n  eth0:\n    addresses: [10.0.2.15/24]\n    routes: [{to: 0.0.0.0/0, via: 10.0.2.2}]\n',
      );
      const seed = ['user-data', 'meta-data', 'network-config'].map((name) => join(home, name)).join(',');
      await loggedIn(built, ['--seed', seed], 'ada', async (ssh) => {
        // It ends with 1 when there was an error, and --long says which one.
        expect(await ssh('cloud-init status --wait --long || true')).toContain('status: done');
        expect((await ssh('hostname')).trim()).toBe('seeded');
        expect(await ssh('cat /run/seeded')).toBe('done\n');
        expect(await ssh('networkctl status eth0')).toContain('10-cloud-init-eth0.network');
      });
    },
    40 * MINUTES,
  );
});
