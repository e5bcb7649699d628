import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ClusterWorld } from '../../sim/cluster/cluster-world.ts';
import { hostMilliseconds } from '../base/units.ts';
import type { ClusterContent, Host, Instance, Vm } from './content.ts';
import { LostHosts, PATIENCE_MS } from './lost-hosts.ts';
import { protectionOf } from './protection.ts';
import { decide } from './reconcile.ts';

const GIB = 2 ** 30;
const NONE: ReadonlySet<string> = new Set();

function host(name: string, fields: Partial<Host> = {}): Host {
  const presence = { api: `${name}:1`, certificate: name, build: 'b1', logFormat: 2, snapshotFormat: 2 };
  return { name, presence, memoryBytes: 8 * GIB, cores: 8, maintenance: false, ...fields };
}

function vm(name: string, fields: Partial<Vm> = {}): Vm {
  const wishes = { power: 'on', faultTolerance: 'on', restart: true, antiAffinity: [] } as const;
  return { name, memoryBytes: GIB, ...wishes, ...fields };
}

function instance(of: string, on: string, state: string): Instance {
  const role = ['WAIT', 'LOAD', 'BACK', 'ASK', 'EARLY', 'OPEN'].includes(state) ? 'backup' : 'primary';
  return { vm: of, host: on, id: `${of}-${on}`, role, state, memoryBytes: GIB, address: undefined };
}

const absent = (name: string) => host(name, { presence: undefined });
const resting = (name: string) => host(name, { maintenance: true });
const cluster = (hosts: Host[], vms: Vm[], instances: Instance[]): ClusterContent => ({
  hosts,
  vms,
  instances,
});

describe('restart', () => {
  const three = (instances: Instance[], a: Host = absent('a')) =>
    cluster([a, host('b'), host('c')], [vm('vm1')], instances);
  /** Which hosts restart it, if these are lost. */
  const restarters = (content: ClusterContent, lost: string[]) =>
    ['b', 'c'].filter((name) => decide(content, name, new Set(lost)).some(({ kind }) => kind === 'restart'));

  test('a VM whose only host is lost is restarted by exactly one other', () => {
    expect(restarters(three([instance('vm1', 'a', 'SOLE')]), ['a'])).toHaveLength(1);
    expect(restarters(three([]), [])).toHaveLength(1);
  });

  test.each([
    ['its host is absent, and not lost yet', [instance('vm1', 'a', 'SOLE')], []],
    ['its host is back', [instance('vm1', 'a', 'SOLE')], ['a'], host('a')],
    ['it is being started elsewhere', [instance('vm1', 'a', 'SOLE'), instance('vm1', 'b', 'START')], ['a']],
    ['its backup takes over', [instance('vm1', 'a', 'PAIR'), instance('vm1', 'b', 'ASK')], ['a']],
    [
      'its backup, committed or not, may',
      [instance('vm1', 'a', 'COMMIT'), instance('vm1', 'b', 'BACK')],
      ['a'],
    ],
    [
      'one of two backups may',
      [instance('vm1', 'a', 'COPY'), instance('vm1', 'b', 'ASK'), instance('vm1', 'c', 'WAIT')],
      ['a'],
    ],
    ['it runs on a host whose record cannot be read', [instance('vm1', 'x', 'SOLE')], ['a']],
  ] as [string, Instance[], string[], Host?][])('it is not while %s', (_, instances, lost, a) => {
    expect(restarters(three(instances, a), lost)).toEqual([]);
  });

  test.each([
    ['a backup that nobody has copied to', [instance('vm1', 'a', 'SOLE'), instance('vm1', 'b', 'WAIT')]],
    ['a copy that was broken off', [instance('vm1', 'a', 'COPY'), instance('vm1', 'b', 'LOAD')]],
    ['a copy that was never committed', [instance('vm1', 'a', 'GATE'), instance('vm1', 'b', 'ASK')]],
    ['a backup that was told so', [instance('vm1', 'a', 'COMMIT'), instance('vm1', 'b', 'EARLY')]],
    ['a process that has ended', [instance('vm1', 'a', 'PAIR'), instance('vm1', 'b', 'HALT')]],
  ])('%s does not keep it from being restarted', (_, instances) => {
    expect(restarters(three(instances), ['a'])).toHaveLength(1);
  });

  test('one that dies while it restarts is replaced, and one that cannot is passed over', () => {
    const [first] = restarters(three([instance('vm1', 'a', 'SOLE')]), ['a']);
    const [other] = ['b', 'c'].filter((name) => name !== first);
    const dead = cluster(
      [absent('a'), ...['b', 'c'].map((name) => (name === first ? absent(name) : host(name)))],
      [vm('vm1')],
      [instance('vm1', 'a', 'SOLE'), instance('vm1', first!, 'START')],
    );
    expect(restarters(dead, ['a', first!])).toEqual([other]);
    const failed = three([instance('vm1', 'a', 'SOLE'), instance('vm1', first!, 'FAILED')]);
    expect(restarters(failed, ['a'])).toEqual([other]);
  });

  test('nobody restarts what is off or is not to be restarted', () => {
    for (const wish of [{ power: 'off' }, { restart: false }] as const) {
      const content = cluster([absent('a'), host('b')], [vm('vm1', wish)], [instance('vm1', 'a', 'SOLE')]);
      expect(decide(content, 'b', new Set(['a']))).toEqual([]);
    }
  });

  test('many VMs are placed together, and none beyond a host’s memory', () => {
    const vms = Array.from({ length: 20 }, (_, n) => vm(`vm${n}`));
    const content = cluster([absent('a'), host('b'), host('c')], vms, []);
    const counts = ['b', 'c'].map((name) => decide(content, name, new Set(['a'])).length);
    expect(counts).toEqual([8, 8]);
  });
});

