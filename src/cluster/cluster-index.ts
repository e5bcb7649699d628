import { assert } from '../base/assert.ts';
import {
  type ClusterContent,
  compareInstances,
  compareNames,
  FAILED,
  type Host,
  type Instance,
  type Vm,
} from './content.ts';

/** A host and what is on it. */
export interface HostLoad {
  readonly host: Host;
  /** Negative where it runs more than it should, as after its operator took memory away from guests. */
  freeBytes: number;
  processes: number;
  /** How many processes of VMs of each anti-affinity group are here. */
  readonly groups: Map<string, number>;
  /** Spreads choices that are otherwise equal. */
  readonly mark: number;
}

/** The content, to be looked up in: made in one pass, and kept true as decisions are added to it. */
export class ClusterIndex {
  readonly content: ClusterContent;
  /** By name. */
  readonly hosts: ReadonlyMap<string, HostLoad>;
  readonly vms: ReadonlyMap<string, Vm>;
  readonly #instances = new Map<string, Instance[]>();

  constructor(content: ClusterContent) {
    this.content = content;
    this.hosts = new Map(
      inOrder(content.hosts, (a, b) => compareNames(a.name, b.name)).map((host) => [
        host.name,
        { host, freeBytes: host.memoryBytes, processes: 0, groups: new Map(), mark: markOf(host.name) },
      ]),
    );
    this.vms = new Map(content.vms.map((vm) => [vm.name, vm]));
    for (const instance of inOrder(content.instances, compareInstances)) this.add(instance);
  }

  instancesOf(vm: string): readonly Instance[] {
    return this.#instances.get(vm) ?? [];
  }

  /** Whoever asks from now on finds it there. */
  add(instance: Instance): void {
    const known = this.#instances.get(instance.vm);
    if (known) known.push(instance);
    else this.#instances.set(instance.vm, [instance]);
    this.#count(instance, 1);
  }

  /** As if it had not been added; the last of its VM goes first. */
  remove(instance: Instance): void {
    const removed = this.#instances.get(instance.vm)?.pop();
    assert(removed === instance, 'what was added last is removed first');
    this.#count(instance, -1);
  }

  #count(instance: Instance, one: 1 | -1): void {
    const load = this.hosts.get(instance.host);
    if (load === undefined || instance.state === FAILED) return;
    load.freeBytes -= one * instance.memoryBytes;
    load.processes += one;
    for (const group of this.vms.get(instance.vm)?.antiAffinity ?? [])
      load.groups.set(group, (load.groups.get(group) ?? 0) + one);
  }
}

/** A content's lists are in order already; one that was put together otherwise must not give other decisions. */
export function inOrder<Value>(
  list: readonly Value[],
  compare: (a: Value, b: Value) => number,
): readonly Value[] {
  const sorted = list.every((value, index) => index === 0 || compare(list[index - 1]!, value) <= 0);
  return sorted ? list : [...list].sort(compare);
}

/** 32 bits of a name: FNV-1a, and a mixture that lets every bit count [MurmurHash3, fmix32]. */
export function markOf(name: string): number {
  let mark = 0x811c9dc5;
  for (let at = 0; at < name.length; at++) mark = Math.imul(mark ^ name.charCodeAt(at), 0x01000193);
  return mixed(mark);
}

/** Of two marks, in an order: another one for each pair. */
export function mixed(mark: number, other = 0): number {
  let value = mark ^ Math.imul(other, 0x9e3779b1);
  value = Math.imul(value ^ (value >>> 16), 0x85ebca6b);
  value = Math.imul(value ^ (value >>> 13), 0xc2b2ae35);
  return (value ^ (value >>> 16)) >>> 0;
}
