/** One measurement in the guest [disk.c]. */
export interface Cell {
  readonly pattern: 'seq' | 'rand';
  readonly operation: 'read' | 'write';
  readonly depth: number;
  readonly blockBytes: number;
}

const BLOCK_BYTES = { seq: 65_536, rand: 4096 } as const;

export const CELLS: readonly Cell[] = (['write', 'read'] as const).flatMap((operation) =>
  (['seq', 'rand'] as const).flatMap((pattern) =>
    [1, 32].map((depth) => ({ pattern, operation, depth, blockBytes: BLOCK_BYTES[pattern] })),
  ),
);

export function nameOf({ pattern, operation, depth }: Cell): string {
  return `${pattern} ${operation} ${depth}`;
}

/** Whoever has a guest's console. */
export interface GuestConsole {
  type(text: string): void;
  /** All of it, or its end. */
  text(): string;
  /** Why nothing more comes. */
  ended(): string | undefined;
}

const AGAIN_MS = 20;
/** Beside the time that it measures. */
const CELL_MS_MAX = 120_000;

let runs = 0;

/** MB/s, by the guest's clock. */
export async function measureCell(guest: GuestConsole, cell: Cell, ms: number): Promise<number> {
  const tag = `t${++runs}`;
  const { pattern, operation, depth, blockBytes } = cell;
  const startedAt = performance.now();
  guest.type(`disk ${tag} ${pattern} ${operation} ${depth} ${blockBytes} ${ms}\n`);
  const line = new RegExp(
    `LOCKSTEP-DISK ${tag} (?:failed ([^\\r\\n]*)[\\r\\n]|operations (\\d+) us (\\d+) wrong (\\d+) end)`,
  );
  for (;;) {
    const [, failure, operations, us, wrong] = line.exec(guest.text()) ?? [];
    if (failure !== undefined) throw new Error(`${nameOf(cell)}: ${failure}`);
    if (operations !== undefined) {
      if (wrong !== '0') throw new Error(`${nameOf(cell)}: ${wrong} operations went wrong`);
      const passedMs = performance.now() - startedAt;
      if (Number(us) / 1000 > passedMs)
        throw new Error(`${nameOf(cell)}: the guest's clock is ahead of this one`);
      return (Number(operations) * blockBytes) / Number(us);
    }
    const why = guest.ended();
    if (why !== undefined) throw new Error(`${nameOf(cell)}: the guest ended: ${why}`);
    if (performance.now() - startedAt > ms + CELL_MS_MAX) throw new Error(`${nameOf(cell)} does not end`);
    await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
  }
}
