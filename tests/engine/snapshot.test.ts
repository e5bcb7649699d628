import { describe, expect, it } from 'vitest';
import { restoreMachine } from '../../src/machine/restore.ts';
import { machineWith } from './agreement.ts';
import { Random } from './random.ts';
import { randomGuest } from './random-guest.ts';
import { GuestMachine } from './small-guest.ts';

const SINK = { output: () => {} };

describe('a snapshot', () => {
  it('taken anywhere goes on with the same digests, and taking it changes nothing', () => {
    const machine = machineWith({ tlbEntries: 1024 });
    for (const seed of [3, 8, 21]) {
      const image = randomGuest(seed);
      machine.load(image);
      const digests: string[] = [];
      for (let count = 100; count <= 1000 && machine.runTo(count); count += 100)
        digests.push(machine.digest());
      const moved = new GuestMachine({ tlbEntries: 16 });
      moved.load(image);
      for (const [index, digest] of digests.entries()) {
        moved.machine.snapshot();
        moved.runTo(index * 100 + 37);
        moved.moveThroughSnapshot();
        moved.runTo(index * 100 + 100);
        expect(moved.digest(), `seed ${seed}`).toBe(digest);
        expect(moved.machine.fullDigest()).toBe(digest);
      }
    }
  });

  it('of a restored machine is the same bytes', () => {
    const machine = machineWith({ tlbEntries: 1024 });
    machine.load(randomGuest(5));
    machine.runTo(500);
    const snapshot = machine.machine.snapshot();
    const restored = restoreMachine(snapshot, SINK, { engine: 'oracle' });
    expect(restored.ok && Buffer.compare(restored.value.snapshot(), snapshot)).toBe(0);
  });

  it('that is cut short, or longer, is refused', { timeout: 300_000 }, () => {
    const machine = machineWith({ tlbEntries: 1024 });
    machine.load(randomGuest(6));
    machine.runTo(700);
    const snapshot = machine.machine.snapshot();
    const random = new Random(1);
    const lengths = Array.from({ length: 40 }, () => random.below(snapshot.length));
    for (const length of [0, 1, 7, 8, 12, 100, snapshot.length - 1, ...lengths]) {
      const restored = restoreMachine(snapshot.slice(0, length), SINK, { engine: 'oracle', tlbEntries: 16 });
      expect(restored.ok, `${length} bytes`).toBe(false);
    }
    const longer = new Uint8Array(snapshot.length + 1);
    longer.set(snapshot);
    expect(restoreMachine(longer, SINK, { engine: 'oracle' }).ok).toBe(false);
  });

  it('with a thousand kinds of damage is refused with one line, and never believed', {
    timeout: 300_000,
  }, () => {
    const machine = machineWith({ tlbEntries: 1024 });
    machine.load(randomGuest(7));
    machine.runTo(900);
    const snapshot = machine.machine.snapshot();
    const random = new Random(2);
    for (let round = 0; round < 1000; round++) {
      const damaged = snapshot.slice();
      // Mostly in the state of processor and devices, which is at the front.
      const reach = random.chance(80) ? Math.min(5000, damaged.length) : damaged.length;
      const changes = 1 + random.below(4);
      for (let change = 0; change < changes; change++) {
        const at = random.below(reach);
        damaged[at] = random.chance(50) ? random.below(256) : damaged[at]! ^ (1 << random.below(8));
      }
      const restored = restoreMachine(damaged, SINK, { engine: 'oracle', tlbEntries: 16 });
      if (restored.ok) expect(restored.value.digest(), `round ${round}`).toBe(machine.digest());
      else expect(restored.error).not.toContain('\n');
    }
  });
});
