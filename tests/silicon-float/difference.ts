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
