import { execFileSync, spawnSync } from 'node:child_process';
import { chmodSync, existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { repositoryRoot } from '../src/host/image/repository.ts';
import type * as Device from '../src/network/tap-device.ts';
import type { TestHost } from '../tools/net/test-host.ts';
import { TestNetwork } from '../tools/net/test-network.ts';

const missing = TestNetwork.impossible();
/** Who may nothing: `nobody` of every Linux. */
const NOBODY = 65534;
/** Its thread runs what was built. */
const DEVICE = pathToFileURL(join(repositoryRoot(), 'dist/src/network/tap-device.js')).href;

describe.skipIf(missing !== undefined)(`attaching a TAP${missing ? `: skipped, ${missing}` : ''}`, () => {
  let network: TestNetwork;
  let host: TestHost;
  let TapDevice: typeof Device.TapDevice;
  let folder = '';
  /** The driver's device, open to all users as most systems have it. */
  let tun = '';
  const attached: Device.TapDevice[] = [];

  beforeAll(async () => {
    ({ TapDevice } = (await import(DEVICE)) as typeof Device);
    network = await TestNetwork.create();
    host = await network.host('a');
    folder = mkdtempSync(join(tmpdir(), 'lockstep-tap-'));
    chmodSync(folder, 0o755);
    tun = join(folder, 'tun');
    execFileSync('mknod', ['--mode', '0666', tun, 'c', '10', '200']);
  });

  afterAll(async () => {
    rmSync(folder, { recursive: true, force: true });
    await network?.close();
  });

  afterEach(async () => {
    for (const device of attached.splice(0)) await device.close();
  });

  /** Undefined when it went well. */
  function attach(name: string, as: 'root' | 'nobody', device = tun): string | undefined {
    const result = host.enter(() => {
      if (as === 'nobody') process.seteuid?.(NOBODY);
      try {
        return TapDevice.attach(name, device);
      } finally {
        process.seteuid?.(0);
      }
    });
    if (result.ok) attached.push(result.value);
    return result.ok ? undefined : result.error;
  }

  /** Does as root what the error says. */
  async function follow(error: string | undefined): Promise<void> {
    const [, command = ''] = /as root, ip (.*)$/.exec(error ?? '') ?? [];
    for (const each of command.split('; ip ')) await host.namespace.ip(each);
  }

  const isThere = (name: string) =>
    spawnSync('ip', ['-n', host.namespace.name, 'link', 'show', name]).status === 0;

  it('makes one that is not there, where it may, and it goes with the process that made it', async () => {
    expect(attach('made', 'root')).toBeUndefined();
    const [{ flags }] = JSON.parse(await host.namespace.ip('-j link show made')) as [{ flags: string[] }];
    // Up, and without a carrier.
    expect(flags).toContain('UP');
    expect(flags).toContain('NO-CARRIER');
    await attached.pop()?.close();
    expect(isThere('made')).toBe(false);
  });

  it('throws away what was queued before the cable was plugged in', async () => {
    expect(attach('queued', 'root')).toBeUndefined();
    const said: string[] = [];
    const run = ([program = '', ...args]: string[]) => execFileSync(program, args);
    const send = (text: string) => run(host.command(['bash', '-c', `echo -n ${text} >/dev/udp/10.77.1.2/9`]));
    await host.namespace.ip('addr add 10.77.1.1/24 dev queued');
    await host.namespace.ip('link set queued carrier on');
    await host.namespace.ip('neigh add 10.77.1.2 lladdr 02:00:00:00:00:02 dev queued nud permanent');
    for (const text of ['old-1', 'old-2']) send(text);
    const [device] = attached;
    await new Promise<void>((resolve, reject) => {
      device!.plugIn({
        packet: ({ frame }) => {
          const text = /(old|new)-\d$/.exec(Buffer.from(frame).toString('latin1'))?.[0];
          if (text !== undefined) said.push(text);
          if (text === 'new-1') resolve();
        },
        ended: (reason) => reject(new Error(reason)),
      });
      send('new-1');
    });
    expect(said).toEqual(['new-1']);
  });

  it('takes one that was made for this user, and leaves it there', async () => {
    await host.addTap('mine', 'nobody');
    expect(attach('mine', 'nobody')).toBeUndefined();
    await attached.pop()?.close();
    expect(isThere('mine')).toBe(true);
  });

  it('without permission says what root has to do, and that is enough', async () => {
    const error = attach('t9', 'nobody');
    expect(error).toBe(
      'TAP t9 does not exist, and user nobody may not make it: as root, ip tuntap add dev t9 mode tap user nobody',
    );
    await follow(error);
    const down = attach('t9', 'nobody');
    expect(down).toBe('TAP t9 is down: as root, ip link set t9 up');
    await follow(down);
    expect(attach('t9', 'nobody')).toBeUndefined();
  });

  it('says that one belongs to another user, and how to change that', async () => {
    await host.addTap('theirs', 'root');
    const error = attach('theirs', 'nobody');
    expect(error).toMatch(
      /^TAP theirs belongs to another user: as root, ip tuntap del dev theirs mode tap; /,
    );
    await follow(error);
    await follow(attach('theirs', 'nobody'));
    expect(attach('theirs', 'nobody')).toBeUndefined();
  });

  it('says that another process has it', async () => {
    await host.addTap('busy');
    expect(attach('busy', 'root')).toBeUndefined();
    expect(attach('busy', 'root')).toBe(
      'TAP busy is in use: end the other process that has it, or name another TAP',
    );
  });

  it('says that an interface is no TAP, or one with several queues', async () => {
    await host.namespace.ip('tuntap add dev queues mode tap multi_queue');
    await host.namespace.ip('tuntap add dev tun0 mode tun');
    for (const name of ['br0', 'queues', 'tun0'])
      expect(attach(name, 'root')).toMatch(`interface ${name} is there and is no TAP with one queue`);
  });

  it('refuses names that no interface can have', () => {
    for (const name of ['', '.', '..', 'a/b', 'a b', 'a:b', 'tap%d', 'täp', 'a\0b'])
      expect(attach(name, 'root')).toMatch(/ is no name for a TAP: 1 to 15 letters/);
    expect(attach('sixteen-letters-', 'root')).toMatch(/is too long: 15 characters at most/);
    expect(attach('fifteen-letters', 'root')).toBeUndefined();
  });

  it('says that the driver is not there, or closed to this user', () => {
    const absent = join(folder, 'absent');
    expect(attach('t0', 'root', absent)).toBe(
      `this host has no ${absent}: modprobe tun, or give the device to this container (--device ${absent})`,
    );
    chmodSync(tun, 0o600);
    expect(attach('t0', 'nobody')).toBe(`${tun} is closed to user nobody: as root, chmod 0666 ${tun}`);
    chmodSync(tun, 0o666);
    expect(existsSync(absent)).toBe(false);
  });
});
