import { expect, it } from 'vitest';
import { FakeBus, FakeClock, loadBytes, savedBytes } from './fake-machine.ts';
import { IO_APIC_BASE } from './io-apic.ts';
import { LOCAL_APIC_BASE } from './local-apic.ts';
import { PciFunction } from './pci-function.ts';
import { createPlatform } from './platform.ts';

function build(events: string[]) {
  const bus = new FakeBus();
  const clock = new FakeClock();
  const platform = createPlatform({
    bus,
    clock,
    tscFrequencyHz: 1_000_000_000,
    startEpochSeconds: 1_700_000_000,
    onPower: (state, value) => events.push(`${state} ${value}`),
    onSerialOutput: (bytes) => events.push(bytes.join()),
  });
  const card = new PciFunction({ name: 'card', vendor: 1, device: 2, classCode: 0, interrupts: true });
  card.addMsix(0, 7);
  card.addBar({ index: 2, kind: 'memory64', size: 4096, handler: { readMmio: () => 0n, writeMmio() {} } });
  platform.pci.add(card);
  platform.reset();
  return { bus, clock, platform, card };
}

type Board = ReturnType<typeof build>;

const PORTS = [
  0x20, 0x21, 0xa0, 0xa1, 0x4d0, 0x4d1, 0x40, 0x41, 0x42, 0x43, 0x61, 0x70, 0x71, 0x60, 0x64, 0x92, 0x80,
  0xf4, 0xcf8, 0xcf9, 0xcfc, 0xcfd, 0xcfe, 0xcff, 0x3f8, 0x3f9, 0x3fa, 0x3fb, 0x3fc, 0x3fd, 0x3fe, 0x3ff,
  0x600, 0x601, 0x602, 0x603, 0x604, 0x605, 0x608, 0x60b, 0x620, 0x623,
] as const;
const RANGES = [LOCAL_APIC_BASE, IO_APIC_BASE, 0xe0000000, 0xe0001000] as const;

/** xorshift32: the same rubbish every time. */
function generator(seed: number): () => number {
  return () => {
    seed ^= seed << 13;
    seed ^= seed >>> 17;
    seed ^= seed << 5;
    return seed >>> 0;
  };
}

function step(board: Board, next: () => number, seen: string[]): void {
  const { bus, clock, platform, card } = board;
  const size = [1, 2, 4][next() % 3]!;
  const port = PORTS[next() % PORTS.length]!;
  const value = next() >>> (next() % 32);
  const wide = [1, 2, 4, 8][next() % 4]!;
  const address =
    RANGES[next() % RANGES.length]! + (next() % 3 === 0 ? next() % 0x1000 : (next() % 0x400) & ~15);
  switch (next() % 9) {
    case 0:
    case 1:
      bus.output(port, value % 2 ** (8 * size), size);
      break;
    case 2: {
      const read = bus.input(port, size);
      if (!(read >= 0 && read < 2 ** (8 * size))) throw new Error(`port ${port.toString(16)} gave ${read}`);
      seen.push(`${port} ${read}`);
      break;
    }
    case 3:
      bus.write(address, value, wide);
      break;
    case 4: {
      const read = bus.read(address, wide);
      if (!(read >= -1 && read < 2 ** (8 * wide))) throw new Error(`${address.toString(16)} gave ${read}`);
      seen.push(`${address} ${read}`);
      break;
    }
    case 5: {
      const msr = [0x1b, 0x6e0, 0x800 + (next() % 0x40)][next() % 3]!;
      const wanted = msr === 0x1b ? 0xfee00000 + ((next() & 0xf) << 8) : value;
      seen.push(`${platform.localApic.writeMsr(msr, BigInt(wanted))} ${platform.localApic.readMsr(msr)}`);
      break;
    }
    case 6:
      if (platform.interrupts.pending()) seen.push(`vector ${platform.interrupts.acknowledge()}`);
      if (platform.interrupts.nmiPending()) platform.interrupts.acknowledgeNmi();
      break;
    case 7:
      platform.serial.receive(Uint8Array.of(value, value >>> 8));
      card.notify(next() % 9);
      card.setInterrupt((value & 1) !== 0);
      break;
    default:
      // Not far: each firing is work, and a guest may have asked for many.
      clock.advance(value % 2_000_000);
  }
}

const state = (board: Board) => board.platform.devices().map((device) => savedBytes(device));

it.each([1, 2, 3, 4, 5, 6])('survives rubbish %i, and a restored copy goes on alike', (seed) => {
  const seen: string[] = [];
  const board = build(seen);
  const next = generator(seed * 7919);
  for (let count = 0; count < 20_000; count++) step(board, next, seen);
  const bytes = state(board);

  const copySeen: string[] = [];
  const copy = build(copySeen);
  copy.clock.advance(board.clock.now());
  for (const [index, device] of copy.platform.devices().entries()) {
    expect(loadBytes(device, bytes[index]!), device.name).toBe(0);
  }
  expect(state(copy)).toEqual(bytes);
  const fromHere = next();
  seen.length = 0;
  copySeen.length = 0;
  const first = generator(fromHere);
  const second = generator(fromHere);
  for (let count = 0; count < 20_000; count++) {
    step(board, first, seen);
    step(copy, second, copySeen);
  }
  expect(copySeen).toEqual(seen);
  expect(state(copy)).toEqual(state(board));
});
