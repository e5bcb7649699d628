/** What of a host's configuration is another in a mode of the disks, and what that leaves behind. */
export interface World {
  readonly of: (host: string, config: Readonly<Record<string, unknown>>) => Promise<object>;
  end(): Promise<void>;
  /** Where this host's copy is, if it has one of its own. */
  readonly disk?: (host: string) => string;
}

export interface Mode {
  readonly name: 'shared' | 'backup-reads' | 'non-shared';
  world(): World;
}

const nothing = () => Promise.resolve();

export const MODES: readonly Mode[] = [
  { name: 'shared', world: () => ({ of: () => Promise.resolve({}), end: nothing }) },
  {
    name: 'backup-reads',
    world: () => ({
      of: (_host, { storage }) => Promise.resolve({ storage: { ...(storage as object), reads: 'backup' } }),
      end: nothing,
    }),
  },
];
