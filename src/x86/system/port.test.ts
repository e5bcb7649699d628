import { describe, expect, it } from 'vitest';
import { AGAIN, DONE } from '../cpu.ts';
import { RAX, RCX, RDI, RDX, RIP, RSI, SEGMENT, SEGMENT_LIMIT } from '../state.ts';
import { IN_DX, IN_IMMEDIATE, INS, OUT_DX, OUTS } from './port.ts';
import { AT, enterUser, longModeCpu } from './test-machine.ts';

describe('IN and OUT [SDM 1 18]', () => {
  it('read into AL, AX, or EAX with the upper half cleared', () => {
    const cpu = longModeCpu();
    cpu.state.set64(RAX, 0x1111_2222_3333_4444n);
    cpu.portRead = () => 0x8899_aabb;
    cpu.run(IN_IMMEDIATE, { b: 1, c: 0x60 });
    expect(cpu.state.get64(RAX)).toBe(0x1111_2222_3333_44bbn);
    cpu.state.set64(RDX, 0xffff_03f8n);
    cpu.run(IN_DX, { b: 4 });
    expect(cpu.state.get64(RAX)).toBe(0x8899_aabbn);
    cpu.run(OUT_DX, { b: 2 });
    expect(cpu.portWrites).toEqual([{ port: 0x3f8, size: 2, value: 0xaabb }]);
  });

  it('belong to IOPL, else to the bitmap of the task state segment', () => {
    const cpu = longModeCpu();
    cpu.state.set64(RDX, 0x3f8n);
    cpu.state.set64(RAX, 0n);
    enterUser(cpu, 0x3202n);
    expect(cpu.run(OUT_DX, { b: 1 })).toBe(DONE);
    enterUser(cpu, 0x202n);
    expect(cpu.run(OUT_DX, { b: 1 })).toEqual([13, 0]);
    // A bitmap at offset 68h, of which port 3f9h is open.
    cpu.state.set32(SEGMENT_LIMIT + SEGMENT.tr * 4, 0x68 + 0x80);
    cpu.view.setUint16(AT.tss + 102, 0x68, true);
    cpu.ram.fill(0xff, AT.tss + 0x68, AT.tss + 0x69 + 0x80);
    cpu.view.setUint8(AT.tss + 0x68 + 0x7f, 0xfd);
    expect(cpu.run(OUT_DX, { b: 1 })).toEqual([13, 0]);
    cpu.state.set64(RDX, 0x3f9n);
    expect(cpu.run(OUT_DX, { b: 1 })).toBe(DONE);
    expect(cpu.run(OUT_DX, { b: 2 })).toEqual([13, 0]);
    // Beyond the segment's limit nothing is open.
    cpu.state.set64(RDX, 0x400n);
    expect(cpu.run(OUT_DX, { b: 1 })).toEqual([13, 0]);
  });
});

describe('INS and OUTS [SDM 2A INS, 2B OUTS]', () => {
  it('make one iteration at a time', () => {
    const cpu = longModeCpu();
    let next = 0x41;
    cpu.portRead = () => next++;
    cpu.state.set64(RDI, BigInt(AT.userStack));
    cpu.state.set64(RCX, 3n);
    const operands = { b: 1, c: 8, imm: 1n };
    expect([1, 2, 3, 4].map(() => cpu.run(INS, operands))).toEqual([AGAIN, AGAIN, DONE, DONE]);
    expect([...cpu.ram.subarray(AT.userStack, AT.userStack + 4)]).toEqual([0x41, 0x42, 0x43, 0]);
    expect([cpu.state.get64(RCX), cpu.state.get64(RDI)]).toEqual([0n, BigInt(AT.userStack + 3)]);
    expect(cpu.state.get64(RIP)).toBe(BigInt(AT.code));
  });

  it('do not touch the port when memory faults', () => {
    const cpu = longModeCpu();
    let reads = 0;
    cpu.portRead = () => reads++;
    cpu.state.set64(RDI, 0x4000_0000n);
    expect(cpu.run(INS, { b: 4, c: 8, imm: 0n })).toEqual([14, 2]);
    cpu.state.set64(RSI, 0x4000_0000n);
    expect(cpu.run(OUTS, { b: 4, c: 8, imm: BigInt(SEGMENT.ds << 1) })).toEqual([14, 0]);
    expect([reads, cpu.portWrites.length]).toEqual([0, 0]);
  });

  it('go down with DF, and wrap with the address size', () => {
    const cpu = longModeCpu();
    cpu.state.rflags = 0x402n;
    cpu.state.set64(RSI, 0xffff_ffff_0000_b000n);
    cpu.view.setUint16(AT.userStack, 0xbeef, true);
    cpu.run(OUTS, { b: 2, c: 4, imm: BigInt(SEGMENT.ds << 1) });
    expect(cpu.portWrites).toEqual([{ port: 0, size: 2, value: 0xbeef }]);
    expect(cpu.state.get64(RSI)).toBe(0xaffen);
  });
});
