import { describe, expect, it } from 'vitest';
import { cpuidTable } from './cpuid.ts';

const cpuid = cpuidTable({ tscFrequencyHz: 1e9 });

function text(...registers: number[]): string {
  const bytes = new Uint8Array(Uint32Array.from(registers).buffer);
  return String.fromCharCode(...bytes).replace(/\0+$/, '');
}

describe('CPUID', () => {
  it('names a processor that kernels know not to speculate', () => {
    const [max, ebx, ecx, edx] = cpuid(0, 0);
    expect(text(ebx, edx, ecx)).toBe('GenuineIntel');
    expect(max).toBe(0x16);
    const [signature] = cpuid(1, 0);
    // Family 6, model 1Ch, a stepping past the erratum of steppings 0 to 2.
    expect(signature).toBe(0x106ca);
  });

  it('offers what Debian needs: FPU, MSR, PAE, CX8, CMOV, MMX, FXSR, SSE2, SYSCALL, long mode', () => {
    const [, , , edx] = cpuid(1, 0);
    for (const bit of [0, 4, 5, 6, 8, 9, 15, 23, 24, 25, 26]) expect((edx >>> bit) & 1, `EDX ${bit}`).toBe(1);
    const [, , , extended] = cpuid(0x8000_0001, 0);
    for (const bit of [11, 20, 29]) expect((extended >>> bit) & 1, `extended ${bit}`).toBe(1);
  });

  it('offers nothing that is not there', () => {
    const [, , ecx, edx] = cpuid(1, 0);
    // SSE3, MONITOR, SSSE3, FMA, CMPXCHG16B, SSE4, MOVBE, POPCNT, AES, XSAVE, AVX.
    for (const bit of [0, 3, 9, 12, 13, 19, 20, 22, 23, 25, 26, 28]) expect((ecx >>> bit) & 1).toBe(0);
    // VME, machine checks, MTRRs, several threads.
    for (const bit of [1, 7, 12, 14, 28]) expect((edx >>> bit) & 1).toBe(0);
    const [, ebx] = cpuid(7, 0);
    // BMI, AVX2, SMEP, INVPCID, SMAP.
    for (const bit of [3, 5, 7, 8, 10, 20]) expect((ebx >>> bit) & 1).toBe(0);
    expect(cpuid(7, 1)).toEqual([0, 0, 0, 0]);
    expect(cpuid(0xa, 0)).toEqual([0, 0, 0, 0]);
  });

  it('tells the frequencies, so that nothing is calibrated against a timer', () => {
    const [denominator, numerator, crystal] = cpuidTable({
      tscFrequencyHz: 2.5e9,
      crystalFrequencyHz: 1e9,
    })(0x15, 0);
    expect((crystal * numerator) / denominator).toBe(2.5e9);
    expect(cpuid(0x16, 0)[0]).toBe(1000);
    expect(cpuid(0x4000_0010, 0).slice(0, 2)).toEqual([1_000_000, 1_000_000]);
    // Invariant TSC, TSC_ADJUST, ARAT: Linux trusts the TSC and needs no PIT.
    expect(cpuid(0x8000_0007, 0)[3] & 0x100).toBe(0x100);
    expect(cpuid(7, 0)[1] & 2).toBe(2);
    expect(cpuid(6, 0)[0] & 4).toBe(4);
  });

  it('shows a hypervisor with its own name, and the brand', () => {
    expect(cpuid(1, 0)[2] >>> 31).toBe(1);
    const [, ...name] = cpuid(0x4000_0000, 0);
    expect(text(...name)).toBe('LockstepFT');
    expect(text(...[2, 3, 4].flatMap((part) => [...cpuid(0x8000_0000 + part, 0)]))).toBe(
      'Lockstep virtual processor',
    );
  });

  it('ends the enumeration of caches and of topology', () => {
    expect(cpuid(4, 3)[0] & 0x1f).toBe(3);
    expect(cpuid(4, 4)).toEqual([0, 0, 0, 0]);
    expect(cpuid(0xb, 2)).toEqual([0, 0, 2, 0]);
  });

  it('answers beyond the last leaf as for the last [SDM 2A CPUID]', () => {
    expect(cpuid(0x17, 0)).toEqual(cpuid(0x16, 0));
    expect(cpuid(0x8000_0009, 0)).toEqual(cpuid(0x16, 0));
  });
});