describe('what nobody wants is ended', () => {
  const on = (content: ClusterContent) => decide(content, 'b', NONE);

  test('of a VM that is switched off', () => {
    const content = cluster([host('b')], [vm('vm1', { power: 'off' })], [instance('vm1', 'b', 'SOLE')]);
    expect(on(content)).toEqual([
      { kind: 'end', vm: 'vm1', instance: 'vm1-b', reason: 'vm1 is switched off' },
    ]);
  });

  test('a backup that waits while its VM has another one', () => {
    const hosts = [host('a'), host('b'), host('c')];
    const pair = [instance('vm1', 'a', 'PAIR'), instance('vm1', 'c', 'BACK')];
    expect(on(cluster(hosts, [vm('vm1')], [...pair, instance('vm1', 'b', 'WAIT')]))).toEqual([
      {
        kind: 'end',
        vm: 'vm1',
        instance: 'vm1-b',
        reason: 'vm1 has its backup on c, and nobody copies to this one',
      },
    ]);
    // When in doubt it stays: the other one's host may be gone, or it may be copied to this very moment.
    for (const [hostsNow, states] of [
      [
        [host('a'), host('b'), absent('c')],
        ['PAIR', 'BACK', 'WAIT'],
      ],
      [hosts, ['COPY', 'BACK', 'WAIT']],
      [hosts, ['PAIR', 'BACK', 'LOAD']],
      [hosts, ['SOLE', 'WAIT', 'WAIT']],
    ] as const) {
      const instances = states.map((state, n) => instance('vm1', ['a', 'c', 'b'][n]!, state));
      expect(on(cluster([...hostsNow], [vm('vm1')], instances))).toEqual([]);
    }
  });

  test('a backup that asks in vain while its primary works alone', () => {
    const hosts = [host('a'), host('b')];
    const early = instance('vm1', 'b', 'EARLY');
    expect(on(cluster(hosts, [vm('vm1')], [instance('vm1', 'a', 'SOLE'), early]))).toEqual([
      {
        kind: 'end',
        vm: 'vm1',
        instance: 'vm1-b',
        reason: 'vm1 runs on a, and this backup was never committed',
      },
    ]);
    for (const state of ['COPY', 'GATE', 'COMMIT', 'PAIR', 'ASK'])
      expect(on(cluster(hosts, [vm('vm1')], [instance('vm1', 'a', state), early]))).toEqual([]);
    expect(on(cluster([absent('a'), host('b')], [vm('vm1')], [instance('vm1', 'a', 'SOLE'), early]))).toEqual(
      [],
    );
  });

  test('and nothing whose VM has no record: it may be damaged', () => {
    expect(on(cluster([host('b')], [], [instance('vm1', 'b', 'SOLE')]))).toEqual([]);
  });
});

