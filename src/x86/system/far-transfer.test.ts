import { describe, expect, it } from 'vitest';
import { DONE } from '../cpu.ts';
import { deliverFault, deliverInterrupt } from '../faults.ts';
import {
  CPL,
  CR0,
  CR4,
  EFER,
  FLAGS_REST,
  INTERRUPT_SHADOW,
  RAX,
  RIP,
  RSP,
  SEGMENT,
  SEGMENT_ACCESS,
  SEGMENT_BASE,
  SEGMENT_SELECTOR,
} from '../state.ts';
import { WRITE_CONTROL } from './control-register.ts';
import {
  FAR_CALL_INDIRECT,
  FAR_JUMP,
  FAR_RETURN,
  INTERRUPT_RETURN,
  POP_FLAGS,
  SET_INTERRUPT_FLAG,
  SOFTWARE_INTERRUPT,
} from './interrupt.ts';
import type { TestCpu } from './test-cpu.ts';
import { AT, enterUser, longModeCpu, SELECTOR, setGate, stackWords } from './test-machine.ts';

function push(cpu: TestCpu, size: 4 | 8, ...values: number[]): void {
  const { state, view } = cpu;
  let top = Number(state.get64(RSP));
  for (const value of values) {
    top -= size;
    if (size === 8) view.setBigUint64(top, BigInt(value), true);
    else view.setUint32(top, value, true);
  }
  state.set64(RSP, BigInt(top));
}

const selector = (cpu: TestCpu, segment: number) => cpu.state.get32(SEGMENT_SELECTOR + segment * 4);

describe('IRET [SDM 2A IRET]', () => {
  it.each([true, false])('undoes a delivery from user code (spans: %s)', (spans) => {
    const cpu = longModeCpu();
    cpu.spans = spans;
    enterUser(cpu, 0x3246n & ~0x3000n);
    const before = cpu.state.bytes.slice(0, 0x500);
    setGate(cpu, 32, 0x8400n);
    deliverInterrupt(cpu, 32);
    expect(cpu.run(INTERRUPT_RETURN, { c: 8 })).toBe(DONE);
    const { state } = cpu;
    expect([state.get32(CPL), state.get64(RIP), state.rflags]).toEqual([3, BigInt(AT.userCode), 0x246n]);
    expect(state.bytes.slice(0, 0x500)).toEqual(before);
  });

  it('undoes a delivery on the same level, null SS and all', () => {
    const cpu = longModeCpu();
    setGate(cpu, 6, 0x8400n);
    setGate(cpu, 32, 0x8500n);
    enterUser(cpu);
    deliverFault(cpu, { vector: 6, errorCode: 0, address: 0n });
    const [rsp, rip] = [cpu.state.get64(RSP), cpu.state.get64(RIP)];
    expect(selector(cpu, SEGMENT.ss)).toBe(0);
    deliverInterrupt(cpu, 32);
    expect(cpu.run(INTERRUPT_RETURN, { c: 8 })).toBe(DONE);
    expect([cpu.state.get64(RSP), cpu.state.get64(RIP)]).toEqual([rsp, rip]);
  });

  it('goes to compatibility mode', () => {
    const cpu = longModeCpu();
    push(cpu, 8, SELECTOR.userData, 0xb800, 0x202, SELECTOR.userCode32, 0x9000);
    expect(cpu.run(INTERRUPT_RETURN, { c: 8 })).toBe(DONE);
    expect(cpu.state.get32(SEGMENT_ACCESS + SEGMENT.cs * 4) & 0x6000).toBe(0x4000);
    expect(cpu.state.get32(CPL)).toBe(3);
    expect(cpu.state.get64(RSP)).toBe(0xb800n);
  });

  it('takes three doublewords from compatibility mode on the same level', () => {
    const cpu = longModeCpu();
    enterUser(cpu);
    cpu.state.set32(SEGMENT_ACCESS + SEGMENT.cs * 4, 0xc0fb);
    push(cpu, 4, 0x246, SELECTOR.userCode32, 0x9010);
    expect(cpu.run(INTERRUPT_RETURN, { c: 4 })).toBe(DONE);
    expect(cpu.state.get64(RSP)).toBe(BigInt(AT.userStack + 0x808));
    expect(cpu.state.get64(RIP)).toBe(0x9010n);
  });

  it('from user code changes neither IOPL nor IF', () => {
    const cpu = longModeCpu();
    enterUser(cpu, 0x202n);
    push(cpu, 8, SELECTOR.userData, AT.userStack, 0x3002, SELECTOR.userCode, 0x9000);
    expect(cpu.run(INTERRUPT_RETURN, { c: 8 })).toBe(DONE);
    expect(cpu.state.rflags).toBe(0x202n);
  });

  it.each([
    [
      'to a more privileged level',
      SELECTOR.kernelCode,
      SELECTOR.userData,
      0x9000,
      true,
      [13, SELECTOR.kernelCode],
    ],
    ['to a null code segment', 0, SELECTOR.userData, 0x9000, false, [13, 0]],
    ['to a data segment', SELECTOR.userData, SELECTOR.userData, 0x9000, false, [13, SELECTOR.userData & ~3]],
    ['beyond the table', 0xfb, SELECTOR.userData, 0x9000, false, [13, 0xf8]],
    ['to a segment that is not present', 0x50, SELECTOR.userData, 0x9000, false, [13, 0x50]],
    ['with a stack of another level', SELECTOR.userCode, SELECTOR.kernelData, 0x9000, false, [13, 0x18]],
    ['with a null stack to user code', SELECTOR.userCode, 0, 0x9000, false, [13, 0]],
  ] as const)('refuses to return %s', (_, cs, ss, rip, fromUser, expected) => {
    const cpu = longModeCpu();
    if (fromUser) enterUser(cpu);
    push(cpu, 8, ss, 0xb000, 0x202, cs, rip);
    const before = cpu.image();
    expect(cpu.run(INTERRUPT_RETURN, { c: 8 })).toEqual(expected);
    expect(cpu.state.bytes).toEqual(before.subarray(0, cpu.state.bytes.length));
  });

  it('refuses a RIP that is not canonical, and NT', () => {
    const cpu = longModeCpu();
    push(cpu, 8, SELECTOR.userData, 0xb000, 0x202, SELECTOR.userCode, 2 ** 47);
    expect(cpu.run(INTERRUPT_RETURN, { c: 8 })).toEqual([13, 0]);
    cpu.state.rflags = 0x4002n;
    expect(cpu.run(INTERRUPT_RETURN, { c: 8 })).toEqual([13, 0]);
  });

  it('takes data segments away that user code may not use', () => {
    const cpu = longModeCpu();
    push(cpu, 8, SELECTOR.userData, 0xb800, 0x202, SELECTOR.userCode, 0x9000);
    expect(selector(cpu, SEGMENT.ds)).toBe(SELECTOR.kernelData);
    cpu.run(INTERRUPT_RETURN, { c: 8 });
    expect(selector(cpu, SEGMENT.ds)).toBe(0);
  });
});

