import type { CpuidTable } from '../cpu.ts';
import { PHYSICAL_ADDRESS_BITS } from '../paging.ts';

/**
 * What the processor says it is [SDM 2A CPUID]. It offers what is implemented, and nothing else; it depends on
 * the VM's configuration alone, and is compared when two sides connect.
 *
 * Why GenuineIntel, family 6, model 1Ch (the in-order Atom "Bonnell"): it executes nothing speculatively, and
 * kernels know it. Linux's cpu_vuln_whitelist gives it NO_SPECULATION, so page-table isolation, retpolines,
 * return thunks, buffer clearing and the rest stay off without any command line; that halves the instructions of
 * a system call. Other kernels keep the same list. No other choice switches all of them off: AMD's families are
 * free of Meltdown, but not of Spectre. Stepping 10 is past the large-page erratum of steppings 0 to 2.
 *
 * Intel, because Linux reads leaves 15h and 16h only there. With them the frequencies of TSC and APIC timer are
 * known (TSC_KNOWN_FREQ), nothing is calibrated against the PIT, and none is needed (ARAT in leaf 6). Leaf
 * 80000007h with TSC_ADJUST in leaf 7 makes the TSC trusted without a watchdog clocksource.
 *
 * REP MOVS and REP STOS are fast here, so ERMS is offered, and the kernel and the C library copy with them.
 */
export interface CpuidConfiguration {
  readonly tscFrequencyHz: number;
  /** What the APIC timer counts before its divider; the "crystal" of leaf 15h. */
  readonly crystalFrequencyHz?: number;
}

export type CpuidLeaf = readonly [eax: number, ebx: number, ecx: number, edx: number];

const VENDOR = 'GenuineIntel';
const NOTHING: CpuidLeaf = [0, 0, 0, 0];
const BASIC_MAX = 0x16;
const EXTENDED_MAX = 0x8000_0008;
const HYPERVISOR_FIRST = 0x4000_0000;
/** Leaf 40000010h: frequencies in kHz, as several hypervisors report them. */
const HYPERVISOR_TIMING = 0x4000_0010;

const FAMILY = 6;
const MODEL = 0x1c;
const STEPPING = 10;
const SIGNATURE = ((MODEL >> 4) << 16) | (FAMILY << 8) | ((MODEL & 0xf) << 4) | STEPPING;

const CACHE_LINE = 64;
/** EBX of leaf 1: CLFLUSH line size in units of 8 bytes, one logical processor, APIC ID 0. */
const FEATURE_EBX = ((CACHE_LINE / 8) << 8) | (1 << 16);

/** Leaf 1, EDX. */
const FEATURE_EDX = bits({
  fpu: 0,
  debuggingExtensions: 2,
  pageSizeExtension: 3,
  tsc: 4,
  msr: 5,
  pae: 6,
  cx8: 8,
  apic: 9,
  sysenter: 11,
  pge: 13,
  cmov: 15,
  pat: 16,
  pse36: 17,
  clflush: 19,
  mmx: 23,
  fxsr: 24,
  sse: 25,
  sse2: 26,
});

/** Leaf 1, ECX. */
const FEATURE_ECX = bits({ x2apic: 21, tscDeadline: 24, rdrand: 30, hypervisor: 31 });

/** Leaf 6, EAX: the APIC timer always runs. */
const POWER_EAX = bits({ arat: 2 });

/** Leaf 7, EBX. */
const STRUCTURED_EBX = bits({ fsgsbase: 0, tscAdjust: 1, erms: 9, rdseed: 18 });

/** Leaf 80000001h. */
const EXTENDED_EDX = bits({ syscall: 11, noExecute: 20, pages1G: 26, rdtscp: 27, longMode: 29 });
const EXTENDED_ECX = bits({ lahf64: 0 });

/** Leaf 80000007h, EDX. */
const INVARIANT_TSC = bits({ invariant: 8 });

const BRAND = 'Lockstep virtual processor';

function bits(positions: Readonly<Record<string, number>>): number {
  let mask = 0;
  for (const position of Object.values(positions)) mask |= 1 << position;
  return mask >>> 0;
}

/** Four characters of ASCII as a register, zero-padded. */
function register(text: string, at: number): number {
  let value = 0;
  for (let index = 3; index >= 0; index -= 1) value = value * 256 + (text.charCodeAt(at + index) || 0);
  return value;
}

