import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { ClusterContent, Host, Instance, Vm } from './content.ts';
import { Placement, placeBackup, placeMove, placeRestart } from './placement.ts';

const MIB = 2 ** 20;

function host(name: string, fields: Partial<Host> = {}): Host {
  const presence = { api: `${name}:1`, certificate: name, build: 'b1', logFormat: 2, snapshotFormat: 2 };
  return { name, presence, memoryBytes: 4096 * MIB, cores: 8, maintenance: false, ...fields };
}

function vm(name: string, fields: Partial<Vm> = {}): Vm {
  const wishes = { power: 'on', faultTolerance: 'on', restart: true, antiAffinity: [] } as const;
  return { name, memoryBytes: 700 * MIB, ...wishes, ...fields };
}

function instance(of: string, on: string, state = 'SOLE', fields: Partial<Instance> = {}): Instance {
  const role = ['WAIT', 'LOAD', 'BACK', 'ASK'].includes(state) ? 'backup' : 'primary';
  return {
    vm: of,
    host: on,
    id: `${of}-${on}`,
    role,
    state,
    memoryBytes: 700 * MIB,
    address: undefined,
    ...fields,
  };
}

function content(hosts: readonly Host[], vms: readonly Vm[], instances: readonly Instance[]): ClusterContent {
  return { hosts, vms, instances };
}

const presenceWith = (fields: Partial<NonNullable<Host['presence']>>) => ({
  presence: { api: 'x:1', certificate: 'x', build: 'b1', logFormat: 2, snapshotFormat: 2, ...fields },
});

describe('placement', () => {
  test('one line says of every host why not', () => {
    const full = instance('vm2', 'c', 'SOLE', { memoryBytes: 3796 * MIB });
    const everywhere = content(
      [
        host('a'),
        host('b', { maintenance: true }),
        host('c'),
        host('d', { presence: undefined }),
        host('e', presenceWith({ build: 'b2' })),
        host('f', presenceWith({ logFormat: 3 })),
        host('g'),
        host('h'),
      ],
      [vm('vm1'), vm('vm2')],
      [instance('vm1', 'a'), full, instance('vm1', 'h', 'FAILED')],
    );
    expect(placeBackup(everywhere, 'vm1', ['g'])).toEqual({
      ok: false,
      error:
        "no host takes vm1's backup: a has vm1's primary; b is in maintenance; c has 300 MiB free of the 700 it " +
        'needs; d is out of reach; e runs another build; f has log format 3, a has 2; g has been tried; h could not ' +
        'start it',
    });
    expect(placeBackup(everywhere, 'vm1')).toEqual({ ok: true, value: 'g' });
  });

  test('of many hosts they are counted', () => {
    const hosts = Array.from({ length: 100 }, (_, n) => host(`h${n}`, { maintenance: n > 0 }));
    const placed = placeBackup(content(hosts, [vm('vm1')], [instance('vm1', 'h0')]), 'vm1');
    expect(placed).toEqual({
      ok: false,
      error:
        "no host takes vm1's backup: h0 has vm1's primary; 99 hosts: in maintenance, as h1 is in maintenance and h10 " +
        'is in maintenance',
    });
  });

  test('what is asked for has to be there', () => {
    const one = content([host('a')], [vm('vm1')], []);
    expect(placeBackup(one, 'vm9')).toEqual({ ok: false, error: 'there is no VM named vm9' });
    expect(placeRestart(one, 'vm9')).toEqual({ ok: false, error: 'there is no VM named vm9' });
    expect(placeBackup(one, 'vm1')).toEqual({ ok: false, error: 'vm1 runs on no host that is present' });
    const none = content([], [vm('vm1')], []);
    expect(placeRestart(none, 'vm1')).toEqual({
      ok: false,
      error: 'no host takes vm1: the cluster has none',
    });
  });

  test('a backup that waits already is taken, although its host has no memory left', () => {
    const waiting = instance('vm1', 'b', 'WAIT', { memoryBytes: 4000 * MIB });
    const placed = placeBackup(
      content([host('a'), host('b'), host('c')], [vm('vm1')], [instance('vm1', 'a'), waiting]),
      'vm1',
    );
    expect(placed).toEqual({ ok: true, value: 'b' });
  });

  test('the primary’s process says how much memory a backup needs, and not the record that came after it', () => {
    const hosts = [host('a'), host('b', { memoryBytes: 1000 * MIB })];
    const grown = [vm('vm1', { memoryBytes: 2000 * MIB })];
    expect(placeBackup(content(hosts, grown, [instance('vm1', 'a')]), 'vm1').ok).toBe(true);
    expect(placeRestart(content([hosts[1]!], grown, []), 'vm1').ok).toBe(false);
  });

  test('VMs of one group are kept apart before memory is looked at, and together rather than nowhere', () => {
    const groups = { antiAffinity: ['db'] };
    const vms = [vm('vm1', groups), vm('vm2', groups), vm('vm3')];
    const instances = [
      instance('vm1', 'a'),
      instance('vm2', 'b'),
      instance('vm3', 'c', 'SOLE', { memoryBytes: 3000 * MIB }),
    ];
    const hosts = ['a', 'b', 'c'].map((name) => host(name));
    expect(placeBackup(content(hosts, vms, instances), 'vm1')).toEqual({ ok: true, value: 'c' });
    const withoutC = [...hosts.slice(0, 2), host('c', { maintenance: true })];
    expect(placeBackup(content(withoutC, vms, instances), 'vm1')).toEqual({ ok: true, value: 'b' });
  });

  test('cores count before memory, for backups as for primaries', () => {
    const hosts = [host('a'), host('b', { cores: 1, memoryBytes: 9999 * MIB }), host('c', { cores: 2 })];
    const small = { memoryBytes: MIB };
    const instances = [
      instance('vm1', 'a'),
      instance('vm2', 'b', 'BACK', small),
      instance('vm3', 'c', 'SOLE', small),
    ];
    const placed = placeBackup(content(hosts, [vm('vm1'), vm('vm2'), vm('vm3')], instances), 'vm1');
    expect(placed).toEqual({ ok: true, value: 'c' });
  });

  test('the one host with a free core is found among many', () => {
    const crowded = Array.from({ length: 20 }, (_, n) => host(`h${n}`, { cores: 1 }));
    const busy = crowded.map(({ name }) => instance('vm2', name, 'SOLE', { memoryBytes: 0 }));
    const hosts = [...crowded, host('z', { memoryBytes: 800 * MIB })];
    expect(placeRestart(content(hosts, [vm('vm1'), vm('vm2')], busy), 'vm1')).toEqual({
      ok: true,
      value: 'z',
    });
  });

  test('a move goes to another build and log format when it must, and never to another snapshot format', () => {
    const instances = [instance('vm1', 'a')];
    const [a, same, newer, other] = [
      host('a'),
      host('b', { memoryBytes: 800 * MIB }),
      host('c', presenceWith({ build: 'b2', logFormat: 3 })),
      host('d', presenceWith({ snapshotFormat: 3 })),
    ];
    expect(placeMove(content([a, same, newer], [vm('vm1')], instances), 'vm1')).toEqual({
      ok: true,
      value: 'b',
    });
    expect(placeMove(content([a, newer], [vm('vm1')], instances), 'vm1')).toEqual({ ok: true, value: 'c' });
    expect(placeMove(content([a, other], [vm('vm1')], instances), 'vm1')).toEqual({
      ok: false,
      error: "no host takes vm1: a has vm1's primary; d has snapshot format 3, a has 2",
    });
  });

  test('while a VM is handed over, the side that goes on is the one that a backup is for', () => {
    const hosts = [host('a', presenceWith({ build: 'old' })), host('b'), host('c')];
    const instances = [instance('vm1', 'a', 'YIELD'), instance('vm1', 'b', 'SOLE')];
    expect(placeBackup(content(hosts, [vm('vm1')], instances), 'vm1')).toEqual({ ok: true, value: 'c' });
  });
});

