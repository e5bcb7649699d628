import { failed, ok, type Result } from '../base/result.ts';

const MIB = 1024 * 1024;
const MEMORY_MAX = 3584 * MIB;
const UNITS: Readonly<Record<string, number>> = { K: 1024, M: MIB, G: 1024 * MIB };

/** A guest's memory: `512M`, `2G`; a number alone is MiB, as with QEMU. */
export function parseMemorySize(text: string): Result<number> {
  const match = /^(\d+(?:\.\d+)?)([KMG]?)(?:i?B)?$/i.exec(text);
  if (match === null) return failed(`${text} is no size: write it like 512M or 2G`);
  const bytes = Number(match[1]) * (UNITS[(match[2] || 'M').toUpperCase()] ?? MIB);
  if (bytes % MIB !== 0) return failed(`${text} is no whole number of MiB`);
  if (bytes > MEMORY_MAX) return failed(`${text} is too much: a guest has at most 3584M`);
  if (bytes < MIB) return failed(`${text} is too little: give at least 64M to run Linux`);
  return ok(bytes);
}
