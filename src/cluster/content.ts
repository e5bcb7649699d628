/**
 * What the cluster's store holds, as decisions read it: hosts, VMs and the VM processes that hosts run. Everything
 * here is plain data, so that a decision is a function of it and nothing else (design 8).
 */

/** A host as its daemon describes it. */
export interface Host {
  readonly name: string;
  /** Undefined while its daemon gives no sign of life: nothing is placed there, and nothing there is counted on. */
  readonly presence: HostPresence | undefined;
  /** What guests may take of its memory, all VM processes together. */
  readonly memoryBytes: number;
  readonly cores: number;
  /** Nothing is placed here, and what is here moves away. */
  readonly maintenance: boolean;
}

/** Renewed by the daemon; the store forgets it when the daemon falls silent. */
export interface HostPresence {
  /** Where other daemons reach this one's API, host:port, and the one certificate that it proves itself with (PEM). */
  readonly api: string;
  readonly certificate: string;
  /**
   * Two sides of a pair are of one build; logs of two formats are never read by each other. A guest without a backup moves
   * between builds of one snapshot format: nothing is replayed there.
   */
  readonly build: string;
  readonly logFormat: number;
  readonly snapshotFormat: number;
}

export type FaultTolerance = 'on' | 'off' | 'suspended';

/** What its owner wants of a VM. */
export interface Vm {
  readonly name: string;
  /** Of one VM process: the guest's memory and what the hypervisor needs beside it. */
  readonly memoryBytes: number;
  readonly power: 'on' | 'off';
  readonly faultTolerance: FaultTolerance;
  /** Started again from its disks when no host that is present runs it any more (HA restart). */
  readonly restart: boolean;
  /** VMs that name one group are kept on different hosts where that is possible. */
  readonly antiAffinity: readonly string[];
}

/** One VM process on one host, as that host's daemon tells it. */
export interface Instance {
  readonly vm: string;
  readonly host: string;
  /** Names the process within its host. */
  readonly id: string;
  readonly role: 'primary' | 'backup';
  /** A state of protocol 4 or 5, or that of a process that has just been started, or FAILED. */
  readonly state: string;
  /** What this process takes of its host's memory: its VM's record may have changed since it was started. */
  readonly memoryBytes: number;
  /** Where a backup listens for its primary, host:port. */
  readonly address: string | undefined;
}

/**
 * The state of an instance that could not be started. It runs nothing and takes no memory, but while its host says so
 * the VM is placed elsewhere: otherwise the best host would be chosen, and fail, again and again.
 */
export const FAILED = 'FAILED';

/** Of hosts, VMs and instances: fit for keys and file names as they are. */
const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/;

export function isName(text: unknown): text is string {
  return typeof text === 'string' && NAME.test(text);
}

/** By UTF-16 units, the same in every locale. */
export function compareNames(a: string, b: string): number {
  if (a === b) return 0;
  return a < b ? -1 : 1;
}

/** The order in which a content has them. */
export function compareInstances(a: Instance, b: Instance): number {
  return compareNames(a.vm, b.vm) || compareNames(a.host, b.host) || compareNames(a.id, b.id);
}

/** Lists in the order of their names, so that equal contents give equal decisions. */
export interface ClusterContent {
  readonly hosts: readonly Host[];
  readonly vms: readonly Vm[];
  readonly instances: readonly Instance[];
}