describe('maintenance', () => {
  test('the backup goes on in place of a primary that has to leave', () => {
    const content = cluster(
      [resting('a'), host('b')],
      [vm('vm1')],
      [instance('vm1', 'a', 'PAIR'), instance('vm1', 'b', 'BACK')],
    );
    expect(decide(content, 'a', NONE)).toEqual([
      { kind: 'switch-over', vm: 'vm1', instance: 'vm1-a', to: 'b', reason: 'a is in maintenance' },
    ]);
    expect(decide(content, 'b', NONE)).toEqual([]);
  });

  test('a backup that has to leave is copied elsewhere by its primary’s host, also when that one has to leave too', () => {
    for (const a of [host('a'), resting('a')]) {
      const content = cluster(
        [a, resting('b'), host('c')],
        [vm('vm1')],
        [instance('vm1', 'a', 'PAIR'), instance('vm1', 'b', 'BACK')],
      );
      const reason = "its backup's host b is in maintenance";
      expect(decide(content, 'a', NONE)).toEqual([
        { kind: 'migrate-backup', vm: 'vm1', instance: 'vm1-a', to: 'c', reason },
      ]);
      expect(decide(content, 'b', NONE)).toEqual([]);
    }
  });

  test('a VM without fault tolerance is moved; one that waits for its backup waits', () => {
    const with_ = (fields: Partial<Vm>) =>
      decide(
        cluster([resting('a'), host('b')], [vm('vm1', fields)], [instance('vm1', 'a', 'SOLE')]),
        'a',
        NONE,
      );
    for (const faultTolerance of ['off', 'suspended'] as const)
      expect(with_({ faultTolerance })).toEqual([
        { kind: 'move', vm: 'vm1', instance: 'vm1-a', to: 'b', reason: 'a is in maintenance' },
      ]);
    expect(with_({})).toEqual([]);
  });

  test('where only another build is left, a VM moves there and is protected afterwards', () => {
    const newer = host('b', { presence: { ...host('b').presence!, build: 'b2' } });
    const content = cluster([resting('a'), newer], [vm('vm1')], [instance('vm1', 'a', 'SOLE')]);
    expect(decide(content, 'a', NONE)).toEqual([
      { kind: 'move', vm: 'vm1', instance: 'vm1-a', to: 'b', reason: 'a is in maintenance' },
    ]);
  });

  test('what cannot leave says why', () => {
    const content = cluster([resting('a'), absent('b')], [vm('vm1')], [instance('vm1', 'a', 'SOLE')]);
    expect(decide(content, 'a', NONE)).toEqual([
      {
        kind: 'blocked',
        vm: 'vm1',
        reason: "a is in maintenance, but no host takes vm1: a has vm1's primary; b is out of reach",
      },
    ]);
  });

  test('a host makes two copies at a time', () => {
    const names = Array.from({ length: 6 }, (_, n) => `vm${n}`);
    const off = names.map((name) => vm(name, { faultTolerance: 'off' }));
    const copying = instance('vm0', 'a', 'COPY');
    const others = names.slice(1).map((name) => instance(name, 'a', 'SOLE'));
    const decisions = decide(cluster([resting('a'), host('b')], off, [copying, ...others]), 'a', NONE);
    expect(decisions.map(({ kind, vm: name }) => [kind, name])).toEqual([['move', 'vm1']]);
  });
});