/** Deterministic cache parameters, leaf 4: type 1 data, 2 instruction, 3 unified. */
function cache(type: number, level: number, ways: number, sets: number): CpuidLeaf {
  return [type | (level << 5) | (1 << 8), (CACHE_LINE - 1) | ((ways - 1) << 22), sets - 1, 0];
}

/** Leaf 4. C libraries choose thresholds for copying by the size of the last level. */
const CACHES: readonly CpuidLeaf[] = [
  cache(1, 1, 8, 64), // 32 KiB
  cache(2, 1, 8, 64), // 32 KiB
  cache(3, 2, 8, 1024), // 512 KiB
  cache(3, 3, 16, 8192), // 8 MiB
];

export function cpuidTable(configuration: CpuidConfiguration): CpuidTable {
  const tscHz = configuration.tscFrequencyHz;
  const crystalHz = configuration.crystalFrequencyHz ?? tscHz;
  const divisor = greatestCommonDivisor(tscHz, crystalHz);
  const mhz = Math.max(1, Math.round(tscHz / 1e6));
  const leaves: ReadonlyMap<number, CpuidLeaf> = new Map<number, CpuidLeaf>([
    [0x0, [BASIC_MAX, register(VENDOR, 0), register(VENDOR, 8), register(VENDOR, 4)]],
    [0x1, [SIGNATURE, FEATURE_EBX, FEATURE_ECX, FEATURE_EDX]],
    // Descriptor FFh: the caches are in leaf 4.
    [0x2, [0x00ff_0001, 0, 0, 0]],
    [0x6, [POWER_EAX, 0, 0, 0]],
    [0x15, [crystalHz / divisor, tscHz / divisor, crystalHz, 0]],
    [0x16, [mhz, mhz, Math.max(1, Math.round(crystalHz / 1e6)), 0]],
    [
      HYPERVISOR_FIRST,
      [HYPERVISOR_TIMING, register('LockstepFT', 0), register('LockstepFT', 4), register('LockstepFT', 8)],
    ],
    [HYPERVISOR_TIMING, [Math.round(tscHz / 1000), Math.round(crystalHz / 1000), 0, 0]],
    [0x8000_0000, [EXTENDED_MAX, 0, 0, 0]],
    [0x8000_0001, [0, 0, EXTENDED_ECX, EXTENDED_EDX]],
    ...[0, 1, 2].map((part): [number, CpuidLeaf] => {
      const at = part * 16;
      const [eax, ebx, ecx, edx] = [0, 4, 8, 12].map((offset) => register(BRAND, at + offset));
      return [0x8000_0002 + part, [eax!, ebx!, ecx!, edx!]];
    }),
    // 512 KiB of second-level cache, 8 ways, 64-byte lines.
    [0x8000_0006, [0, 0, (512 << 16) | (6 << 12) | CACHE_LINE, 0]],
    [0x8000_0007, [0, 0, 0, INVARIANT_TSC]],
    [0x8000_0008, [PHYSICAL_ADDRESS_BITS | (48 << 8), 0, 0, 0]],
  ]);
  return (leaf, subleaf) => {
    switch (leaf) {
      case 0x4:
        return CACHES[subleaf] ?? NOTHING;
      case 0x7:
        return subleaf === 0 ? [0, STRUCTURED_EBX, 0, 0] : NOTHING;
      case 0xb:
        // One thread of one core, x2APIC ID 0. Both levels shift the ID by nothing.
        if (subleaf === 0) return [0, 1, 0x100, 0];
        if (subleaf === 1) return [0, 1, 0x201, 0];
        return [0, 0, subleaf & 0xff, 0];
      default:
        return leaves.get(leaf) ?? outOfRange(leaf, leaves);
    }
  };
}

/** A leaf beyond the highest answers as the highest basic leaf does, as Intel's processors do [SDM 2A CPUID]. */
function outOfRange(leaf: number, leaves: ReadonlyMap<number, CpuidLeaf>): CpuidLeaf {
  const within =
    leaf <= BASIC_MAX ||
    (leaf >= HYPERVISOR_FIRST && leaf <= HYPERVISOR_TIMING) ||
    (leaf >= 0x8000_0000 && leaf <= EXTENDED_MAX);
  return within ? NOTHING : leaves.get(BASIC_MAX)!;
}

function greatestCommonDivisor(a: number, b: number): number {
  while (b !== 0) [a, b] = [b, a % b];
  return a;
}
