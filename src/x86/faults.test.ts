import { describe, expect, it } from 'vitest';
import { combineFaults, deliverFault, deliverInterrupt, deliverSingleStep, hasErrorCode } from './faults.ts';
import {
  CPL,
  CR0,
  CR2,
  DR6,
  EFER,
  FLAGS_REST,
  HALTED,
  IDTR_LIMIT,
  INTERRUPT_SHADOW,
  RIP,
  RSP,
  SEGMENT,
  SEGMENT_ACCESS,
  SEGMENT_SELECTOR,
} from './state.ts';
import { TestCpu } from './system/test-cpu.ts';
import { AT, enterUser, longModeCpu, PAGE, SELECTOR, setGate, stackWords } from './system/test-machine.ts';

const HANDLER = 0x8400n;
const fault = (vector: number, errorCode = 0, address = 0n) => ({ vector, errorCode, address });

describe('delivery in long mode [SDM 3A 6.14]', () => {
  it('pushes SS, RSP, RFLAGS, CS, RIP and the error code on an aligned stack', () => {
    const cpu = longModeCpu();
    setGate(cpu, 13, HANDLER);
    cpu.state.set64(RSP, BigInt(AT.stack + 0x80c));
    cpu.state.rflags = 0x4747n & ~0x100n;
    expect(deliverFault(cpu, fault(13, 0x1234))).toBe('delivered');
    expect(cpu.state.get64(RSP)).toBe(BigInt(AT.stack + 0x800 - 48));
    // A fault pushes RF set [SDM 3B 17.3.1.1].
    expect(stackWords(cpu, 6)).toEqual([
      0x1234n,
      BigInt(AT.code),
      BigInt(SELECTOR.kernelCode),
      0x1_4647n,
      BigInt(AT.stack + 0x80c),
      BigInt(SELECTOR.kernelData),
    ]);
    expect(cpu.state.get64(RIP)).toBe(HANDLER);
    // IF, TF and NT are clear inside an interrupt gate, the rest is kept.
    expect(cpu.state.rflags).toBe(0x447n & ~0x200n);
    expect(cpu.state.get32(SEGMENT_SELECTOR + SEGMENT.ss * 4)).toBe(SELECTOR.kernelData);
  });

  it.each([true, false])('takes RSP0 and a null SS on the way from user code (spans: %s)', (spans) => {
    const cpu = longModeCpu();
    cpu.spans = spans;
    enterUser(cpu);
    setGate(cpu, 32, HANDLER);
    expect(deliverInterrupt(cpu, 32)).toBe('delivered');
    expect(cpu.state.get32(CPL)).toBe(0);
    expect(cpu.state.get64(RSP)).toBe(BigInt(AT.stack + 0xff0 - 40));
    expect(cpu.state.get32(SEGMENT_SELECTOR + SEGMENT.ss * 4)).toBe(0);
    expect(cpu.state.get32(SEGMENT_SELECTOR + SEGMENT.cs * 4)).toBe(SELECTOR.kernelCode);
    expect(stackWords(cpu, 5)).toEqual([
      BigInt(AT.userCode),
      BigInt(SELECTOR.userCode),
      0x202n,
      BigInt(AT.userStack + 0x808),
      BigInt(SELECTOR.userData),
    ]);
  });

  it('switches to the interrupt stack table when the gate says so', () => {
    const cpu = longModeCpu();
    setGate(cpu, 14, HANDLER, { stackTable: 1 });
    expect(deliverFault(cpu, fault(14, 2, 0xdead_beefn))).toBe('delivered');
    expect(cpu.state.get64(RSP)).toBe(BigInt(AT.interruptStack + 0x1000 - 48));
    expect(cpu.state.get64(CR2)).toBe(0xdead_beefn);
  });

  it('leaves IF alone through a trap gate', () => {
    const cpu = longModeCpu();
    cpu.state.rflags = 0x202n;
    setGate(cpu, 3, HANDLER, { type: 0xf });
    deliverFault(cpu, fault(3));
    expect(cpu.state.rflags).toBe(0x202n);
  });

  it('ends HLT and the interrupt shadow', () => {
    const cpu = longModeCpu();
    setGate(cpu, 32, HANDLER);
    cpu.state.set32(HALTED, 1);
    cpu.state.set32(INTERRUPT_SHADOW, 1);
    deliverInterrupt(cpu, 32);
    expect(cpu.state.get32(HALTED)).toBe(0);
    expect(cpu.state.get32(INTERRUPT_SHADOW)).toBe(0);
  });

  it('enters from compatibility mode like from 64-bit code', () => {
    const cpu = longModeCpu();
    enterUser(cpu);
    cpu.state.set32(SEGMENT_ACCESS + SEGMENT.cs * 4, 0xc0fb);
    cpu.state.set32(SEGMENT_SELECTOR + SEGMENT.cs * 4, SELECTOR.userCode32);
    setGate(cpu, 32, HANDLER);
    deliverInterrupt(cpu, 32);
    expect(cpu.state.get32(SEGMENT_ACCESS + SEGMENT.cs * 4)).toBe(0xa09b);
    expect(stackWords(cpu, 2)[1]).toBe(BigInt(SELECTOR.userCode32));
  });

  it('reports a single step in DR6 and clears TF', () => {
    const cpu = longModeCpu();
    cpu.state.rflags = 0x102n;
    setGate(cpu, 1, HANDLER);
    deliverSingleStep(cpu);
    expect(cpu.state.get64(DR6) & 0x4000n).toBe(0x4000n);
    // A trap: RF is pushed as it was.
    expect(stackWords(cpu, 3)[2]).toBe(0x102n);
    expect(cpu.state.get32(FLAGS_REST) & 0x100).toBe(0);
  });
});