describe('lost hosts', () => {
  const at = (ms: number) => hostMilliseconds(ms);
  const content = cluster([host('a'), absent('b')], [], []);

  test('a host is lost when it has been seen absent for long enough', () => {
    const hosts = new LostHosts();
    hosts.observe(content, at(0));
    expect(hosts.at(at(PATIENCE_MS - 1))).toEqual(NONE);
    hosts.observe(content, at(PATIENCE_MS - 1));
    hosts.confirm(at(PATIENCE_MS));
    expect(hosts.at(at(PATIENCE_MS))).toEqual(new Set(['b']));
    hosts.observe(cluster([host('a'), host('b')], [], []), at(PATIENCE_MS + 1));
    expect(hosts.at(at(2 * PATIENCE_MS))).toEqual(NONE);
  });

  test('a store that says nothing makes no host lost', () => {
    const hosts = new LostHosts();
    hosts.observe(content, at(0));
    hosts.confirm(at(PATIENCE_MS - 1));
    expect(hosts.at(at(10 * PATIENCE_MS))).toEqual(NONE);
    hosts.confirm(at(PATIENCE_MS));
    expect(hosts.at(at(PATIENCE_MS))).toEqual(new Set(['b']));
  });

  test('while the store is out of reach nothing is seen: patience begins anew', () => {
    const hosts = new LostHosts();
    hosts.observe(content, at(0));
    hosts.outOfReach();
    expect(hosts.at(at(PATIENCE_MS))).toEqual(NONE);
    hosts.observe(content, at(PATIENCE_MS));
    hosts.confirm(at(2 * PATIENCE_MS));
    expect(hosts.at(at(2 * PATIENCE_MS - 1))).toEqual(NONE);
    expect(hosts.at(at(2 * PATIENCE_MS))).toEqual(new Set(['b']));
  });
});

describe('protection, in vSphere’s words', () => {
  const three = [host('a'), host('b'), host('c')];
  test.each([
    ['Protected', 'primary on a, backup on b', three, {}, ['PAIR', 'BACK']],
    ['Not Protected: Starting', 'it is being copied from a to b', three, {}, ['COPY', 'LOAD']],
    ['Not Protected: Starting', 'it is being started on a', three, {}, ['START']],
    ['Not Protected: Need Secondary', 'it runs on a; a backup comes on b', three.slice(0, 2), {}, ['SOLE']],
    [
      'Not Protected: Need Secondary',
      "no host takes vm1's backup: a has vm1's primary; b is out of reach",
      [host('a'), absent('b')],
      {},
      ['SOLE'],
    ],
    [
      'Not Protected: Need Secondary',
      'its primary is out of reach; its backup on b takes over',
      [absent('a'), host('b')],
      {},
      ['PAIR', 'BACK'],
    ],
    [
      'Not Protected: Disabled',
      'fault tolerance is suspended; it runs on a',
      three,
      { faultTolerance: 'suspended' },
      ['SOLE'],
    ],
    ['Not Protected: VM not Running', 'it is switched off', three, { power: 'off' }, []],
    [
      'Not Protected: VM not Running',
      'a, where it ran, is out of reach; it is started on b if that stays so',
      [absent('a'), host('b')],
      {},
      ['SOLE'],
    ],
    [
      'Not Protected: VM not Running',
      'a, where it ran, is out of reach',
      [absent('a'), host('b')],
      { restart: false },
      ['SOLE'],
    ],
    [
      'Not Protected: VM not Running',
      'no host takes vm1: a is out of reach; b is in maintenance',
      [absent('a'), resting('b')],
      {},
      ['SOLE'],
    ],
  ] as [string, string, Host[], Partial<Vm>, string[]][])(
    '%s: %s',
    (protection, reason, hosts, wishes, states) => {
      const instances = states.map((state, n) => instance('vm1', ['a', 'b'][n]!, state));
      expect(protectionOf(cluster(hosts, [vm('vm1', wishes)], instances), 'vm1')).toEqual({
        protection,
        reason,
      });
    },
  );

  test('of no VM', () => {
    expect(protectionOf(cluster(three, [], []), 'vm1').reason).toBe('there is no VM named vm1');
  });
});