describe('INT n [SDM 2A INT]', () => {
  it('needs a gate of its level; the error has no EXT bit', () => {
    const cpu = longModeCpu();
    enterUser(cpu);
    setGate(cpu, 0x80, 0x8400n);
    expect(cpu.run(SOFTWARE_INTERRUPT, { c: 0x80 })).toEqual([13, 0x80 * 8 + 2]);
    setGate(cpu, 0x80, 0x8400n, { dpl: 3 });
    expect(cpu.run(SOFTWARE_INTERRUPT, { c: 0x80 })).toBe(DONE);
    // No RF: it is no fault.
    expect(stackWords(cpu, 3)[2]).toBe(0x202n);
  });
});

describe('far transfers', () => {
  it('leave long mode and come back, as the kernel decompressor does', () => {
    const cpu = longModeCpu();
    const { state } = cpu;
    push(cpu, 8, SELECTOR.code32, 0x8100);
    expect(cpu.run(FAR_RETURN, { c: 8 })).toBe(DONE);
    expect(state.get32(SEGMENT_ACCESS + SEGMENT.cs * 4) & 0x6000).toBe(0x4000);

    const control = (index: number, value: number) => {
      state.set64(RAX, BigInt(value));
      return cpu.run(WRITE_CONTROL, { b: RAX, c: index });
    };
    expect(control(0, 0x0001_0011)).toBe(DONE);
    expect(state.get32(EFER)).toBe(0x100);
    expect(control(4, 0x20)).toBe(DONE);
    expect(control(0, 0x8001_0011)).toBe(DONE);
    expect(state.get32(EFER)).toBe(0x500);

    push(cpu, 4, SELECTOR.kernelCode, 0x8200);
    expect(cpu.run(FAR_RETURN, { c: 4 })).toBe(DONE);
    expect(state.get32(SEGMENT_ACCESS + SEGMENT.cs * 4) & 0x6000).toBe(0x2000);
    expect(state.get64(RIP)).toBe(0x8200n);
  });

  it('in 64-bit code cannot switch paging off', () => {
    const cpu = longModeCpu();
    cpu.state.set64(RAX, 0x11n);
    expect(cpu.run(WRITE_CONTROL, { b: RAX, c: 0 })).toEqual([13, 0]);
    expect(cpu.state.get32(CR0) >>> 31).toBe(1);
    cpu.state.set64(RAX, 0n);
    expect(cpu.run(WRITE_CONTROL, { b: RAX, c: 4 })).toEqual([13, 0]);
    expect(cpu.state.get64(CR4)).toBe(0x20n);
  });

  it('call and return through memory', () => {
    const cpu = longModeCpu();
    const { state, view } = cpu;
    view.setBigUint64(AT.userStack, 0x8_1234n, true);
    view.setUint16(AT.userStack + 8, SELECTOR.kernelCode, true);
    state.set64(RAX, BigInt(AT.userStack));
    const rsp = state.get64(RSP);
    expect(cpu.run(FAR_CALL_INDIRECT, { b: RAX, c: 8 })).toBe(DONE);
    expect(state.get64(RIP)).toBe(0x8_1234n);
    expect(stackWords(cpu, 2)).toEqual([BigInt(AT.code), BigInt(SELECTOR.kernelCode)]);
    expect(cpu.run(FAR_RETURN, { c: 8, imm: 16n })).toBe(DONE);
    expect([state.get64(RIP), state.get64(RSP)]).toEqual([BigInt(AT.code), rsp + 16n]);
  });

  it('to conforming code keep the level', () => {
    const cpu = longModeCpu();
    enterUser(cpu);
    expect(cpu.run(FAR_JUMP, { b: SELECTOR.conforming, c: 4, imm: 0x9000n })).toBe(DONE);
    expect([cpu.state.get32(CPL), selector(cpu, SEGMENT.cs)]).toEqual([3, SELECTOR.conforming | 3]);
    expect(cpu.run(FAR_JUMP, { b: SELECTOR.kernelCode, c: 4, imm: 0x9000n })).toEqual([
      13,
      SELECTOR.kernelCode,
    ]);
  });

  it('in real mode shift the selector', () => {
    const cpu = longModeCpu();
    cpu.state.set64(CR0, 0x10n);
    cpu.state.set64(EFER, 0n);
    expect(cpu.run(FAR_JUMP, { b: 0x1234, c: 2, imm: 0x5678n })).toBe(DONE);
    expect(cpu.state.get64(SEGMENT_BASE + SEGMENT.cs * 8)).toBe(0x1_2340n);
  });
});

