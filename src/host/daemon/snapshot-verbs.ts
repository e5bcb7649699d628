import { randomUUID } from 'node:crypto';
import { mkdir, rm, rmdir } from 'node:fs/promises';
import { failed, ok, type Result } from '../../base/result.ts';
import { type Instance, isName } from '../../cluster/content.ts';
import { hasEnded } from '../../cluster/instance-state.ts';
import { SNAPSHOT_MS_MAX, type SnapshotView } from '../api.ts';
import { runCommand } from '../image/command.ts';
import { readVmSnapshot, snapshotDisk, type VmSnapshot } from '../vm-snapshot.ts';
import type { HostDaemon } from './host-daemon.ts';
import { definitionOf } from './vm-file.ts';
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
    if (!isName(name)) return failed(`${name} is no name of a VM: letters, digits, ".", "_" and "-"`);
    const snapshot = await readVmSnapshot(folder);
    if (!snapshot.ok) return snapshot;
    const { machine, file } = snapshot.value;
    const {
      network,
      storage: _,
      timing: __,
      arbiter: ___,
      ...rest
    } = (file ?? {}) as Record<string, unknown>;
    const connected = network !== undefined && options.alone !== true;
    const other = connected ? this.#withItsAddresses(snapshot.value) : undefined;
    if (other !== undefined)
      return failed(
        `${other.vm} runs on ${other.host}, and the restored guest has its MAC addresses: add --without-network, or stop ${other.vm} first`,
      );
    const own = options.disks ?? `${folder}.${name}`;
    const paths = machine.disks.map((_disk, index) => snapshotDisk(own, index));
    const disks = machine.disks.map(({ readOnly }, index) => ({
      file: paths[index],
      ...(readOnly && { readonly: true }),
    }));
    // What is wrong with it is told before its disks are copied.
    const created = await this.#verbs.create({
      ...rest,
      name,
      ...(connected && { network }),
      ...(disks.length > 0 && { storage: { disks } }),
      faultTolerance: 'off',
      restart: false,
    });
    if (!created.ok) return created;
    const copied = await copyDisks(folder, own, paths);
    if (!copied.ok) {
      await this.#verbs.destroy(name);
      return copied;
    }
    const host = this.#daemon.host(this.#daemon.name);
    const started = host.ok ? await this.#verbs.startOn(host.value, this.#daemon.name, name, folder) : host;
    // What may run after all keeps its disks.
    if (!started.ok && (await this.#verbs.destroy(name)).ok) await removeDisks(own, paths);
    return started;
  }

  /** A VM that runs with MAC addresses of this guest's. */
  #withItsAddresses({ vm, machine }: VmSnapshot): Instance | undefined {
    const { content, vms } = this.#daemon.member.reading;
    const has = new Set(machine.nics.map(({ mac }) => mac));
    return content.instances.find((each) => {
      if (hasEnded(each)) return false;
      if (each.vm === vm) return true;
      const definition = definitionOf(vms.get(each.vm)?.value.definition);
      return definition.ok && definition.value.network?.macs.some((mac) => has.has(mac)) === true;
    });
  }
}

/** Shares its blocks with the snapshot where the file system can; what fails leaves nothing behind. */
async function copyDisks(folder: string, own: string, paths: readonly string[]): Promise<Result<void>> {
  try {
    await mkdir(own, { mode: 0o700 });
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === 'EEXIST') return failed(`${own} is there already: name another folder with --disks`);
    return failed(`the disks of the snapshot cannot be copied: ${message}`);
  }
  for (const [index, path] of paths.entries()) {
    const from = snapshotDisk(folder, index);
    const copied = await runCommand('cp', ['--sparse=always', '--reflink=auto', from, path]);
    if (copied.ok) continue;
    await removeDisks(own, paths);
    return failed(`the disks of the snapshot cannot be copied: ${copied.error}`);
  }
  return ok(undefined);
}

/** What somebody else put there stays. */
async function removeDisks(own: string, paths: readonly string[]): Promise<void> {
  for (const path of paths) await rm(path, { force: true }).catch(() => undefined);
  await rmdir(own).catch(() => undefined);
}
