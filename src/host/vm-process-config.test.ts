import { expect, test } from 'vitest';
import { parseVmProcessConfig } from './vm-process-config.ts';

const machine = {
  memoryBytes: 64 * 2 ** 20,
  disks: [{ capacity: 4096, readOnly: false, serial: 'd0' }],
  nics: [],
  startEpochSeconds: 0,
  seed: '0'.repeat(64),
  debugExit: false,
};
const storage = { address: '127.0.0.1:10809', disks: ['d0'] };
const primary = {
  role: 'primary',
  vm: 'v',
  machine,
  boot: { kernel: 'k' },
  storage,
  protect: '127.0.0.1:7000',
  channel: { credentials: 'channel.json' },
};
const parse = (value: unknown) => parseVmProcessConfig(JSON.stringify(value));

test('a right configuration gives the defaults for what it leaves out', () => {
  const config = parse({ ...primary, timing: { suspicionMs: 300 } });
  expect(config).toMatchObject({
    ok: true,
    value: {
      expectedEpoch: 0,
      timing: { suspicionMs: 300, heartbeatMs: 100 },
      boot: { kernel: 'k', append: '' },
    },
  });
});

test('both sides of a pair have the same identity, and another machine has another one', () => {
  const identity = (value: unknown): string => {
    const config = parse(value);
    return config.ok ? config.value.identity : config.error;
  };
  const backup = {
    ...primary,
    role: 'backup',
    boot: undefined,
    protect: undefined,
    listen: '127.0.0.1:7000',
  };
  expect(identity(backup)).toBe(identity(primary));
  expect(identity({ ...backup, machine: { ...machine, startEpochSeconds: 1 } })).not.toBe(identity(primary));
});

test('the error names all that is wrong, on one line', () => {
  const config = parse({
    role: 'x',
    machine: { ...machine, seed: 'z' },
    listen: 'nowhere',
    timing: { heartbeat: 1 },
  });
  expect(config.ok).toBe(false);
  const error = config.ok ? '' : config.error;
  for (const part of [
    'role is',
    'vm is missing',
    'bad seed',
    'a primary needs a kernel',
    '"nowhere"',
    'heartbeat',
  ]) {
    expect(error).toContain(part);
  }
  expect(error).not.toContain('\n');
  expect(parseVmProcessConfig('{')).toMatchObject({ ok: false });
});

test('an arbiter beside the disk server is etcd or a directory, and anything else is one line', () => {
  const arbiter = (value: unknown) => {
    const parsed = parseVmProcessConfig(JSON.stringify({ ...primary, arbiter: value }));
    return parsed.ok ? parsed.value.arbiter : parsed.error;
  };
  const etcd = { kind: 'etcd', endpoints: ['http://10.0.0.1:2379', 'https://10.0.0.2:2379'] };
  expect(arbiter(etcd)).toEqual(etcd);
  expect(arbiter({ kind: 'directory', path: '/srv/lockstep' })).toEqual({
    kind: 'directory',
    path: '/srv/lockstep',
  });
  expect(arbiter(undefined)).toBeUndefined();
  expect(arbiter({ kind: 'etcd', endpoints: ['10.0.0.1:2379'] })).toMatch(/etcd needs the URLs/);
  expect(arbiter({ kind: 'etcd' })).toMatch(/etcd needs the URLs/);
  expect(arbiter({ kind: 'directory', path: 'here' })).toMatch(/a directory needs its path/);
  expect(arbiter({ kind: 'zookeeper' })).toMatch(/kind is "etcd" or "directory"/);
});

test('non-shared disks need a raw file each, and an arbiter that is neither side', () => {
  const arbiter = { kind: 'directory', path: '/srv/lockstep' };
  const own = (storage: object, decides: object | undefined = arbiter) => {
    const parsed = parse({ ...primary, storage: { mode: 'non-shared', ...storage }, arbiter: decides });
    return parsed.ok ? parsed.value : parsed.error;
  };
  expect(own({ files: ['/a.img'] })).toMatchObject({
    diskFiles: ['/a.img'],
    diskMode: { own: true, backupReads: false, bytes: [4096] },
  });
  expect(own({ files: ['/a.img'], reads: 'backup' })).toMatchObject({ diskMode: { backupReads: true } });
  expect(own({})).toMatch(/non-shared disks need "files"/);
  expect(own({ files: [] })).toMatch(/storage names fewer than 1 disks/);
  expect(own({ files: ['/a.img'] }, null as never)).toMatch(
    /non-shared disks need one that both sides reach/,
  );
  expect(parse({ ...primary, storage: { ...storage, mode: 'mirrored' } })).toMatchObject({ ok: false });
  expect(parse({ ...primary, storage: { ...storage, reads: 'never' } })).toMatchObject({ ok: false });
});

