import type { Result } from '../src/base/result.ts';
import type { Instance } from '../src/cluster/content.ts';
import type { ClusterReading, ClusterStore } from '../src/storage/cluster-store.ts';

/** Short, and still long against what a busy machine takes away from a process. */
export const PRESENCE_MS = 3_000;

export function must<Value>(result: Result<Value>): Value {
  if (!result.ok) throw new Error(result.error);
  return result.value;
}

export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

export async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await pause(10);
}

export function instanceOf(vm: string, host: string, state = 'PAIR'): Instance {
  return { vm, host, id: `${vm}-1`, role: 'primary', state, memoryBytes: 2 ** 29, address: undefined };
}

/** What a watcher was told, the newest last. */
export class Watched {
  readonly readings: ClusterReading[] = [];
  readonly troubles: string[] = [];
  confirmations = 0;
  readonly stop: () => void;

  constructor(store: ClusterStore) {
    this.stop = store.watch({
      changed: (reading) => this.readings.push(reading),
      unchanged: () => {
        this.confirmations += 1;
      },
      outOfReach: (reason) => this.troubles.push(reason),
    });
  }

  get newest(): ClusterReading | undefined {
    return this.readings.at(-1);
  }

  isPresent(host: string): boolean {
    return this.newest?.content.hosts.find(({ name }) => name === host)?.presence !== undefined;
  }
}