// ------------------------------------------------------------------------------------ properties

const HOSTS = ['a', 'b', 'c', 'd', 'e'];
const VMS = ['vm1', 'vm2', 'vm3', 'vm4'];
const STATES = ['SOLE', 'PAIR', 'COPY', 'WAIT', 'LOAD', 'BACK', 'HALT', 'FAILED'];

const anyHost = (name: string) =>
  fc
    .record({
      present: fc.oneof({ arbitrary: fc.constant(true), weight: 3 }, fc.boolean()),
      build: fc.constantFrom('b1', 'b1', 'b1', 'b2'),
      logFormat: fc.constantFrom(2, 2, 2, 3),
      memory: fc.integer({ min: 0, max: 40 }),
      cores: fc.integer({ min: 1, max: 6 }),
      maintenance: fc.constantFrom(false, false, false, true),
    })
    .map(({ present, build, logFormat, memory, cores, maintenance }) =>
      host(name, {
        ...(present ? presenceWith({ build, logFormat }) : { presence: undefined }),
        memoryBytes: memory * 100 * MIB,
        cores,
        maintenance,
      }),
    );

const anyContent: fc.Arbitrary<ClusterContent> = fc.record({
  hosts: fc.tuple(...HOSTS.map(anyHost)),
  vms: fc.tuple(
    ...VMS.map((name) =>
      fc
        .record({
          memory: fc.integer({ min: 1, max: 15 }),
          antiAffinity: fc.subarray(['x', 'y']),
        })
        .map(({ memory, antiAffinity }) => vm(name, { memoryBytes: memory * 100 * MIB, antiAffinity })),
    ),
  ),
  instances: fc.uniqueArray(
    fc
      .tuple(
        fc.constantFrom(...VMS),
        fc.constantFrom(...HOSTS),
        fc.constantFrom(...STATES),
        fc.integer({ min: 1, max: 15 }),
      )
      .map(([of, on, state, memory]) => instance(of, on, state, { memoryBytes: memory * 100 * MIB })),
    { selector: ({ id }) => id, maxLength: 12 },
  ),
});

