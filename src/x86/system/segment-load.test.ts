import { describe, expect, it } from 'vitest';
import { DONE } from '../cpu.ts';
import {
  CR0,
  EFER,
  FLAG,
  INTERRUPT_SHADOW,
  RAX,
  RBX,
  RSP,
  SEGMENT,
  SEGMENT_ACCESS,
  SEGMENT_BASE,
  SEGMENT_LIMIT,
  SEGMENT_SELECTOR,
} from '../state.ts';
import {
  ADJUST_PRIVILEGE,
  LOAD_ACCESS_RIGHTS,
  LOAD_GDT,
  LOAD_SEGMENT_LIMIT,
  LOAD_TASK,
  STORE_GDT,
  VERIFY_SEGMENT,
} from './descriptor-table.ts';
import {
  LOAD_FAR_POINTER,
  LOAD_SEGMENT,
  LOAD_STACK_SEGMENT,
  POP_SEGMENT,
  PUSH_SEGMENT,
} from './segment-load.ts';
import type { TestCpu } from './test-cpu.ts';
import { AT, enterUser, longModeCpu, SELECTOR } from './test-machine.ts';

function load(cpu: TestCpu, segment: number, selector: number) {
  cpu.state.set64(RAX, BigInt(selector));
  return segment === SEGMENT.ss
    ? cpu.run(LOAD_STACK_SEGMENT, { b: RAX })
    : cpu.run(LOAD_SEGMENT, { b: RAX, c: segment });
}

describe('loads of segment registers [SDM 2B MOV]', () => {
  it('fill the hidden part, granularity applied, and set the accessed flag', () => {
    const cpu = longModeCpu();
    // Base 12345678h, limit 1FFFh pages, writable data, not accessed.
    cpu.view.setBigUint64(AT.gdt + 0x48, 0x12c0_9234_5678_1fffn, true);
    expect(load(cpu, SEGMENT.fs, 0x48)).toBe(DONE);
    expect(cpu.state.get64(SEGMENT_BASE + SEGMENT.fs * 8)).toBe(0x1234_5678n);
    expect(cpu.state.get32(SEGMENT_LIMIT + SEGMENT.fs * 4)).toBe(0x1ff_ffff);
    expect(cpu.state.get32(SEGMENT_ACCESS + SEGMENT.fs * 4)).toBe(0xc093);
    expect(cpu.view.getUint8(AT.gdt + 0x4d)).toBe(0x93);
  });

  it('accept null for data, and for the stack only in 64-bit code below privilege 3', () => {
    const cpu = longModeCpu();
    cpu.state.set64(SEGMENT_BASE + SEGMENT.gs * 8, 0x1234n);
    expect(load(cpu, SEGMENT.gs, 3)).toBe(DONE);
    expect(cpu.state.get64(SEGMENT_BASE + SEGMENT.gs * 8)).toBe(0n);
    expect(load(cpu, SEGMENT.ss, 0)).toBe(DONE);
    expect(load(cpu, SEGMENT.ss, 1)).toEqual([13, 0]);
    enterUser(cpu);
    expect(load(cpu, SEGMENT.ss, 3)).toEqual([13, 0]);
    expect(load(cpu, SEGMENT.ds, 3)).toBe(DONE);
  });

  it('check privilege, type and presence', () => {
    const cpu = longModeCpu();
    enterUser(cpu);
    expect(load(cpu, SEGMENT.ds, SELECTOR.kernelData)).toEqual([13, SELECTOR.kernelData]);
    expect(load(cpu, SEGMENT.ds, SELECTOR.tss)).toEqual([13, SELECTOR.tss]);
    expect(load(cpu, SEGMENT.ds, 0x4c)).toEqual([13, 0x4c]); // no LDT
    expect(load(cpu, SEGMENT.es, SELECTOR.conforming)).toBe(DONE);
    expect(load(cpu, SEGMENT.ss, SELECTOR.userCode)).toEqual([13, SELECTOR.userCode & ~3]);
    cpu.view.setUint8(AT.gdt + SELECTOR.absent + 5, 0x72);
    expect(load(cpu, SEGMENT.ds, SELECTOR.absent | 3)).toEqual([11, SELECTOR.absent]);
    expect(load(cpu, SEGMENT.ss, SELECTOR.absent | 3)).toEqual([12, SELECTOR.absent]);
  });

  it('of SS hold interrupts for one instruction', () => {
    const cpu = longModeCpu();
    load(cpu, SEGMENT.ss, SELECTOR.kernelData);
    expect(cpu.state.get32(INTERRUPT_SHADOW)).toBe(1);
  });

  it('in real mode only change selector and base', () => {
    const cpu = longModeCpu();
    cpu.state.set64(CR0, 0x10n);
    cpu.state.set64(EFER, 0n);
    expect(load(cpu, SEGMENT.es, 0xb800)).toBe(DONE);
    expect(cpu.state.get64(SEGMENT_BASE + SEGMENT.es * 8)).toBe(0xb8000n);
    expect(cpu.state.get32(SEGMENT_LIMIT + SEGMENT.es * 4)).toBe(0xffff_ffff);
  });

  it('from the stack leave RSP alone when they fault', () => {
    const cpu = longModeCpu();
    cpu.view.setUint16(AT.stack + 0x800, 0x7c, true);
    expect(cpu.run(POP_SEGMENT, { c: SEGMENT.fs, imm: 8n })).toEqual([13, 0x7c]);
    expect(cpu.state.get64(RSP)).toBe(BigInt(AT.stack + 0x800));
    cpu.run(PUSH_SEGMENT, { c: SEGMENT.cs, imm: 8n });
    expect(cpu.view.getBigUint64(AT.stack + 0x7f8, true)).toBe(BigInt(SELECTOR.kernelCode));
  });

  it('together with a register change neither when one faults', () => {
    const cpu = longModeCpu();
    cpu.view.setBigUint64(AT.userStack, 0x1122_3344_5566_7788n, true);
    cpu.view.setUint16(AT.userStack + 8, SELECTOR.userData, true);
    cpu.state.set64(RBX, BigInt(AT.userStack));
    const operands = { b: RBX, c: RAX, imm: BigInt(8 | (SEGMENT.gs << 4)) };
    expect(cpu.run(LOAD_FAR_POINTER, operands)).toBe(DONE);
    expect(cpu.state.get64(RAX)).toBe(0x1122_3344_5566_7788n);
    expect(cpu.state.get32(SEGMENT_SELECTOR + SEGMENT.gs * 4)).toBe(SELECTOR.userData);
    cpu.view.setUint16(AT.userStack + 8, 0x7c, true);
    cpu.state.set64(RAX, 1n);
    expect(cpu.run(LOAD_FAR_POINTER, operands)).toEqual([13, 0x7c]);
    expect(cpu.state.get64(RAX)).toBe(1n);
  });
});

