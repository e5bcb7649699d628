import { defineConfig } from 'vitest/config';

/** Whole systems in real time: nothing else runs beside them. */
const ALONE = [
  'tests/{arbiter-takeover,chaos,control,demo,disk-instants,disk-modes,divergence,faulty-side,foreign-disks,host-daemon}.test.ts',
  'tests/{logging-channel,migration,one-request,services,stopped-primary,takeover,tap-guest}.test.ts',
];
/** What others test too, at more length: `npx vitest run --project by-hand`. */
const BY_HAND = ['tests/by-hand/*.test.ts'];

export default defineConfig({
  test: {
    testTimeout: 60_000,
    pool: 'forks',
    projects: [
      {
        extends: true,
        test: {
          name: 'together',
          include: ['src', 'sim', 'tests', 'tools', 'bench'].map((folder) => `${folder}/**/*.test.ts`),
          exclude: [...ALONE, ...BY_HAND],
          // One more than there are processors in the smallest machine: some of them wait.
          maxWorkers: 3,
          sequence: { groupOrder: 1 },
        },
      },
      {
        extends: true,
        test: { name: 'alone', include: ALONE, maxWorkers: 1, sequence: { groupOrder: 2 } },
      },
      ...(process.argv.includes('by-hand')
        ? [
            {
              extends: true as const,
              test: { name: 'by-hand', include: BY_HAND, maxWorkers: 1, sequence: { groupOrder: 3 } },
            },
          ]
        : []),
    ],
  },
});
