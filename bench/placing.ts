import { execFile } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { promisify } from 'node:util';

/** Design section 10: host A and the clients on one core, host B on another, also when fault tolerance is off. */
export const CORES = { all: 0, backup: 1 } as const;

/** Pins this process and what it starts from now on, and says what is missing for it. */
export async function pinClients(): Promise<string | undefined> {
  if (availableParallelism() < 2) return 'this machine has only one core: host A and host B would share it';
  try {
    await promisify(execFile)('taskset', ['-a', '-c', '-p', String(CORES.all), String(process.pid)]);
    return undefined;
  } catch (error) {
    return `taskset (util-linux) does not pin: ${(error as Error).message.split('\n')[0]}`;
  }
}
