import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { buildImage, type GuestImage } from '../src/host/image/build-image.ts';
import { repositoryRoot } from '../src/host/image/repository.ts';
import type { TestHost } from '../tools/net/test-host.ts';
import { TestNetwork } from '../tools/net/test-network.ts';
import { PairNetwork } from '../tools/pair/pair-network.ts';
import { LockstepProcess, lockstep } from './lockstep-process.ts';
import { ping } from './ping.ts';

const missing = TestNetwork.impossible();
const MINUTES = 60_000;
const MACHINE = {
  memoryBytes: 64 * 2 ** 20,
  disks: [],
  startEpochSeconds: 0,
  seed: '0'.repeat(64),
  debugExit: false,
};

/** Whole guests behind TAPs, on hosts of their own (tools/net). */
describe.skipIf(missing !== undefined)(
  `a guest behind a TAP${missing ? `: skipped, ${missing}` : ''}`,
  () => {
    let hosts: PairNetwork;
    let a: TestHost;
    let client: TestHost;

    beforeAll(async () => {
      hosts = await PairNetwork.create();
      ({ a, client } = hosts.places);
    });

    afterAll(() => hosts?.close());

    it(
      'lockstep run --net tap:NAME: the guest and another host ping each other, up to the MTU',
      async () => {
        const { kernel, initrd } = await image('boot');
        await a.addTap('t9');
        const guest = new LockstepProcess(
          [
            ...['run', '--kernel', kernel, '--initrd', initrd, '--memory', '128M', '--net', 'tap:t0'],
            ...['--net', 'tap:t9'],
            ...['--append', 'console=ttyS0 lockstep.shell=1', '--no-reboot'],
          ],
          { place: a },
        );
        await guest.says('LOCKSTEP-BOOT-READY');
        const type = (text: string) => guest.child.stdin.write(`${text}\n`);
        // What the shell echoes is not what it prints.
        type('ip link set eth0 up; ip address add 10.0.2.15/24 dev eth0; echo up-$((6*7))');
        await guest.says('up-42');
        for (const bytes of [0, 56, 1472]) expect(await ping(client, '10.0.2.15', 5, { bytes })).toBe(5);
        type('ping -c 3 -s 1400 10.0.2.77 && echo pinged-$((6*7))');
        await guest.says('pinged-42');
        // Two interfaces, each with an address of its own.
        type('echo nics-$(cat /sys/class/net/*/address | sort -u | grep -c ^52:54:00)');
        await guest.says('nics-2');
        type('poweroff -f');
        expect((await guest.ended).code).toBe(0);
      },
      3 * MINUTES,
    );

    it('a TAP that cannot be had is one line, for run and for a VM process', async () => {
      const { kernel } = await image('boot');
      const reason =
        /interface br0 is there and is no TAP with one queue: name another one, or ip tuntap add/;
      const run = await lockstep(['run', '--kernel', kernel, '--net', 'tap:br0'], { place: a });
      expect(run.code).toBe(2);
      expect(run.stderr).toMatch(reason);
      expect(run.stderr.trim().split('\n').length).toBe(1);
      const config = {
        role: 'primary',
        vm: 'v',
        machine: { ...MACHINE, nics: [{ mac: '525400000001' }, { mac: '525400000002' }] },
        boot: { kernel },
        network: { taps: ['br0', 't0'] },
      };
      const script = join(repositoryRoot(), 'dist/src/host/vm-process.js');
      const [program = '', ...words] = a.command([process.execPath, script, JSON.stringify(config)]);
      const host = spawnSync(program, words, { encoding: 'utf8' });
      expect(host.status).toBe(2);
      expect(host.stderr).toMatch(reason);
      expect(host.stderr.trim().split('\n').length).toBe(1);
    });
  },
);

async function image(name: 'boot'): Promise<GuestImage> {
  const built = await buildImage(name, { progress: () => undefined });
  if (!built.ok) throw new Error(built.error);
  return built.value;
}