test('a network is a switch, or one TAP for each interface; all that is wrong is named', () => {
  const nics = [{ mac: '525400000001' }, { mac: '525400000002' }];
  const network = (value: unknown) => {
    const parsed = parse({ ...primary, machine: { ...machine, nics }, network: value });
    return parsed.ok ? parsed.value.network : parsed.error;
  };
  expect(network(undefined)).toBeUndefined();
  expect(network('127.0.0.1:10810')).toEqual({
    kind: 'switch',
    address: { host: '127.0.0.1', port: 10810 },
  });
  expect(network({ taps: ['t0', 'vm1-net_0.eth'] })).toEqual({ kind: 'taps', taps: ['t0', 'vm1-net_0.eth'] });
  expect(network('nowhere')).toMatch(/: network: "nowhere"/);
  expect(network({ taps: 't0' })).toMatch(/network is the "host:port" of a switch, or/);
  expect(network(7)).toMatch(/network is the "host:port" of a switch, or/);
  const wrong = network({ taps: ['a/b', 'sixteen-letters-', 'a/b'], bridge: 'br0' });
  for (const part of [
    /network: bridge is unknown/,
    /network: "a\/b" is no name for a TAP/,
    /network: TAP name sixteen-letters- is too long: 15/,
    /network: each interface needs a TAP of its own/,
    /network names 3 TAPs, and the machine has 2 interfaces$/,
  ])
    expect(wrong).toMatch(part);
});

test('disks are named on the server, or by the URL of an NBD server, or as a file, each readonly or not', () => {
  const disk = (serial: string) => ({ capacity: 512, readOnly: false, serial });
  const machine = { ...(primary as { machine: object }).machine, disks: ['a', 'b', 'c', 'd'].map(disk) };
  const disks = ['d0', { name: 'd1', readonly: true }, { nbd: 'nbd+unix:///x?socket=/s' }, { file: '/f' }];
  const config = parse({ ...primary, protect: undefined, machine, storage: { ...storage, disks } });
  const server = { host: '127.0.0.1', port: 10809 };
  expect(config.ok && config.value.storage?.disks).toEqual([
    { kind: 'served', address: { ...server, disk: 'd0' }, readOnly: false },
    { kind: 'served', address: { ...server, disk: 'd1' }, readOnly: true },
    { kind: 'nbd', address: { socket: '/s', disk: 'x' }, readOnly: false },
    { kind: 'file', path: '/f', readOnly: false },
  ]);
});

test.each([
  [{ file: '/f' }, /disk \/f is a file that only this host has: serve it by lockstep disk serve/],
  [{ nbd: 'nbd://h/x' }, /the NBD server of disk nbd:\/\/h:10809\/x fences nobody: use lockstep disk serve/],
])('what nobody fences is refused under fault tolerance: %o', (disk, error) => {
  const arbiter = { kind: 'directory', path: '/d' };
  const channel = { security: 'none' };
  const fault = { ...primary, channel, arbiter, protect: '127.0.0.1:1' };
  expect(parse({ ...fault, storage: { disks: [disk] } })).toMatchObject({
    error: expect.stringMatching(error),
  });
  expect(parse({ ...fault, storage: { disks: [{ ...disk, readonly: true }] } }).ok).toBe(true);
  const alone = { ...primary, protect: undefined, arbiter, storage: { disks: [disk] } };
  expect(parse(alone).ok).toBe(true);
});

test('a lease fences a foreign server, within its times, where the arbiter gives one', () => {
  const arbiter = { kind: 'directory', path: '/d' };
  const leased = { fencing: 'lease', disks: [{ nbd: 'nbd://h/x' }], driftMs: 100, lateMs: 2000 };
  const config = {
    ...primary,
    channel: { security: 'none' },
    arbiter,
    protect: '127.0.0.1:1',
    storage: leased,
  };
  const parsed = parse({ ...config, timing: { leaseMs: 4000 } });
  expect(parsed.ok && parsed.value.storage?.lease).toEqual({ driftMs: 100, lateMs: 2000 });
  expect(parse(config)).toMatchObject({ error: expect.stringContaining('needs timing.leaseMs') });
  // The other host's socket of that name is another server's.
  const local = { ...leased, disks: [{ nbd: 'nbd+unix:///x?socket=/s' }] };
  expect(parse({ ...config, storage: local, timing: { leaseMs: 4000 } })).toMatchObject({
    error: expect.stringContaining('is behind a socket of this host'),
  });
});