describe('the interrupt window', () => {
  it('is opened by STI one instruction late, and only when it was shut [SDM 2B STI]', () => {
    const cpu = longModeCpu();
    expect(cpu.run(SET_INTERRUPT_FLAG)).toBe(DONE);
    expect([cpu.state.get32(FLAGS_REST) & 0x200, cpu.state.get32(INTERRUPT_SHADOW)]).toEqual([0x200, 2]);
    cpu.state.set32(INTERRUPT_SHADOW, 0);
    cpu.run(SET_INTERRUPT_FLAG);
    expect(cpu.state.get32(INTERRUPT_SHADOW)).toBe(0);
  });

  it('belongs to IOPL', () => {
    const cpu = longModeCpu();
    enterUser(cpu, 2n);
    expect(cpu.run(SET_INTERRUPT_FLAG)).toEqual([13, 0]);
    cpu.state.rflags = 0x3002n;
    expect(cpu.run(SET_INTERRUPT_FLAG)).toBe(DONE);
  });

  it('is set by POPF silently, when that is allowed [SDM 2B POPF]', () => {
    const cpu = longModeCpu();
    push(cpu, 8, 0x3f_7fd7);
    cpu.run(POP_FLAGS, { c: 8 });
    // RF and VM are never loaded; VIF and VIP are not offered.
    expect(cpu.state.rflags).toBe(0x24_7fd7n);
    enterUser(cpu, 0x202n);
    push(cpu, 8, 0x3002);
    expect(cpu.run(POP_FLAGS, { c: 8 })).toBe(DONE);
    expect(cpu.state.rflags).toBe(0x202n);
  });
});
