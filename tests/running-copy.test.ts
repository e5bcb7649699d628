import { describe, expect, it } from 'vitest';
import { RunningCopy } from '../src/hypervisor/running-copy.ts';
import { type CopiedPages, StagedPages } from '../src/machine/copied-pages.ts';
import { CopyTarget } from '../src/machine/copy-target.ts';
import type { Machine } from '../src/machine/door.ts';
import type { LockstepMachine } from '../src/machine/machine.ts';
import { restoreMachine } from '../src/machine/restore.ts';
import { GuestMachine, guestWith } from './engine/small-guest.ts';

const RAM_BYTES_MAX = 2 ** 32;
const DATA = 0x8_0000;
const PAGES = 64;

/** Writes one byte into each of some pages in turn, for ever; the number it writes counts the turns. */
function writingGuest() {
  return guestWith((out) => {
    // mov ebx, 1; again: mov edi, DATA; mov ecx, PAGES; l: mov [rdi], bl; add edi, 4096; dec ecx; jnz l
    out.raw(0xbb).u32(1);
    const again = out.here;
    out.raw(0xbf).u32(DATA).raw(0xb9).u32(PAGES);
    const loop = out.here;
    out.raw(0x88, 0x1f, 0x81, 0xc7).u32(4096).raw(0xff, 0xc9, 0x75);
    out.raw((loop - (out.here + 1)) & 0xff);
    // inc ebx; and ebx, 3; jmp again: every fourth time the pages are zero again
    out.raw(0xff, 0xc3, 0x83, 0xe3, 0x03, 0xeb);
    out.raw((again - (out.here + 1)) & 0xff);
  }).image;
}

interface Copied {
  readonly machine: LockstepMachine;
  readonly rounds: number;
  readonly parts: number;
  readonly lastPages: number;
}

/** Copies the guest while it runs so many counts between one part and the next. */
function copyOf(guest: GuestMachine, counts: number, lastPagesMax: number, staged: CopiedPages): Copied {
  const copy = RunningCopy.of(1, guest.machine, lastPagesMax)!;
  let parts = 0;
  for (;;) {
    expect(copy.ready).toBe(true);
    const part = copy.next();
    if (part?.kind === 'last') {
      const snapshot = guest.machine.snapshot(part.pages);
      const restored = restoreMachine(snapshot, { output() {} }, guest.options, staged);
      if (!restored.ok) throw new Error(restored.error);
      const { rounds, lastPages } = copy.figures(part.pages.length);
      return { machine: restored.value, rounds, parts, lastPages };
    }
    if (part?.kind === 'pages') {
      expect(staged.add(part.bytes)).toBeUndefined();
      copy.arrived(++parts);
    }
    guest.runTo(guest.count + BigInt(counts));
  }
}

describe.each(['interpreter', 'jit'] as const)('a running guest in the %s', (engine) => {
  it.each([
    ['slowly', 3, 10],
    ['fast', 1000, 10],
    ['as fast as it is copied', 100_000, 0],
  ])('that writes %s is copied as it is at the end, and goes on alike', (_how, counts, lastPagesMax) => {
    const guest = new GuestMachine({ engine, jit: { threshold: 5, patience: 0 } });
    guest.load(writingGuest());
    guest.runTo(5000);
    const copied = copyOf(guest, counts, lastPagesMax, new StagedPages(RAM_BYTES_MAX));
    expect(copied.machine.digest()).toBe(guest.digest());
    expect(copied.rounds).toBeLessThanOrEqual(8);
    // Not all of RAM again.
    expect(copied.lastPages).toBeLessThanOrEqual(PAGES + 4);
    guest.runTo(guest.count + 5000n);
    copied.machine.runUntil(guest.machine.count);
    expect(copied.machine.digest()).toBe(guest.digest());
  });

  it.each([
    ['into its place as it comes', (own: CopyTarget) => own],
    [
      'into a place that held another copy',
      (own: CopyTarget) => {
        const page = new Uint8Array(4 + 4096).fill(7);
        page.set([9, 0, 0, 0]);
        expect(own.add(page)).toBeUndefined();
        own.clear();
        return own;
      },
    ],
    ['into the place of another configuration', (_own: CopyTarget, other: CopyTarget) => other],
  ])('is copied %s', (_where, place) => {
    const guest = new GuestMachine({ engine, jit: { threshold: 5, patience: 0 } });
    guest.load(writingGuest());
    guest.runTo(5000);
    const { config } = guest.machine;
    const own = new CopyTarget(config, guest.options);
    const other = new CopyTarget(
      { ...config, startEpochSeconds: config.startEpochSeconds + 1 },
      guest.options,
    );
    const { machine } = copyOf(guest, 1000, 10, place(own, other));
    expect(machine.digest()).toBe(guest.digest());
    expect(machine.fullDigest()).toBe(guest.digest());
    guest.runTo(guest.count + 5000n);
    machine.runUntil(guest.machine.count);
    expect(machine.digest()).toBe(guest.digest());
  });

  it('whose digest is taken meanwhile loses no page by it', () => {
    const guest = new GuestMachine({ engine });
    guest.load(writingGuest());
    const staged = new StagedPages(RAM_BYTES_MAX);
    guest.machine.beginCopy();
    const all = guest.machine.changedPages();
    staged.add(guest.machine.encodePages(all, true));
    guest.runTo(3 * PAGES * 5);
    guest.digest();
    const changed = guest.machine.changedPages();
    expect(changed.length).toBeGreaterThanOrEqual(PAGES);
    const restored = restoreMachine(guest.machine.snapshot(changed), { output() {} }, {}, staged);
    expect(restored.ok && restored.value.digest()).toBe(guest.digest());
  });
});

it('no more is sent than the other end keeps up with', () => {
  const machine = {
    beginCopy() {},
    changedPages: () => Uint32Array.from({ length: 100_000 }, (_, page) => page),
    encodePages: (pages: Uint32Array) => new Uint8Array(pages.length),
  };
  const copy = RunningCopy.of(1, machine as unknown as Machine)!;
  let parts = 0;
  while (copy.ready && parts < 1000) if (copy.next()?.kind === 'pages') parts++;
  expect(parts).toBe(16);
  copy.arrived(1);
  expect(copy.ready).toBe(true);
  expect(copy.next()?.kind).toBe('pages');
  expect(copy.ready).toBe(false);
});
