import { failed, ok, type Result } from '../src/base/result.ts';
import { buildImage, type GuestImage } from '../src/host/image/build-image.ts';
import type { StatusLine } from '../tools/pair/json-process.ts';
import type { ProtectedGuest, SavedGuest } from '../tools/pair/protected-guest.ts';
import { savedGuest } from '../tools/pair/saved-guest.ts';
import { CORES, pinClients } from './placing.ts';

const STATE_MS_MAX = 60_000;

/** Resolves when host A is in this state. */
export async function reaches(guest: ProtectedGuest, state: 'SOLE' | 'PAIR'): Promise<void> {
  const deadline = performance.now() + STATE_MS_MAX;
  const [a] = guest.hosts;
  while (a.state !== state) {
    if (!a.process.running || a.state === 'HALT') throw new Error(`host A halted: ${a.reason}`);
    if (performance.now() > deadline)
      throw new Error(`host A is in ${a.state}, not in ${state}: ${a.reason}`);
    await pause(20);
  }
}

export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** One of host A's status lines with figures, and when it came. */
export interface Sample {
  readonly ms: number;
  /** Bytes of log frames since the start. */
  readonly logBytes: number;
  /** Bytes written to the network for the channel since the start: frames and TLS. */
  readonly wireBytes: number;
  readonly count: number;
  /** The share of host time that the vCPU was allowed. */
  readonly share: number;
}

/** What host A measured of its outputs and its vCPU [src/ft/output-waits.ts, src/host/vm-process.ts]. */
export interface PrimaryWatch {
  readonly heldMs: number[];
  readonly countsWhileHeld: number[];
  readonly roundTripsMs: number[];
  readonly standstillsMs: number[];
  readonly lagsMs: number[];
  readonly samples: Sample[];
  /** States that host A went through. */
  readonly states: string[];
}

/** Collects host A's figures from now on. */
export function watchPrimary(guest: ProtectedGuest): PrimaryWatch {
  const watch: PrimaryWatch = {
    heldMs: [],
    countsWhileHeld: [],
    roundTripsMs: [],
    standstillsMs: [],
    lagsMs: [],
    samples: [],
    states: [],
  };
  let first = true;
  guest.hosts[0].process.listen((line: StatusLine) => {
    if (line.kind === 'state') watch.states.push(String(line.state));
    if (line.kind !== 'figures') return;
    const { logBytes, wireBytes, count, share } = line as unknown as Sample;
    watch.samples.push({ ms: performance.now(), logBytes, wireBytes, count, share });
    // The first line tells of the time before.
    if (first) {
      first = false;
      return;
    }
    for (const { heldMs, counts } of line.waits as { heldMs: number; counts: number }[]) {
      watch.heldMs.push(heldMs);
      watch.countsWhileHeld.push(counts);
    }
    watch.roundTripsMs.push(...(line.roundTripsMs as number[]));
    watch.standstillsMs.push(line.standstillMs as number);
    watch.lagsMs.push(line.lagMs as number);
  });
  return watch;
}

/** What every round starts from, or why there can be none. */
export interface Ground {
  readonly image: GuestImage;
  readonly from: SavedGuest;
  /** Absent where nothing can be pinned; that is a complaint. */
  readonly cores: { readonly cores?: typeof CORES };
  readonly complaints: readonly string[];
}

export async function prepare(
  say: (line: string) => void,
  memoryBytes?: number,
  name = 'demo',
): Promise<Result<Ground>> {
  const image = await buildImage(name, { progress: say });
  if (!image.ok) return image;
  try {
    const from = await savedGuest(image.value, say, memoryBytes);
    const unpinned = await pinClients();
    const pinned = unpinned === undefined;
    return ok({
      image: image.value,
      from,
      cores: pinned ? { cores: CORES } : {},
      complaints: pinned ? [] : [unpinned],
    });
  } catch (error) {
    return failed((error as Error).message);
  }
}
