import type { Result } from '../base/result.ts';
import type { ClusterContent, Host, HostPresence, Instance, Vm } from '../cluster/content.ts';

/** How long a silent host counts as present. Renewed three times within it, so two lost renewals are no absence. */
export const PRESENCE_MS = 5_000;

/** Identifies one state of one record; to be compared for equality only. */
export type RecordVersion = string & { readonly recordVersion: unique symbol };

/** What an operator says of a host; presence is what its daemon says. */
export type HostRecord = Omit<Host, 'presence'>;

export type Json =
  | null
  | boolean
  | number
  | string
  | readonly Json[]
  | { readonly [name: string]: Json | undefined };

/** A VM's record: what decisions read of it, and what its processes are configured with, which the store only keeps. */
export interface VmDocument {
  readonly vm: Vm;
  readonly definition: Json;
  readonly secrets: Json;
}

export interface Versioned<Value> {
  readonly value: Value;
  readonly version: RecordVersion;
}

/**
 * A record that cannot be read. It is in no list; whoever looks for it must not take it for one that is not there.
 * With its version it can be written anew or removed, if its key is of a host or a VM.
 */
export interface DamagedRecord {
  /** KIND/NAME */
  readonly key: string;
  readonly reason: string;
  readonly version: RecordVersion;
}

export interface ClusterReading {
  readonly content: ClusterContent;
  readonly hosts: ReadonlyMap<string, Versioned<HostRecord>>;
  readonly vms: ReadonlyMap<string, Versioned<VmDocument>>;
  readonly damaged: readonly DamagedRecord[];
}

/** A compare-and-set that was carried out, or not because the record is another one than expected. */
export type WriteOutcome =
  | { readonly written: true; readonly version: RecordVersion }
  | { readonly written: false };

export interface ClusterWatcher {
  /** The content is another one than before, or the store is back. Several changes may come as one. */
  changed(reading: ClusterReading): void;
  /** The store has answered: what was read last still holds. At least every few seconds; LostHosts wants to know. */
  unchanged(): void;
  /** Said once; the next `changed` means that the store is back. What was read before may be out of date. */
  outOfReach(reason: string): void;
}

/** A daemon's sign of life, renewed until it is withdrawn or its process ends. */
export interface Announcement {
  /** Others see the host absent at once. */
  withdraw(): Promise<void>;
}

/**
 * Where hosts and VMs of a cluster are known (design 8). It decides nothing: who may run a VM is in the arbiter's
 * record, so a reading that is out of date can waste work and never make two of one.
 *
 * Durable records change by compare-and-set: `expected` is the version that was read, undefined for a record that must
 * not be there. Whatever fails leaves one line that says why; then the write may have taken effect all the same, and
 * whoever repeats it reads first.
 *
 * What a host's daemon tells of its instances is durable too: they outlive the daemon, so its silence must not look
 * like their end. An absent host's list is its last word, and changes when its daemon is back.
 */
export interface ClusterStore {
  /** The newest content. */
  read(): Promise<Result<ClusterReading>>;
  /** Begins with the content as it is. The function that it gives ends it. */
  watch(watcher: ClusterWatcher): () => void;

  writeHost(host: HostRecord, expected: RecordVersion | undefined): Promise<Result<WriteOutcome>>;
  /** Takes what the host told of its instances away with it. */
  removeHost(name: string, expected: RecordVersion): Promise<Result<WriteOutcome>>;
  writeVm(document: VmDocument, expected: RecordVersion | undefined): Promise<Result<WriteOutcome>>;
  removeVm(name: string, expected: RecordVersion): Promise<Result<WriteOutcome>>;

  /** The cluster's shared secret: that of whoever came first, who may be this caller with `proposed`. */
  token(proposed: string): Promise<Result<string>>;

  /**
   * `host` is present from now on, again and again after every trouble, which `say` gets in one line each. While
   * another daemon (its certificate differs) announces the same name, that one is left alone.
   */
  announce(host: string, presence: HostPresence, say: (line: string) => void): Announcement;
  /** All that `host` runs, in place of what it told before. Only its own daemon calls this, one call at a time. */
  reportInstances(host: string, instances: readonly Instance[]): Promise<Result<undefined>>;

  /** Watches and announcements end; announced hosts are seen absent after their time. */
  close(): Promise<void>;
}