/** The rules again, as plainly as can be. */
function mayTake(
  { hosts, instances }: ClusterContent,
  name: string,
  of: Vm,
  what: 'backup' | 'restart',
  except: readonly string[],
): boolean {
  const on = (place: string) => instances.filter((one) => one.host === place);
  const candidate = hosts.find((one) => one.name === name)!;
  const used = on(name).reduce(
    (sum, { state, memoryBytes }) => (state === 'FAILED' ? sum : sum + memoryBytes),
    0,
  );
  const own = on(name).filter((one) => one.vm === of.name);
  const main = mainOf(instances, hosts, of.name);
  const needed = what === 'backup' ? main!.memoryBytes : of.memoryBytes;
  const version = hosts.find((one) => one.name === main?.host)?.presence;
  const spare = own.some(({ state }) => state === 'WAIT');
  return (
    candidate.presence !== undefined &&
    !candidate.maintenance &&
    !except.includes(name) &&
    !own.some(({ state }) => state === 'FAILED') &&
    (spare || candidate.memoryBytes - used >= needed) &&
    (what === 'restart' ||
      (candidate.presence.build === version!.build &&
        candidate.presence.logFormat === version!.logFormat &&
        own.every(({ state }) => ['WAIT', 'HALT', 'FAILED'].includes(state))))
  );
}

function mainOf(instances: readonly Instance[], hosts: readonly Host[], of: string): Instance | undefined {
  const present = (name: string) => hosts.find((one) => one.name === name)?.presence !== undefined;
  return [...instances]
    .sort((a, b) => (a.id < b.id ? -1 : 1))
    .find(
      (one) =>
        one.vm === of &&
        one.role === 'primary' &&
        !['HALT', 'FAILED'].includes(one.state) &&
        present(one.host),
    );
}

describe('whatever the cluster holds', () => {
  const runs = { numRuns: 1500 };

  test('the host that is chosen may be, and where none is chosen none may be', () => {
    let chosen = 0;
    fc.assert(
      fc.property(anyContent, fc.subarray(HOSTS), (cluster, except) => {
        for (const of of cluster.vms) {
          for (const what of ['backup', 'restart'] as const) {
            if (what === 'backup' && !mainOf(cluster.instances, cluster.hosts, of.name)) continue;
            const place = what === 'backup' ? placeBackup : placeRestart;
            const placed = place(cluster, of.name, except);
            const possible = HOSTS.filter((name) => mayTake(cluster, name, of, what, except));
            if (placed.ok) expect(possible).toContain(placed.value);
            else expect(possible).toEqual([]);
            if (!placed.ok) for (const name of HOSTS) expect(placed.error).toContain(`${name} `);
            if (!placed.ok) expect(placed.error).not.toContain('\n');
            chosen += placed.ok ? 1 : 0;
          }
        }
      }),
      runs,
    );
    expect(chosen).toBeGreaterThan(runs.numRuns);
  });

  test('the order in which the content comes changes nothing', () => {
    fc.assert(
      fc.property(
        anyContent.chain((cluster) =>
          fc.record({
            cluster: fc.constant(cluster),
            shuffled: fc.record({
              hosts: shuffled(cluster.hosts),
              vms: shuffled(cluster.vms),
              instances: shuffled(cluster.instances),
            }),
          }),
        ),
        (both) => {
          for (const name of VMS) {
            expect(placeBackup(both.shuffled, name)).toEqual(placeBackup(both.cluster, name));
            expect(placeRestart(both.shuffled, name)).toEqual(placeRestart(both.cluster, name));
            expect(placeMove(both.shuffled, name)).toEqual(placeMove(both.cluster, name));
          }
        },
      ),
      { numRuns: 400 },
    );
  });

  test('one index for many decisions gives what a new one would, and no host is filled beyond its memory', () => {
    fc.assert(
      fc.property(anyContent, (cluster) => {
        const placement = new Placement(cluster);
        let grown = cluster;
        for (const of of cluster.vms) {
          const placed = placement.restart(of.name, []);
          expect(placed).toEqual(placeRestart(grown, of.name));
          if (!placed.ok) continue;
          const { freeBytes } = placement.index.hosts.get(placed.value)!;
          const waits = cluster.instances.some(
            (one) => one.vm === of.name && one.host === placed.value && one.state === 'WAIT',
          );
          expect(waits || freeBytes >= of.memoryBytes).toBe(true);
          placement.reserve(of.name, 'primary', placed.value, of.memoryBytes);
          const started = instance(of.name, placed.value, 'STARTING', {
            id: '',
            memoryBytes: of.memoryBytes,
          });
          grown = { ...grown, instances: [...grown.instances, started] };
        }
      }),
      { numRuns: 500 },
    );
  });
});

function shuffled<Value>(list: readonly Value[]): fc.Arbitrary<Value[]> {
  return fc.shuffledSubarray([...list], { minLength: list.length });
}
