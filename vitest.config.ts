import { defineConfig } from 'vitest/config';

/** Whole systems in real time: nothing else runs beside them. */
const ALONE = [
  'tests/{arbiter-takeover,arbiters,chaos,cluster-store-kinds,cluster-stores,control,demo,divergence,faulty-side,logging-channel}.test.ts',
  'tests/{cluster,cluster-etcd,host-daemon,migration,move,one-request,rolling-upgrade,services,stopped-primary,takeover,tap-guest}.test.ts',
];

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
          exclude: ALONE,
          maxWorkers: 2,
          sequence: { groupOrder: 1 },
        },
      },
      {
        extends: true,
        test: { name: 'alone', include: ALONE, maxWorkers: 1, sequence: { groupOrder: 2 } },
      },
    ],
  },
});
