import { constants } from 'node:fs';
import { copyFile, mkdir, mkdtemp, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseVmProcessConfig } from '../../src/host/vm-process-config.ts';

type Config = Readonly<Record<string, unknown>>;

/** What of a host's configuration is another in a mode of the disks, and what that leaves behind. */
export interface World {
  readonly of: (host: string, config: Config) => Promise<object>;
  end(): Promise<void>;
  /** Where this host's copy is, if it has one of its own. */
  readonly disk?: (host: string) => string;
}

export interface Mode {
  readonly name: 'shared' | 'backup-reads' | 'non-shared';
  /** `disk`: what the guest's disk holds at first. */
  world(disk: string): Promise<World>;
}

const nothing = () => Promise.resolve();

const SHARED: Mode = {
  name: 'shared',
  world: () => Promise.resolve({ of: () => Promise.resolve({}), end: nothing }),
};

const BACKUP_READS: Mode = {
  name: 'backup-reads',
  world: () =>
    Promise.resolve({
      of: (_host, { storage }) => Promise.resolve({ storage: { ...(storage as object), reads: 'backup' } }),
      end: nothing,
    }),
};

/** Host A begins with the disk, every other host with an empty one that it gets a copy onto. */
const NON_SHARED: Mode = {
  name: 'non-shared',
  world: async (disk) => {
    const folder = await mkdtemp(join(tmpdir(), 'lockstep-own-disks-'));
    const pathOf = (host: string): string => join(folder, `${host}.img`);
    const arbiter = { kind: 'directory', path: join(folder, 'arbiter') };
    await mkdir(arbiter.path);
    return {
      of: async (host) => {
        const path = pathOf(host);
        if (host === 'A') await copyFile(disk, path, constants.COPYFILE_FICLONE);
        else {
          await writeFile(path, '');
          await truncate(path, (await stat(disk)).size);
        }
        return { host: `host-${host}`, storage: { mode: 'non-shared', files: [path] }, arbiter };
      },
      end: () => rm(folder, { recursive: true, force: true }),
      disk: pathOf,
    };
  },
};

/** Whether this build has a mode at all. */
function accepts(storage: object): boolean {
  const machine = {
    memoryBytes: 2 ** 20,
    disks: [{ capacity: 512, readOnly: false, serial: '' }],
    nics: [],
    startEpochSeconds: 0,
    seed: '0'.repeat(64),
    debugExit: false,
  };
  const arbiter = { kind: 'directory', path: '/' };
  const config = { role: 'primary', vm: 'v', machine, boot: { kernel: 'k' }, storage, arbiter };
  return parseVmProcessConfig(JSON.stringify(config)).ok;
}

export const MODES: readonly Mode[] = [
  SHARED,
  BACKUP_READS,
  ...(accepts({ mode: 'non-shared', files: ['/f'] }) ? [NON_SHARED] : []),
];
