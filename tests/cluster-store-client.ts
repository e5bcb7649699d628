import type { ClusterStore, HostRecord, VmDocument } from '../src/storage/cluster-store.ts';
import { DirectoryClusterStore } from '../src/storage/directory-cluster-store.ts';
import { EtcdClusterStore } from '../src/storage/etcd-cluster-store.ts';

/**
 * One caller of a cluster's store in a process of its own, that can be killed: what it does is its first argument, what
 * came of it stands on standard output in JSON lines.
 */

export type StoreAddress =
  | { readonly kind: 'directory'; readonly path: string }
  | { readonly kind: 'etcd'; readonly endpoints: readonly string[] };

export type ClientTask = {
  readonly store: StoreAddress;
  readonly presenceMs?: number;
} & (
  | { readonly do: 'announce'; readonly host: string }
  /** Adds one to the number in a VM's definition, until it has won `times` times; tells the numbers that it wrote. */
  | { readonly do: 'count'; readonly vm: string; readonly times: number }
  | { readonly do: 'token'; readonly proposed: string }
);

export function openStore(address: StoreAddress, presenceMs?: number): ClusterStore {
  const options = presenceMs === undefined ? {} : { presenceMs };
  return address.kind === 'etcd'
    ? new EtcdClusterStore({ ...address, ...options })
    : new DirectoryClusterStore({ ...address, ...options });
}

export function hostNamed(name: string): HostRecord {
  return { name, memoryBytes: 8 * 2 ** 30, cores: 4, maintenance: false };
}

export function vmNamed(name: string, definition: VmDocument['definition'] = null): VmDocument {
  const wishes = { power: 'on', faultTolerance: 'on', restart: true } as const;
  return { vm: { name, memoryBytes: 2 ** 29, antiAffinity: [], ...wishes }, definition, secrets: null };
}

export function presenceOf(host: string) {
  return {
    api: `${host}:7000`,
    certificate: `certificate of ${host}`,
    build: 'b1',
    logFormat: 2,
    snapshotFormat: 2,
  };
}

async function run(task: ClientTask): Promise<void> {
  const store = openStore(task.store, task.presenceMs);
  switch (task.do) {
    case 'announce':
      store.announce(task.host, presenceOf(task.host), tell);
      tell('announcing');
      return;
    case 'token': {
      tell(await store.token(task.proposed));
      return;
    }
    case 'count': {
      const won: number[] = [];
      while (won.length < task.times) {
        const read = await store.read();
        if (!read.ok) throw new Error(read.error);
        const known = read.value.vms.get(task.vm);
        const next = Number(known?.value.definition ?? 0) + 1;
        const outcome = await store.writeVm(vmNamed(task.vm, next), known?.version);
        if (!outcome.ok) throw new Error(outcome.error);
        if (outcome.value.written) won.push(next);
      }
      tell(won);
    }
  }
}

function tell(what: unknown): void {
  process.stdout.write(`${JSON.stringify(what)}\n`);
}

// Tests import what stands above.
if (process.argv[1]?.endsWith('cluster-store-client.js')) await run(JSON.parse(process.argv[2] ?? ''));
