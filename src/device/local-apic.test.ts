import { beforeEach, describe, expect, it } from 'vitest';
import { guestNanoseconds } from '../base/units.ts';
import { FakeBus, FakeClock, loadBytes, savedBytes } from './fake-machine.ts';
import { LOCAL_APIC_BASE, LocalApic, MSR_APIC_BASE, MSR_TSC_DEADLINE } from './local-apic.ts';

const tsc = {
  tscAt: (time: bigint) => time * 2n,
  timeOf: (value: bigint) => guestNanoseconds((value + 1n) / 2n),
};

let clock: FakeClock;
let bus: FakeBus;
let apic: LocalApic;
let ended: number[];
let changes: number;

function build(): LocalApic {
  bus = new FakeBus();
  clock = new FakeClock();
  ended = [];
  changes = 0;
  return new LocalApic({
    bus,
    clock,
    tsc,
    changed: () => changes++,
    ended: (vector) => ended.push(vector),
    enabled: () => {},
  });
}

const write = (offset: number, value: number) => bus.write(LOCAL_APIC_BASE + offset, value);
const read = (offset: number) => bus.read(LOCAL_APIC_BASE + offset);

beforeEach(() => {
  apic = build();
  write(0xf0, 0x1ff);
});

describe('local APIC', () => {
  it('delivers by priority and holds back what the processor priority forbids', () => {
    apic.deliver(0, false, 0, 0x41, false);
    apic.deliver(0, false, 0, 0x62, false);
    expect(apic.acknowledge()).toBe(0x62);
    expect(read(0xa0)).toBe(0x60);
    expect(apic.pendingVector()).toBeUndefined();
    write(0xb0, 0);
    expect(apic.pendingVector()).toBe(0x41);
    apic.writeCr8(4);
    expect(apic.pendingVector()).toBeUndefined();
    expect(read(0x80)).toBe(0x40);
    changes = 0;
    apic.writeCr8(3);
    expect(apic.pendingVector()).toBe(0x41);
    expect(changes).toBe(1);
  });

  it('tells the end of level-triggered interrupts only', () => {
    apic.deliver(0, false, 0, 0x50, true);
    apic.acknowledge();
    write(0xb0, 0);
    apic.deliver(0, false, 0, 0x51, false);
    apic.acknowledge();
    write(0xb0, 0);
    expect(ended).toEqual([0x50]);
  });

  it('refuses fixed interrupts while software-disabled, and masks its LVT', () => {
    write(0xf0, 0xff);
    expect(apic.deliver(0, false, 0, 0x50, false)).toBe(false);
    write(0x320, 0x30);
    expect(read(0x320)).toBe(0x10030);
    expect(apic.pendingVector()).toBeUndefined();
  });

  it('matches physical, flat and cluster destinations', () => {
    expect(apic.deliver(1, false, 0, 0x50, false)).toBe(false);
    expect(apic.deliver(0xff, false, 0, 0x50, false)).toBe(true);
    write(0xd0, 0x02000000);
    expect(apic.deliver(1, true, 0, 0x50, false)).toBe(false);
    expect(apic.deliver(3, true, 0, 0x50, false)).toBe(true);
    write(0xe0, 0x0fffffff);
    write(0xd0, 0x21000000);
    expect(apic.deliver(0x11, true, 0, 0x50, false)).toBe(false);
    expect(apic.deliver(0x21, true, 0, 0x50, false)).toBe(true);
  });

  it('takes MSIs addressed to it', () => {
    apic.send(0xfee00000n, 0x4055);
    expect(apic.acknowledge()).toBe(0x55);
    apic.send(0xfee01000n, 0x4056);
    apic.send(0x1000n, 0x4056);
    expect(apic.pendingVector()).toBeUndefined();
  });

  it('sends to itself by shorthand, by ID, and as NMI', () => {
    write(0x300, 0x4_0070);
    expect(apic.acknowledge()).toBe(0x70);
    write(0xb0, 0);
    write(0x310, 0);
    write(0x300, 0x71);
    expect(apic.acknowledge()).toBe(0x71);
    write(0x300, 0xc_0072);
    write(0x300, 0x4_0400);
    expect(apic.nmiPending).toBe(true);
    apic.acknowledgeNmi();
    expect(apic.nmiPending).toBe(false);
    write(0x300, 0x4_0005);
    write(0x280, 0);
    expect(read(0x280)).toBe(0x20);
  });

  it('counts one-shot time with its divider', () => {
    write(0x320, 0x40);
    write(0x3e0, 0x3); // by 16
    write(0x380, 100);
    clock.advance(800);
    expect(read(0x390)).toBe(50);
    expect(apic.hasPending).toBe(false);
    clock.advance(799);
    expect(apic.hasPending).toBe(false);
    clock.advance(1);
    expect(apic.acknowledge()).toBe(0x40);
    expect(read(0x390)).toBe(0);
    expect(clock.nextDeadline).toBeUndefined();
    write(0x3e0, 0xb);
    expect(read(0x390)).toBe(0);
  });

  it('repeats periodically and merges periods that were missed', () => {
    write(0x320, 0x2_0040);
    write(0x3e0, 0xb); // by 1
    write(0x380, 100_000);
    clock.advance(100_000);
    expect(apic.acknowledge()).toBe(0x40);
    write(0xb0, 0);
    clock.jump(950_000);
    expect(apic.acknowledge()).toBe(0x40);
    write(0xb0, 0);
    expect(apic.hasPending).toBe(false);
    expect(clock.nextDeadline).toBe(1_100_000n);
    write(0x380, 1);
    expect(clock.nextDeadline! - clock.now()).toBeGreaterThanOrEqual(10_000n);
  });

  it('fires at a TSC deadline once', () => {
    write(0x320, 0x4_0041);
    expect(apic.writeMsr(MSR_TSC_DEADLINE, 2001n)).toBe(true);
    clock.advance(1000);
    expect(apic.hasPending).toBe(false);
    expect(apic.readMsr(MSR_TSC_DEADLINE)).toBe(2001n);
    clock.advance(1);
    expect(apic.acknowledge()).toBe(0x41);
    expect(apic.readMsr(MSR_TSC_DEADLINE)).toBe(0n);
    apic.writeMsr(MSR_TSC_DEADLINE, 1n << 63n);
    apic.writeMsr(MSR_TSC_DEADLINE, 0n);
    expect(clock.nextDeadline).toBeUndefined();
    write(0x320, 0x41);
    apic.writeMsr(MSR_TSC_DEADLINE, 5000n);
    expect(apic.readMsr(MSR_TSC_DEADLINE)).toBe(0n);
  });

  it('switches modes only as the manual allows', () => {
    expect(apic.readMsr(MSR_APIC_BASE)).toBe(0xfee00900n);
    expect(apic.readMsr(0x802)).toBeUndefined();
    expect(apic.writeMsr(MSR_APIC_BASE, 0xfee00500n)).toBe(false);
    expect(apic.writeMsr(MSR_APIC_BASE, 0xfee00d00n)).toBe(true);
    expect(read(0x30)).toBe(-1);
    expect(apic.readMsr(0x803)).toBe(0x50014n);
    expect(apic.writeMsr(MSR_APIC_BASE, 0xfee00900n)).toBe(false);
    expect(apic.writeMsr(MSR_APIC_BASE, 0xfee00100n)).toBe(true);
    expect(apic.acceptsExternal).toBe(true);
    expect(apic.writeMsr(MSR_APIC_BASE, 0xfee00d00n)).toBe(false);
    expect(apic.writeMsr(MSR_APIC_BASE, 0xfee00900n)).toBe(true);
    expect(apic.writeMsr(MSR_APIC_BASE, 1n << 45n)).toBe(false);
  });

  it('answers x2APIC accesses, with #GP where the manual wants it', () => {
    apic.writeMsr(MSR_APIC_BASE, 0xfee00d00n);
    expect(apic.readMsr(0x80d)).toBe(1n);
    expect(apic.writeMsr(0x80d, 1n)).toBe(false);
    expect(apic.readMsr(0x80e)).toBeUndefined();
    expect(apic.readMsr(0x831)).toBeUndefined();
    expect(apic.writeMsr(0x83f, 0x60n)).toBe(true);
    expect(apic.acknowledge()).toBe(0x60);
    expect(apic.writeMsr(0x80b, 1n)).toBe(false);
    expect(apic.writeMsr(0x80b, 0n)).toBe(true);
    expect(apic.writeMsr(0x830, 0x61n)).toBe(true);
    expect(apic.acknowledge()).toBe(0x61);
    expect(apic.readMsr(0x830)).toBe(0x61n);
    expect(apic.writeMsr(0x832, 1n << 32n)).toBe(false);
    expect(apic.writeMsr(0x832, 0x100_0000n)).toBe(false);
    expect(apic.deliver(1, true, 0, 0x62, false)).toBe(true);
  });

  it('starts in virtual-wire mode and takes a fixed LINT0', () => {
    apic = build();
    expect(apic.acceptsExternal).toBe(true);
    write(0xf0, 0x1ff);
    write(0x350, 0x10700);
    expect(apic.acceptsExternal).toBe(false);
    write(0x350, 0x31);
    apic.setLint0(true);
    apic.setLint0(true);
    expect(apic.acknowledge()).toBe(0x31);
    expect(apic.hasPending).toBe(false);
  });

  it('is restored exactly, timer and pending vector included', () => {
    write(0x320, 0x2_0040);
    write(0x380, 50_000);
    apic.deliver(0, false, 0, 0x62, true);
    const bytes = savedBytes(apic);
    const deadline = clock.nextDeadline;
    const other = build();
    expect(loadBytes(other, bytes)).toBe(0);
    expect(savedBytes(other)).toEqual(bytes);
    expect(clock.nextDeadline).toBe(deadline);
    expect(other.pendingVector()).toBe(0x62);
  });
});
