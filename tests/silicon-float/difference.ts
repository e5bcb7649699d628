import type { SiliconRecord } from './record.ts';

const hex = (value: bigint | number): string => value.toString(16);

/** What one record says, as text: for comparing and for showing. */
export function describe(record: SiliconRecord): Record<string, string> {
  const text: Record<string, string> = {
    signal: `${record.signal}`,
    rax: hex(record.rax),
    rflags: hex(record.rflags & 0x8d5n),
    mxcsr: hex(record.mxcsr),
    fcw: hex(record.fcw),
    fsw: hex(record.fsw),
    ftw: hex(record.ftw),
    xmm0: hex(record.xmm(0)).padStart(32, '0'),
    xmm1: hex(record.xmm(1)).padStart(32, '0'),
    memory: Buffer.from(record.memory.subarray(0, 12))
      .toString('hex')
      .replace(/(00)+$/, ''),
  };
  for (let i = 0; i < 8; i++) text[`st${i}`] = hex(record.st(i)).padStart(20, '0');
  return text;
}

/** Fields in which two records differ: `name: wanted, got`. */
export function differences(wanted: SiliconRecord, got: SiliconRecord): string[] {
  const left = describe(wanted);
  const right = describe(got);
  return Object.keys(left)
    .filter((key) => left[key] !== right[key])
    .map((key) => `${key}: silicon ${left[key]}, model ${right[key]}`);
}

/** Whether two 80-bit values are at most `units` units in the last place apart. */
export function isNear(x: bigint, y: bigint, units: bigint): boolean {
  if (x >> 79n !== y >> 79n) return false;
  const steps = (bits: bigint): bigint => (((bits >> 64n) & 0x7fffn) << 63n) | (bits & ((1n << 63n) - 1n));
  const distance = steps(x) - steps(y);
  return distance <= units && distance >= -units;
}

/** As `differences`, for transcendental functions: results to one unit, and C1 depends on them. */
export function differencesOfApproximations(wanted: SiliconRecord, got: SiliconRecord): string[] {
  const near = new Set(
    [0, 1, 2, 3, 4, 5, 6, 7].filter((i) => isNear(wanted.st(i), got.st(i), 1n)).map((i) => `st${i}`),
  );
  return differences(wanted, got).filter((line) => {
    const key = line.split(':')[0]!;
    if (key === 'fsw') return (wanted.fsw & ~0x200) !== (got.fsw & ~0x200);
    return !near.has(key);
  });
}
