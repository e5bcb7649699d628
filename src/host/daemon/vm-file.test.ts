import { expect, test } from 'vitest';
import { checkVmFile } from './vm-file.ts';

const SMALLEST = { name: 'web', kernel: '/boot/vmlinuz' };

test('a file needs a name and a kernel, and has defaults for the rest', () => {
  expect(checkVmFile(SMALLEST, 'web.yaml')).toEqual({
    ok: true,
    value: {
      name: 'web',
      memoryBytes: 512 * 2 ** 20,
      boot: { kernel: '/boot/vmlinuz', initrd: undefined, append: 'console=ttyS0' },
      network: undefined,
      faultTolerance: 'off',
      restart: false,
      antiAffinity: [],
      channel: { compress: false },
      timing: {},
      limits: {},
    },
  });
});

test('a VM that may be started again elsewhere has a lease, unless its file names another one', () => {
  const storage = { server: '10.0.0.5:10809', disks: ['vda'] };
  const timing = (fields: object) => {
    const checked = checkVmFile({ ...SMALLEST, storage, restart: true, ...fields }, 'web.yaml');
    return checked.ok ? checked.value.timing : checked.error;
  };
  expect(timing({})).toEqual({ leaseMs: 10_000 });
  expect(timing({ timing: { leaseMs: 30_000 } })).toEqual({ leaseMs: 30_000 });
});

test('disks are on the server, on any NBD server or files, and a lease fences what knows no generations', () => {
  const disks = ['vda', { nbd: 'nbd://10.0.0.6/data' }, { file: '/tools.img', readonly: true }];
  const storage = { server: '10.0.0.5:10809', disks, fencing: 'lease', lateMs: 8000 };
  const checked = checkVmFile({ ...SMALLEST, faultTolerance: 'on', storage }, 'web.yaml');
  expect(checked).toMatchObject({ ok: true, value: { storage, timing: { leaseMs: 10_000 } } });
});

test('disks of each host are raw files, and an arbiter decides that is neither', () => {
  const arbiter = { kind: 'directory', path: '/srv/arbiter' };
  const storage = { mode: 'non-shared', files: ['/srv/web.img'], reads: 'backup' };
  const file = { ...SMALLEST, faultTolerance: 'on', storage, arbiter };
  expect(checkVmFile(file, 'web.yaml')).toMatchObject({ ok: true, value: { storage } });
});

test('MAC addresses are written with colons or without', () => {
  const network = { taps: ['t0', 't1'], macs: ['52:54:00:AB:cd:01', '525400abcd02'] };
  const checked = checkVmFile({ ...SMALLEST, network }, 'web.yaml');
  expect(checked.ok && checked.value.network).toEqual({
    taps: ['t0', 't1'],
    macs: ['525400abcd01', '525400abcd02'],
  });
});

test.each([
  [{ ...SMALLEST, kernel: undefined }, '1 mistake: kernel is missing'],
  [
    {
      ...SMALLEST,
      faultTolerance: 'on',
      storage: { mode: 'non-shared', server: 'h:1', disks: ['vda'], reads: 'never' },
    },
    '5 mistakes: storage.reads is "log" or "backup"; faultTolerance needs an arbiter: a disk server (storage), or arbiter; storage.server is not for non-shared disks; storage.disks is not for non-shared disks; storage.files is missing',
  ],
  [
    { ...SMALLEST, storage: { files: ['/a.img'] } },
    '2 mistakes: storage.disks is missing; storage.files is for disks of mode "non-shared"',
  ],
  [
    {
      ...SMALLEST,
      arbiter: { kind: 'directory', path: '/srv/arbiter' },
      storage: { disks: [{ nbd: 'nbd://h/x' }], fencing: 'lease' },
      timing: { leaseMs: 400 },
    },
    '1 mistake: storage.fencing "lease" needs timing.leaseMs, longer than storage.driftMs',
  ],
  [
    { ...SMALLEST, faultTolerance: 'on', storage: { server: 'nowhere', disks: ['vda'] } },
    '1 mistake: storage.server is no address: write host:port',
  ],
  [{ ...SMALLEST, memory: '5G' }, '1 mistake: memory 5G is too much: a guest has at most 3584M'],
  [{ ...SMALLEST, network: { taps: ['t0', 't1'] } }, '1 mistake: network needs a TAP for each MAC address'],
  [
    { ...SMALLEST, faultTolerance: 'on' },
    '1 mistake: faultTolerance needs an arbiter: a disk server (storage), or arbiter',
  ],
  [
    { ...SMALLEST, timing: { leaseMs: -1, lease: 3 } },
    '2 mistakes: timing.leaseMs is no number above 0; timing.lease is unknown',
  ],
  [
    { ...SMALLEST, storage: { disks: ['vda'] } },
    '1 mistake: storage.server is missing: a disk with a name alone',
  ],
  [
    { ...SMALLEST, storage: { disks: [{ nbd: 'http://h/x' }] } },
    '1 mistake: storage.disks.0.nbd is no NBD server: write nbd://host:port/export',
  ],
  [
    {
      ...SMALLEST,
      restart: true,
      arbiter: { kind: 'directory', path: '/d' },
      storage: { disks: [{ file: '/f' }] },
    },
    '1 mistake: restart: disk /f is a file that only this host has: serve it by lockstep disk serve',
  ],
  [{ ...SMALLEST, arbiter: { kind: 'zookeeper' } }, '1 mistake: arbiter.kind is "etcd" or "directory"'],
  [[], '1 mistake: the file is no object'],
  [null, '1 mistake: the file is no object'],
  ['web', '1 mistake: the file is no object'],
])('%j: %s', (file, mistakes) => {
  const checked = checkVmFile(file, 'web.yaml');
  expect(checked.ok ? 'accepted' : checked.error).toContain(`web.yaml has ${mistakes}`);
});
