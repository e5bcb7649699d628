import { readdirSync, readFileSync } from 'node:fs';

/** Of /proc/PID/stat [proc(5)], counted from the state. */
const FIELD = { parent: 1, user: 11, system: 12, childrenUser: 13, childrenSystem: 14 } as const;
const TICKS_PER_SECOND = 100;

interface ProcessTimes {
  readonly parent: number;
  readonly ticks: number;
}

export interface TreeUse {
  /** User and system time of the process, of all below it, and of those of them that have ended. */
  readonly cpuSeconds: number;
  /** The sum of what each living process had in memory at its peak. */
  readonly peakMemoryMB: number;
}

/** What a process and all below it have used up to now. */
export function treeUse(root: number): TreeUse {
  const all = new Map<number, ProcessTimes>();
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    const times = parseStat(read(`/proc/${name}/stat`));
    if (times !== undefined) all.set(Number(name), times);
  }
  let ticks = 0;
  let kilobytes = 0;
  for (const [pid, times] of all) {
    if (!isBelow(pid, root, all)) continue;
    ticks += times.ticks;
    kilobytes += Number(/^VmHWM:\s+(\d+) kB$/m.exec(read(`/proc/${pid}/status`))?.[1] ?? 0);
  }
  return { cpuSeconds: ticks / TICKS_PER_SECOND, peakMemoryMB: kilobytes / 1024 };
}

/** The name of the program stands in parentheses and may hold anything. */
export function parseStat(line: string): ProcessTimes | undefined {
  const fields = line
    .slice(line.lastIndexOf(')') + 2)
    .split(' ')
    .map(Number);
  if (fields.length < FIELD.childrenSystem + 1) return undefined;
  const { user, system, childrenUser, childrenSystem } = FIELD;
  const ticks = [user, system, childrenUser, childrenSystem].reduce((sum, at) => sum + fields[at]!, 0);
  return { parent: fields[FIELD.parent]!, ticks };
}

function isBelow(pid: number, root: number, all: ReadonlyMap<number, ProcessTimes>): boolean {
  for (let at = pid, depth = 0; depth < 100; depth++) {
    if (at === root) return true;
    const parent = all.get(at)?.parent;
    if (parent === undefined || parent <= 1) return false;
    at = parent;
  }
  return false;
}

/** Empty for a process that has just ended. */
function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
