import { describe, expect, it } from 'vitest';
import { DONE } from '../cpu.ts';
import { CR4, EFER, PAT, RAX, RCX, RDX, SEGMENT, SEGMENT_BASE, TSC_AUX, TSC_OFFSET } from '../state.ts';
import { MSR, READ_MSR, READ_TIMESTAMP, READ_TIMESTAMP_AUX, WRITE_MSR } from './msr.ts';
import type { TestCpu } from './test-cpu.ts';
import { enterUser, longModeCpu } from './test-machine.ts';

function write(cpu: TestCpu, index: number, value: bigint) {
  cpu.state.set64(RCX, BigInt(index));
  // The upper halves of RAX and RDX do not count.
  cpu.state.set64(RAX, 0xffff_ffff_0000_0000n | (value & 0xffff_ffffn));
  cpu.state.set64(RDX, 0xffff_ffff_0000_0000n | (value >> 32n));
  return cpu.run(WRITE_MSR);
}

function read(cpu: TestCpu, index: number) {
  cpu.state.set64(RCX, BigInt(index));
  const outcome = cpu.run(READ_MSR);
  return outcome === DONE ? (cpu.state.get64(RDX) << 32n) | cpu.state.get64(RAX) : outcome;
}

describe('RDMSR and WRMSR [SDM 2B]', () => {
  it('are for privilege 0, and know no other registers than those offered', () => {
    const cpu = longModeCpu();
    expect(read(cpu, 0x1234)).toEqual([13, 0]);
    expect(write(cpu, 0x1234, 0n)).toEqual([13, 0]);
    expect(read(cpu, 0xfe)).toEqual([13, 0]); // MTRRs are not offered
    enterUser(cpu);
    expect(read(cpu, MSR.star)).toEqual([13, 0]);
    expect(write(cpu, MSR.star, 0n)).toEqual([13, 0]);
  });

  it('reach the segment bases, which must be canonical', () => {
    const cpu = longModeCpu();
    expect(write(cpu, MSR.gsBase, 0xffff_8880_1234_5678n)).toBe(DONE);
    expect(cpu.state.get64(SEGMENT_BASE + SEGMENT.gs * 8)).toBe(0xffff_8880_1234_5678n);
    expect(read(cpu, MSR.gsBase)).toBe(0xffff_8880_1234_5678n);
    for (const index of [MSR.fsBase, MSR.kernelGsBase, MSR.lstar, MSR.cstar, MSR.sysenterEip]) {
      expect(write(cpu, index, 0x0000_8000_0000_0000n)).toEqual([13, 0]);
      expect(write(cpu, index, 0x0000_7fff_ffff_ffffn)).toBe(DONE);
    }
  });

  it('keep EFER to its rules [SDM 3A 2.2.1, 9.8.5]', () => {
    const cpu = longModeCpu();
    expect(read(cpu, MSR.efer)).toBe(0x500n);
    expect(write(cpu, MSR.efer, 0xd01n)).toBe(DONE);
    expect(cpu.state.get64(EFER)).toBe(0xd01n);
    // LMA is read-only, LME fixed while paging is on, and the rest reserved.
    expect(write(cpu, MSR.efer, 0x901n)).toBe(DONE);
    expect(read(cpu, MSR.efer)).toBe(0xd01n);
    expect(write(cpu, MSR.efer, 0x401n)).toEqual([13, 0]);
    expect(write(cpu, MSR.efer, 0x4d01n)).toEqual([13, 0]);
  });

  it('take only memory types into PAT [SDM 3A 11.12.2]', () => {
    const cpu = longModeCpu();
    expect(read(cpu, MSR.pat)).toBe(0x0007_0406_0007_0406n);
    expect(write(cpu, MSR.pat, 0x0407_0506_0007_0106n)).toBe(DONE);
    expect(write(cpu, MSR.pat, 0x0000_0000_0000_0002n)).toEqual([13, 0]);
    expect(cpu.state.get64(PAT)).toBe(0x0407_0506_0007_0106n);
  });

  it('hand the local APIC its own', () => {
    const cpu = longModeCpu();
    cpu.deviceRegisters.set(0x80b, 0n);
    cpu.deviceRegisters.set(MSR.tscDeadline, 0n);
    expect(write(cpu, 0x80b, 5n)).toBe(DONE);
    expect(cpu.deviceRegisters.get(0x80b)).toBe(5n);
    expect(write(cpu, MSR.tscDeadline, 123n)).toBe(DONE);
    expect(read(cpu, MSR.tscDeadline)).toBe(123n);
    expect(write(cpu, 0x80c, 5n)).toEqual([13, 0]);
  });
});

describe('the timestamp counter [SDM 3B 17.17]', () => {
  it('is guest time plus the offset that writes leave in IA32_TSC_ADJUST', () => {
    const cpu = longModeCpu();
    cpu.now = 1_000_000_000_000n;
    expect(write(cpu, MSR.tsc, 500n)).toBe(DONE);
    cpu.now += 42n;
    cpu.run(READ_TIMESTAMP);
    expect((cpu.state.get64(RDX) << 32n) | cpu.state.get64(RAX)).toBe(542n);
    expect(read(cpu, MSR.tscAdjust)).toBe(BigInt.asUintN(64, 500n - 1_000_000_000_000n));
    expect(write(cpu, MSR.tscAdjust, 0n)).toBe(DONE);
    expect(read(cpu, MSR.tsc)).toBe(cpu.now);
    expect(cpu.state.get64(TSC_OFFSET)).toBe(0n);
  });

  it('can be kept from user code by CR4.TSD', () => {
    const cpu = longModeCpu();
    cpu.state.set64(TSC_AUX, 7n);
    enterUser(cpu);
    expect(cpu.run(READ_TIMESTAMP_AUX)).toBe(DONE);
    expect(cpu.state.get64(RCX)).toBe(7n);
    cpu.state.set64(CR4, 0x24n);
    expect(cpu.run(READ_TIMESTAMP)).toEqual([13, 0]);
    expect(cpu.run(READ_TIMESTAMP_AUX)).toEqual([13, 0]);
  });
});
