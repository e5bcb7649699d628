/** The ten of bench/guest, in the order in which they run. */
export const WORKLOADS = [
  'syscall',
  'forkexec',
  'integer',
  'sha256',
  'sort',
  'gzip',
  'memcpy',
  'chase',
  'nbody',
  'matmul',
] as const;

/** From the first instruction, or the firmware's, to the first line of /init. */
export const BOOT = 'init';

/** Done only when it is asked for: the guest sleeps. */
export const IDLE = 'idle';

/** From the start to the end of all. */
export const ALL = 'all';
