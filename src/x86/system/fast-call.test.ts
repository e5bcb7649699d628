import { describe, expect, it } from 'vitest';
import { DONE } from '../cpu.ts';
import {
  CPL,
  EFER,
  LSTAR,
  R11,
  RCX,
  RDX,
  RIP,
  RSP,
  SEGMENT,
  SEGMENT_ACCESS,
  SEGMENT_SELECTOR,
  SFMASK,
  STAR,
  SYSENTER_CS,
  SYSENTER_EIP,
  SYSENTER_ESP,
} from '../state.ts';
import { SYSCALL, SYSENTER, SYSEXIT, SYSRET } from './fast-call.ts';
import { AT, enterUser, longModeCpu, SELECTOR } from './test-machine.ts';

function systemCallCpu() {
  const cpu = longModeCpu();
  const { state } = cpu;
  state.set64(EFER, state.get64(EFER) | 1n);
  state.set64(STAR, (BigInt(SELECTOR.userCode32) << 48n) | (BigInt(SELECTOR.kernelCode) << 32n));
  state.set64(LSTAR, 0xffff_ffff_8100_0000n);
  state.set64(SFMASK, 0x25_7fd5n);
  enterUser(cpu, 0x24_0ad7n);
  return cpu;
}

const segment = (cpu: ReturnType<typeof longModeCpu>, which: number) => [
  cpu.state.get32(SEGMENT_SELECTOR + which * 4),
  cpu.state.get32(SEGMENT_ACCESS + which * 4),
];

describe('SYSCALL and SYSRET [SDM 2B]', () => {
  it('keep RIP in RCX and RFLAGS in R11, and come back', () => {
    const cpu = systemCallCpu();
    const { state } = cpu;
    expect(cpu.run(SYSCALL)).toBe(DONE);
    expect(state.get64(RCX)).toBe(BigInt(AT.userCode));
    expect(state.get64(R11)).toBe(0x24_0ad7n);
    expect(state.get64(RIP)).toBe(0xffff_ffff_8100_0000n);
    expect(state.rflags).toBe(2n);
    expect(state.get32(CPL)).toBe(0);
    expect(segment(cpu, SEGMENT.cs)).toEqual([SELECTOR.kernelCode, 0xa09b]);
    expect(segment(cpu, SEGMENT.ss)).toEqual([SELECTOR.kernelData, 0xc093]);

    expect(cpu.run(SYSRET, { c: 8 })).toBe(DONE);
    expect(state.get64(RIP)).toBe(BigInt(AT.userCode));
    expect(state.rflags).toBe(0x24_0ad7n);
    expect(state.get32(CPL)).toBe(3);
    expect(segment(cpu, SEGMENT.cs)).toEqual([SELECTOR.userCode, 0xa0fb]);
    expect(segment(cpu, SEGMENT.ss)).toEqual([SELECTOR.userData, 0xc0f3]);
  });

  it('return to compatibility mode with a 32-bit operand size', () => {
    const cpu = systemCallCpu();
    cpu.run(SYSCALL);
    cpu.state.set64(RCX, 0x1234_5678_9abc_def0n);
    expect(cpu.run(SYSRET, { c: 4 })).toBe(DONE);
    expect(cpu.state.get64(RIP)).toBe(0x9abc_def0n);
    expect(segment(cpu, SEGMENT.cs)).toEqual([SELECTOR.userCode32, 0xc0fb]);
  });

  it('are undefined without EFER.SCE and outside 64-bit code', () => {
    const cpu = systemCallCpu();
    cpu.state.set32(SEGMENT_ACCESS + SEGMENT.cs * 4, 0xc0fb);
    expect(cpu.run(SYSCALL)).toEqual([6, 0]);
    const other = longModeCpu();
    expect(other.run(SYSCALL)).toEqual([6, 0]);
    expect(other.run(SYSRET, { c: 8 })).toEqual([6, 0]);
  });

  it('refuse a return from user code, or to an address that is not canonical', () => {
    const cpu = systemCallCpu();
    expect(cpu.run(SYSRET, { c: 8 })).toEqual([13, 0]);
    cpu.run(SYSCALL);
    cpu.state.set64(RCX, 0x8000_0000_0000n);
    expect(cpu.run(SYSRET, { c: 8 })).toEqual([13, 0]);
    expect(cpu.state.get32(CPL)).toBe(0);
  });
});

describe('SYSENTER and SYSEXIT [SDM 2B]', () => {
  it('take stack and target from MSRs, and from RCX and RDX on the way back', () => {
    const cpu = systemCallCpu();
    const { state } = cpu;
    expect(cpu.run(SYSENTER)).toEqual([13, 0]);
    state.set64(SYSENTER_CS, BigInt(SELECTOR.kernelCode));
    state.set64(SYSENTER_ESP, 0xffff_8000_0000_1000n);
    state.set64(SYSENTER_EIP, 0xffff_8000_0000_2000n);
    expect(cpu.run(SYSENTER)).toBe(DONE);
    expect([state.get64(RSP), state.get64(RIP)]).toEqual([0xffff_8000_0000_1000n, 0xffff_8000_0000_2000n]);
    expect(state.rflags & 0x200n).toBe(0n);
    state.set64(RCX, 0xb000n);
    state.set64(RDX, 0x9000n);
    expect(cpu.run(SYSEXIT, { c: 4 })).toBe(DONE);
    expect([state.get64(RSP), state.get64(RIP), state.get32(CPL)]).toEqual([0xb000n, 0x9000n, 3]);
    expect(segment(cpu, SEGMENT.cs)).toEqual([SELECTOR.kernelCode + 16 + 3, 0xc0fb]);
    expect(cpu.run(SYSEXIT, { c: 4 })).toEqual([13, 0]);
  });
});
