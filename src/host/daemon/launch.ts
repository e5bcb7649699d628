import { randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import { access, open } from 'node:fs/promises';
import { failed, ok, type Result } from '../../base/result.ts';
import type { MachineConfig } from '../../machine/config.ts';
import type { StorageDefinition, VmDefinition } from '../api.ts';
import { describeDisks } from '../guest-disks.ts';
import { fileProblem, type GuestFiles } from '../guest-files.ts';
import { fileOn, sourcesOf } from '../storage-config.ts';
import type { InstanceFolder } from './state-folder.ts';
import type { InstanceConfig } from './vm-instance.ts';

/** What both sides of a VM are told alike; the side that runs it hands it to the other one's daemon. */
export interface SharedConfig {
  readonly vm: string;
  readonly machine: MachineConfig;
  readonly storage: object | undefined;
  readonly network: object | string | undefined;
  readonly arbiter: object | undefined;
  readonly compress: boolean;
  readonly timing: object;
  readonly limits: object;
  /** What one process takes of its host's memory. */
  readonly processBytes: number;
}

const SHARED = [
  'vm',
  'machine',
  'storage',
  'network',
  'arbiter',
  'timing',
  'limits',
  'processBytes',
] as const;
const FIGURES_EVERY_MS = 1000;

/** The program, compiled code, buffers [docs/PERFORMANCE.md]. */
const BESIDE_THE_GUEST_BYTES = 200 * 2 ** 20;

export function processBytes({ memoryBytes }: VmDefinition): number {
  return memoryBytes + BESIDE_THE_GUEST_BYTES;
}

/** The VM's hardware as it is switched on: nothing of it changes until it is switched on again. */
export async function sharedConfig(
  definition: VmDefinition,
  boot: GuestFiles,
  host: string,
): Promise<Result<SharedConfig>> {
  const { name, storage, network, memoryBytes } = definition;
  for (const file of [boot.kernel, boot.initrd]) {
    const readable =
      file === undefined ||
      (await access(file, constants.R_OK).then(
        () => true,
        () => false,
      ));
    if (!readable) return failed(`${file} cannot be read here: every host that starts ${name} needs it`);
  }
  const disks = await describeDisks(storage === undefined ? [] : sourcesOf(storage, host));
  if (!disks.ok) return disks;
  return ok({
    vm: name,
    machine: {
      memoryBytes,
      disks: disks.value,
      nics: (network?.macs ?? []).map((mac) => ({ mac })),
      startEpochSeconds: Math.floor(Date.now() / 1000),
      seed: randomBytes(32).toString('hex'),
      debugExit: false,
    },
    storage: storage && processStorage(storage),
    network: network && ('switch' in network ? network.switch : { taps: network.taps }),
    arbiter: definition.arbiter,
    compress: definition.channel.compress,
    timing: definition.timing,
    limits: definition.limits,
    processBytes: processBytes(definition),
  });
}

/** Non-shared disks that this host has no copy of: empty ones, which the primary fills. One that is there stays. */
export async function makeCopies({ storage, machine }: SharedConfig, host: string): Promise<Result<void>> {
  const { mode, files = [] } = (storage ?? {}) as Pick<StorageDefinition, 'mode' | 'files'>;
  if (mode !== 'non-shared') return ok(undefined);
  for (const [index, path] of files.entries()) {
    const file = fileOn(host, path);
    try {
      const created = await open(file, 'wx', 0o600);
      await created.truncate(machine.disks[index]?.capacity ?? 0);
      await created.close();
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code !== 'EEXIST') return failed(`disk ${file} ${fileProblem(error as NodeJS.ErrnoException)}`);
    }
  }
  return ok(undefined);
}

/** As a VM process is told it [../storage-config.ts]. */
function processStorage({ server, ...rest }: StorageDefinition): object {
  return { ...rest, ...(server !== undefined && { address: server }) };
}

/** The part of a running instance's configuration that its partner must have alike. */
export function sharedOf(config: InstanceConfig): SharedConfig {
  const shared = Object.fromEntries(SHARED.map((name) => [name, config[name]])) as unknown as SharedConfig;
  return { ...shared, compress: (config.channel as { compress?: boolean }).compress === true };
}

/** Places on one host. */
export interface Place {
  readonly host: string;
  readonly folder: InstanceFolder;
  /** Where logging channels are taken. */
  readonly address: string;
}

export function primaryConfig(
  shared: SharedConfig,
  boot: GuestFiles,
  faultTolerance: boolean,
  place: Place,
): InstanceConfig {
  return {
    ...common(shared, place),
    role: 'primary',
    boot,
    expectedEpoch: 'present',
    faultTolerance,
  };
}

export function backupConfig(shared: SharedConfig, place: Place): InstanceConfig {
  const family = place.address.includes(':') ? `[${place.address}]` : place.address;
  return { ...common(shared, place), role: 'backup', listen: `${family}:0` };
}

function common({ compress, ...shared }: SharedConfig, { host, folder }: Place) {
  return {
    ...shared,
    host,
    instance: host,
    control: folder.control,
    consoleFile: folder.console,
    channel: { credentials: folder.credentials, compress },
    figuresEveryMs: FIGURES_EVERY_MS,
  };
}