describe('faults during delivery', () => {
  it('of an absent gate are #NP with the vector, IDT and EXT [SDM 3A 6.13]', () => {
    const cpu = longModeCpu();
    setGate(cpu, 32, HANDLER, { present: false });
    setGate(cpu, 11, HANDLER);
    expect(deliverInterrupt(cpu, 32)).toBe('delivered');
    expect(stackWords(cpu, 1)).toEqual([BigInt(32 * 8 + 3)]);
  });

  it('become a double fault when both are contributory, with error code 0 [SDM 3A 6.15]', () => {
    const cpu = longModeCpu();
    setGate(cpu, 13, HANDLER, { present: false });
    setGate(cpu, 8, HANDLER);
    expect(deliverFault(cpu, fault(13, 0x10))).toBe('delivered');
    expect(stackWords(cpu, 2)).toEqual([0n, BigInt(AT.code)]);
  });

  it('report a page fault on the stack as such, and a second one as a double fault', () => {
    const cpu = longModeCpu();
    cpu.state.set64(RSP, 0x4000_0008n);
    setGate(cpu, 32, HANDLER);
    setGate(cpu, 14, HANDLER, { stackTable: 1 });
    setGate(cpu, 8, HANDLER, { stackTable: 1 });
    expect(deliverInterrupt(cpu, 32)).toBe('delivered');
    expect(cpu.state.get64(CR2)).toBe(0x4000_0000n - 40n);
    expect(stackWords(cpu, 1)).toEqual([2n]);

    const other = longModeCpu();
    other.state.set64(RSP, 0x4000_0008n);
    setGate(other, 14, HANDLER);
    setGate(other, 8, HANDLER, { stackTable: 1 });
    expect(deliverFault(other, fault(14, 0, 0x123n))).toBe('delivered');
    expect(stackWords(other, 2)).toEqual([0n, BigInt(AT.code)]);
  });

  it('of a double fault shut the processor down', () => {
    const cpu = longModeCpu();
    cpu.state.set32(IDTR_LIMIT, 0);
    expect(deliverFault(cpu, fault(6))).toBe('triple-fault');
  });

  it('change nothing but CR2 and accessed bits before they are known', () => {
    const cpu = longModeCpu();
    cpu.view.setBigUint64(AT.table + 0xa * 8, 0n, true);
    setGate(cpu, 6, HANDLER);
    const before = cpu.state.bytes.slice(0, 0x500);
    expect(deliverFault(cpu, fault(6))).toBe('triple-fault');
    cpu.state.set64(CR2, 0n);
    expect(cpu.state.bytes.slice(0, 0x500)).toEqual(before);
  });

  it('use supervisor rights for the tables even when user code was interrupted', () => {
    const cpu = longModeCpu();
    enterUser(cpu);
    setGate(cpu, 32, HANDLER);
    for (const page of [AT.gdt, AT.idt, AT.tss, AT.stack]) {
      const entry = AT.table + (page >> 12) * 8;
      expect(cpu.view.getUint8(entry) & PAGE.user).toBe(0);
    }
    expect(deliverInterrupt(cpu, 32)).toBe('delivered');
  });

  it('are combined as the manual says [SDM 3A table 6-5]', () => {
    expect(combineFaults(6, 13)).toBe('serial');
    expect(combineFaults(-1, 14)).toBe('serial');
    expect(combineFaults(10, 14)).toBe('serial');
    expect(combineFaults(0, 11)).toBe('double-fault');
    expect(combineFaults(14, 13)).toBe('double-fault');
    expect(combineFaults(14, 6)).toBe('serial');
    expect(combineFaults(8, 14)).toBe('triple-fault');
  });
});

