import { readFile } from 'node:fs/promises';

/** Of /proc/PID/stat [proc(5)]: utime and stime, counted from the state, in hundredths of a second. */
const STAT = { user: 11, system: 12, perSecond: 100 } as const;

/** Processor time that a process has used since its start, in seconds. */
export async function cpuSecondsOf(pid: number): Promise<number> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8');
  // The program's name is in parentheses and may hold anything; the state follows it.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[STAT.user]) + Number(fields[STAT.system])) / STAT.perSecond;
}