// ------------------------------------------------------------------------------------ in a world

type Blow =
  | { readonly kind: 'kill' | 'kill-daemon' | 'back' | 'rest' | 'work'; readonly host: string }
  | { readonly kind: 'wish'; readonly vm: string; readonly wish: Partial<Vm> };

const HOSTS = ['a', 'b', 'c', 'd', 'e'];
const VMS = ['vm1', 'vm2', 'vm3', 'vm4', 'vm5'];

const WISHES: readonly Partial<Vm>[] = [
  { faultTolerance: 'on' },
  { faultTolerance: 'off' },
  { power: 'on' },
  { power: 'off' },
];

const anyBlow: fc.Arbitrary<Blow> = fc.oneof(
  fc.record({
    kind: fc.constantFrom('kill', 'kill-daemon', 'back', 'back', 'rest', 'work'),
    host: fc.constantFrom(...HOSTS),
  }),
  fc.record({
    kind: fc.constant('wish'),
    vm: fc.constantFrom(...VMS),
    wish: fc.constantFrom(...WISHES),
  }),
) as fc.Arbitrary<Blow>;

function strike(world: ClusterWorld, blow: Blow): void {
  switch (blow.kind) {
    case 'kill':
      world.killHost(blow.host);
      break;
    case 'kill-daemon':
      world.killDaemon(blow.host);
      break;
    case 'back':
      world.bringBack(blow.host);
      break;
    case 'rest':
    case 'work':
      world.setMaintenance(blow.host, blow.kind === 'rest');
      break;
    case 'wish':
      world.setVm({ ...world.vms.get(blow.vm)!, ...blow.wish });
  }
}

describe('in a world in which only decisions move VMs', () => {
  const newWorld = (memoryGib: number) =>
    new ClusterWorld(
      HOSTS.map((name) => ({ name, memoryBytes: memoryGib * GIB, cores: 4, build: 'b1' })),
      VMS.map((name, n) => vm(name, { antiAffinity: n < 2 ? ['x'] : [] })),
    );

  test('whatever befalls it: no VM runs twice or beside its partner, no host is overfilled, and in the end nothing is left to do', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 5 }),
        fc.array(fc.tuple(anyBlow, fc.integer({ min: 1, max: 15 })), { maxLength: 12 }),
        (memory, blows) => {
          const world = newWorld(memory);
          for (const [blow, seconds] of blows) {
            strike(world, blow);
            for (let second = 0; second < seconds; second++) world.step();
          }
          // Longer than presence, patience and a few copies one after the other take.
          for (let second = 0; second < 60; second++) world.step();
          const { backups, moves, migrations, switchOvers, restarts, ends } = world.figures;
          for (let second = 0; second < 20; second++) world.step();
          expect(world.violations).toEqual([]);
          // Nothing goes to and fro: not even what is asked for in vain counts as a move.
          expect(world.figures).toMatchObject({ backups, moves, migrations, switchOvers, restarts, ends });
        },
      ),
      { numRuns: 80 },
    );
  });

  test('with room enough every VM is protected again, and hosts in maintenance are empty', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(anyBlow, fc.integer({ min: 1, max: 15 })), { maxLength: 10 }),
        fc.constantFrom(...HOSTS),
        (blows, rests) => {
          const world = newWorld(16);
          for (const [blow, seconds] of blows) {
            strike(world, blow);
            for (let second = 0; second < seconds; second++) world.step();
          }
          for (const name of HOSTS) {
            world.bringBack(name);
            world.setMaintenance(name, name === rests);
          }
          for (let second = 0; second < 80; second++) world.step();
          expect(world.unprotected()).toEqual([]);
          expect(world.processesOn(rests)).toBe(0);
          expect(world.violations).toEqual([]);
        },
      ),
      { numRuns: 80 },
    );
  });
});
