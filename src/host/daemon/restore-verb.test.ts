import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { failed, ok, type Result } from '../../base/result.ts';
import { SnapshotVerbs } from './snapshot-verbs.ts';

/** `vm restore` against a cluster that is played: what it creates, and what it leaves when something fails. */

let parent: string;
let folder: string;
const network = { switch: '10.0.0.5:7000', macs: ['52:54:00:00:00:01'] };
const file = { name: 'web', kernel: '/k', network };
beforeEach(async () => {
  parent = await mkdtemp(join(tmpdir(), 'lockstep-restore-'));
  folder = join(parent, 's');
  await mkdir(folder);
  const disk = (readOnly: boolean) => ({ capacity: 4096, readOnly, serial: 'x' });
  const machine = {
    memoryBytes: 2 ** 20,
    disks: [disk(false), disk(true)],
    nics: [{ mac: '525400000001' }],
    startEpochSeconds: 0,
    seed: '0'.repeat(64),
    debugExit: false,
  };
  await writeFile(join(folder, 'snapshot.json'), JSON.stringify({ version: 1, vm: 'web', machine, file }));
  for (const index of [0, 1]) await writeFile(join(folder, `disk-${index}.img`), Buffer.alloc(4096, index));
});
afterEach(() => rm(parent, { recursive: true }));

interface Played {
  readonly running?: readonly { readonly vm: string; readonly definition: object }[];
  readonly created?: Result<void>;
  readonly started?: Result<void>;
}

function cluster({ running = [], created = ok(undefined), started = ok(undefined) }: Played = {}) {
  const done: string[] = [];
  const definitions: object[] = [];
  const instances = running.map(({ vm }) => ({ vm, host: 'b', id: vm, role: 'primary', state: 'SOLE' }));
  const vms = new Map(running.map(({ vm, definition }) => [vm, { value: { definition } }]));
  const daemon = {
    name: 'a',
    member: { reading: { content: { instances }, vms } },
    host: () => ok({}),
  };
  const verbs = {
    create: async (definition: object) => {
      done.push('create');
      definitions.push(definition);
      return created;
    },
    destroy: async () => {
      done.push('destroy');
      return ok(undefined);
    },
    startOn: async () => {
      done.push('start');
      return started;
    },
  };
  return { verbs: new SnapshotVerbs(daemon as never, verbs as never), done, definitions };
}

test('the new VM has disks of its own, and what was read-only is so again', async () => {
  const { verbs, done, definitions } = cluster();
  expect(await verbs.restore(folder, 'web2')).toEqual(ok(undefined));
  const own = `${folder}.web2`;
  expect(definitions).toMatchObject([
    {
      name: 'web2',
      network,
      storage: {
        disks: [{ file: join(own, 'disk-0.img') }, { file: join(own, 'disk-1.img'), readonly: true }],
      },
    },
  ]);
  expect([done, await readdir(own)]).toEqual([
    ['create', 'start'],
    ['disk-0.img', 'disk-1.img'],
  ]);
});

test('what fails leaves neither disks nor a VM', async () => {
  const notCreated = cluster({ created: failed('there is a VM "web2" already') });
  expect(await notCreated.verbs.restore(folder, 'web2')).toMatchObject({ ok: false });
  expect(notCreated.done).toEqual(['create']);
  const notStarted = cluster({ started: failed('host a has no memory left') });
  expect(await notStarted.verbs.restore(folder, 'web2')).toEqual(failed('host a has no memory left'));
  expect(notStarted.done).toEqual(['create', 'start', 'destroy']);
  await rm(join(folder, 'disk-1.img'));
  const notCopied = cluster();
  expect(await notCopied.verbs.restore(folder, 'web2')).toMatchObject({ ok: false });
  expect(notCopied.done).toEqual(['create', 'destroy']);
  expect(await readdir(parent)).toEqual(['s']);
});

test('a folder that is there already stays as it is', async () => {
  await mkdir(`${folder}.web2`);
  await writeFile(join(`${folder}.web2`, 'disk-0.img'), 'mine');
  const { verbs, done } = cluster();
  expect(await verbs.restore(folder, 'web2')).toMatchObject({
    error: expect.stringContaining('is there already: name another folder'),
  });
  expect([done, await readdir(`${folder}.web2`)]).toEqual([['create', 'destroy'], ['disk-0.img']]);
});

test('a name that is none is refused before anything is done', async () => {
  const { verbs, done } = cluster();
  expect(await verbs.restore(folder, '../web2')).toMatchObject({ error: expect.stringContaining('no name') });
  expect([done, await readdir(parent)]).toEqual([[], ['s']]);
});

test('no running VM has its MAC addresses, whatever its name; unless it has no network', async () => {
  const definition = { name: 'other', kernel: '/k', network: { taps: ['t'], macs: ['525400000001'] } };
  const running = [{ vm: 'other', definition }];
  const { verbs } = cluster({ running });
  expect(await verbs.restore(folder, 'web2')).toEqual(
    failed(
      'other runs on b, and the restored guest has its MAC addresses: add --without-network, or stop other first',
    ),
  );
  expect(await verbs.restore(folder, 'web2', { alone: true })).toEqual(ok(undefined));
  const elsewhere = { ...definition, network: { taps: ['t'], macs: ['525400000002'] } };
  const apart = cluster({ running: [{ vm: 'other', definition: elsewhere }] });
  expect(await apart.verbs.restore(folder, 'web3')).toEqual(ok(undefined));
});
