import { describe, expect, it } from 'vitest';
import { FakeBus, loadBytes, savedBytes } from './fake-machine.ts';
import { ResetControl } from './reset-control.ts';

function build() {
  const bus = new FakeBus();
  let resets = 0;
  const control = new ResetControl(bus, () => resets++);
  return { bus, control, resets: () => resets };
}

describe('reset ports', () => {
  it('resets when bit 2 of 0xCF9 rises', () => {
    const { bus, resets } = build();
    bus.output(0xcf9, 0x02);
    expect(resets()).toBe(0);
    bus.output(0xcf9, 0x06);
    expect(resets()).toBe(1);
    bus.output(0xcf9, 0x06);
    expect(resets()).toBe(1);
  });

  it('resets when bit 0 of 0x92 rises, and shows A20 open', () => {
    const { bus, resets } = build();
    expect(bus.input(0x92)).toBe(2);
    bus.output(0x92, 3);
    expect(resets()).toBe(1);
  });

  it('is restored exactly', () => {
    const { bus, control } = build();
    bus.output(0xcf9, 0x0a);
    const other = build();
    expect(loadBytes(other.control, savedBytes(control))).toBe(0);
    expect(other.bus.input(0xcf9)).toBe(0x0a);
  });
});