describe('descriptor tables', () => {
  it('are stored and loaded with 64-bit bases in 64-bit code', () => {
    const cpu = longModeCpu();
    cpu.state.set64(RBX, BigInt(AT.userStack));
    expect(cpu.run(STORE_GDT, { b: RBX, c: 4 })).toBe(DONE);
    expect(cpu.view.getUint16(AT.userStack, true)).toBe(0x7f);
    expect(cpu.view.getBigUint64(AT.userStack + 2, true)).toBe(BigInt(AT.gdt));
    cpu.view.setBigUint64(AT.userStack + 2, 0x8000_0000_0000n, true);
    expect(cpu.run(LOAD_GDT, { b: RBX, c: 4 })).toEqual([13, 0]);
  });

  it('give LTR a task state segment, which becomes busy', () => {
    const cpu = longModeCpu();
    cpu.state.set64(RAX, BigInt(SELECTOR.tss));
    expect(cpu.run(LOAD_TASK, { b: RAX })).toBe(DONE);
    expect(cpu.state.get64(SEGMENT_BASE + SEGMENT.tr * 8)).toBe(BigInt(AT.tss));
    expect(cpu.view.getUint8(AT.gdt + SELECTOR.tss + 5)).toBe(0x8b);
    expect(cpu.run(LOAD_TASK, { b: RAX })).toEqual([13, SELECTOR.tss]);
  });
});

describe('LAR, LSL, VERR, VERW', () => {
  const zero = (cpu: TestCpu) => (Number(cpu.state.rflags) & FLAG.zf) !== 0;

  it('show a descriptor that the level may see, and set ZF', () => {
    const cpu = longModeCpu();
    enterUser(cpu);
    cpu.state.set64(RAX, BigInt(SELECTOR.userData));
    expect(cpu.run(LOAD_ACCESS_RIGHTS, { b: RAX, c: RBX, imm: 4n })).toBe(DONE);
    expect([zero(cpu), cpu.state.get64(RBX) & 0xf0_ff00n]).toEqual([true, 0xc0_f300n]);
    cpu.run(LOAD_SEGMENT_LIMIT, { b: RAX, c: RBX, imm: 8n });
    expect(cpu.state.get64(RBX)).toBe(0xffff_ffffn);
    cpu.run(VERIFY_SEGMENT, { b: RAX, c: 1 });
    expect(zero(cpu)).toBe(true);
  });

  it('hide the others without a fault, and leave the destination alone', () => {
    const cpu = longModeCpu();
    enterUser(cpu);
    cpu.state.set64(RBX, 77n);
    for (const selector of [0, SELECTOR.kernelData, 0xf8, SELECTOR.tss]) {
      cpu.state.set64(RAX, BigInt(selector));
      expect(cpu.run(LOAD_ACCESS_RIGHTS, { b: RAX, c: RBX, imm: 4n })).toBe(DONE);
      expect([zero(cpu), cpu.state.get64(RBX)]).toEqual([false, 77n]);
    }
    cpu.state.set64(RAX, BigInt(SELECTOR.userCode));
    cpu.run(VERIFY_SEGMENT, { b: RAX, c: 1 });
    expect(zero(cpu)).toBe(false);
    cpu.run(VERIFY_SEGMENT, { b: RAX, c: 0 });
    expect(zero(cpu)).toBe(true);
  });

  it('ARPL raises RPL to that of the caller', () => {
    const cpu = longModeCpu();
    cpu.state.set64(RAX, 0x18n);
    cpu.state.set64(RBX, 0x23n);
    cpu.run(ADJUST_PRIVILEGE, { b: RAX, c: RBX });
    expect([cpu.state.get64(RAX), zero(cpu)]).toEqual([0x1bn, true]);
    cpu.run(ADJUST_PRIVILEGE, { b: RAX, c: RBX });
    expect([cpu.state.get64(RAX), zero(cpu)]).toEqual([0x1bn, false]);
  });
});
