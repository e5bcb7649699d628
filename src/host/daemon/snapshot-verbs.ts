import { randomUUID } from 'node:crypto';
import { mkdir } from 'node:fs/promises';
import { failed, ok, type Result } from '../../base/result.ts';
import { hasEnded } from '../../cluster/instance-state.ts';
import { SNAPSHOT_MS_MAX, type SnapshotView } from '../api.ts';
import { runCommand } from '../image/command.ts';
import { readVmSnapshot, snapshotDisk } from '../vm-snapshot.ts';
import type { HostDaemon } from './host-daemon.ts';
import type { VmVerbs } from './vm-verbs.ts';

const SNAPSHOT_AGAIN_MS = 200;
/** A host that does not answer for so long is not waited for; the snapshot may come to its end there. */
const SILENCE_MS_MAX = 15_000;

export interface RestoreOptions {
  /** Without the network that the old one had. */
  readonly alone?: boolean | undefined;
  /** Where its own disks go; beside the snapshot when absent. */
  readonly disks?: string | undefined;
}

/** Snapshots of a VM with its disks, and VMs made of them, on any daemon of the cluster. */
export class SnapshotVerbs {
  readonly #daemon: HostDaemon;
  readonly #verbs: VmVerbs;

  constructor(daemon: HostDaemon, verbs: VmVerbs) {
    this.#daemon = daemon;
    this.#verbs = verbs;
  }

  /** The guest at one instant, memory and disks, in a new folder of the host that runs it; it runs on. */
  async snapshot(name: string, folder: string): Promise<Result<SnapshotView>> {
    const primary = await this.#verbs.primary(name);
    if (!primary.ok) return primary;
    const { instance, host } = primary.value;
    const file = this.#daemon.member.reading.vms.get(name)?.value.definition;
    // Another one may be under way, or have been refused for the same folder.
    const id = randomUUID();
    const ordered = await host.order(instance.id, { order: 'snapshot', folder, file, id });
    if (!ordered.ok) return ordered;
    const end = performance.now() + SNAPSHOT_MS_MAX;
    let silentSince: number | undefined;
    while (performance.now() < end) {
      const now = await host.detail(instance.id);
      if (now.ok) {
        silentSince = undefined;
        const told = now.value.snapshots?.find((each) => each.id === id);
        if (told?.error !== undefined) return failed(String(told.error));
        if (told !== undefined) return ok({ folder, host: instance.host, bytes: Number(told.bytes) });
      } else if (performance.now() - (silentSince ??= performance.now()) > SILENCE_MS_MAX) return now;
      await new Promise((resolve) => setTimeout(resolve, SNAPSHOT_AGAIN_MS));
    }
    return failed(`the snapshot of ${name} does not come to an end`);
  }

  /**
   * A new VM that goes on from a snapshot in a folder of this host, with disks of its own in another folder. What it is
   * connected to is what the old one was, unless it is to stand alone.
   */
  async restore(folder: string, name: string, options: RestoreOptions = {}): Promise<Result<void>> {
    const snapshot = await readVmSnapshot(folder);
    if (!snapshot.ok) return snapshot;
    const { vm, machine, file } = snapshot.value;
    const {
      network,
      storage: _,
      timing: __,
      arbiter: ___,
      ...rest
    } = (file ?? {}) as Record<string, unknown>;
    const running = this.#daemon.member.reading.content.instances.find(
      (each) => each.vm === vm && !hasEnded(each),
    );
    if (running !== undefined && network !== undefined && options.alone !== true)
      return failed(
        `${vm} runs on ${running.host}, and the restored guest has its MAC addresses: add --without-network, or stop ${vm} first`,
      );
    const own = options.disks ?? `${folder}.${name}`;
    const disks = machine.disks.map((_disk, index) => snapshotDisk(own, index));
    const copied = await copyDisks(folder, own, disks);
    if (!copied.ok) return copied;
    const storage = disks.length === 0 ? {} : { storage: { disks: disks.map((path) => ({ file: path })) } };
    const definition = {
      ...rest,
      name,
      ...(network !== undefined && options.alone !== true && { network }),
      ...storage,
      faultTolerance: 'off',
      restart: false,
    };
    const created = await this.#verbs.create(definition);
    if (!created.ok) return created;
    const host = this.#daemon.host(this.#daemon.name);
    return host.ok ? this.#verbs.startOn(host.value, this.#daemon.name, name, folder) : host;
  }
}

/** Shares its blocks with the snapshot where the file system can. */
async function copyDisks(folder: string, own: string, disks: readonly string[]): Promise<Result<void>> {
  try {
    await mkdir(own, { mode: 0o700 });
    for (const [index, path] of disks.entries()) {
      const copied = await runCommand('cp', [
        '--sparse=always',
        '--reflink=auto',
        snapshotDisk(folder, index),
        path,
      ]);
      if (!copied.ok) return copied;
    }
    return ok(undefined);
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === 'EEXIST') return failed(`${own} is there already: name another folder with --disks`);
    return failed(`the disks of the snapshot cannot be copied: ${message}`);
  }
}