describe('delivery outside long mode', () => {
  it('pushes FLAGS, CS and IP in real mode and follows the vector table [SDM 3A 20.1.4]', () => {
    const cpu = new TestCpu();
    cpu.state.rflags = 0x202n;
    cpu.state.set64(CR0, 0x10n);
    cpu.state.set64(EFER, 0n);
    cpu.state.set32(IDTR_LIMIT, 0x3ff);
    cpu.state.set64(RSP, 0x1_0000n);
    cpu.state.set64(RIP, 0x1234n);
    cpu.state.set32(SEGMENT_SELECTOR + SEGMENT.cs * 4, 0xf000);
    cpu.view.setUint32(0x10 * 4, 0xc000_5678, true);
    expect(deliverInterrupt(cpu, 0x10)).toBe('delivered');
    expect(cpu.state.get64(RIP)).toBe(0x5678n);
    expect(cpu.state.get32(SEGMENT_SELECTOR + SEGMENT.cs * 4)).toBe(0xc000);
    // SP is 16 bits wide: 0 - 6.
    expect(cpu.state.get64(RSP)).toBe(0x1_fffan);
    expect([0, 2, 4].map((at) => cpu.view.getUint16(0xfffa + at, true))).toEqual([0x1234, 0xf000, 0x202]);
    expect(cpu.state.rflags).toBe(2n);
  });

  it('uses 32-bit gates and the stack of the TSS in protected mode [SDM 3A 6.12.1]', () => {
    const cpu = longModeCpu();
    enterUser(cpu);
    const { state, view } = cpu;
    state.set64(CR0, 0x11n);
    state.set64(EFER, 0n);
    state.set32(SEGMENT_ACCESS + SEGMENT.cs * 4, 0xc0fb);
    view.setUint32(AT.tss + 4, AT.stack + 0x900, true);
    view.setUint16(AT.tss + 8, SELECTOR.kernelData, true);
    const gate = (BigInt(SELECTOR.code32) << 16n) | 0x8400n | (0x8e00n << 32n);
    view.setBigUint64(AT.idt + 13 * 8, gate, true);
    expect(deliverFault(cpu, fault(13, 0x55))).toBe('delivered');
    const top = Number(state.get64(RSP));
    expect(top).toBe(AT.stack + 0x900 - 24);
    const words = [0, 1, 2, 3, 4, 5].map((index) => view.getUint32(top + index * 4, true));
    expect(words).toEqual([
      0x55,
      AT.userCode,
      SELECTOR.userCode,
      0x1_0202,
      AT.userStack + 0x808,
      SELECTOR.userData,
    ]);
    expect(state.get32(SEGMENT_SELECTOR + SEGMENT.ss * 4)).toBe(SELECTOR.kernelData);
    expect(state.get32(CPL)).toBe(0);
  });
});

it('error codes go with #DF, #TS, #NP, #SS, #GP, #PF and #AC', () => {
  const vectors = Array.from({ length: 256 }, (_, vector) => vector).filter(hasErrorCode);
  expect(vectors).toEqual([8, 10, 11, 12, 13, 14, 17]);
});
