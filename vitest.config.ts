import { defineConfig } from 'vitest/config';

/** Whole systems in real time: nothing else runs beside them. */
const ALONE = [
  'tests/{arbiter-takeover,chaos,control,demo,divergence,faulty-side,logging-channel}.test.ts',
  'tests/{migration,one-request,services,stopped-primary,takeover}.test.ts',
];
/** Several processes each, which mostly wait, and to which a slow host is none too many. Two at a time. */
const HOSTS = [
  'tests/{arbiters,cluster,cluster-etcd,cluster-store-kinds,cluster-stores,host-daemon}.test.ts',
  'tests/{move,rolling-upgrade,tap-guest}.test.ts',
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
          exclude: [...ALONE, ...HOSTS],
          maxWorkers: 2,
          sequence: { groupOrder: 1 },
        },
      },
      {
        extends: true,
        test: { name: 'hosts', include: HOSTS, maxWorkers: 2, sequence: { groupOrder: 2 } },
      },
      {
        extends: true,
        test: { name: 'alone', include: ALONE, maxWorkers: 1, sequence: { groupOrder: 3 } },
      },
    ],
  },
});
