import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { beforeAll, expect, it } from 'vitest';
import { instructionCount } from '../src/base/units.ts';
import { repositoryRoot } from '../src/host/image/repository.ts';
import { UNTAKEN_BYTES_MAX } from '../src/host/vcpu-message.ts';
import type { VcpuThread } from '../src/host/vcpu-thread.ts';
import type { VcpuEvents } from '../src/hypervisor/ports.ts';
import type { MachineConfig } from '../src/machine/config.ts';
import type { Output } from '../src/machine/door.ts';
import { createMachine, type LockstepMachine } from '../src/machine/machine.ts';
import { assembledGuest } from './assembled-guest.ts';

/**
 * A guest that puts out megabytes with each bell (guests/flood.s) hears the stop word at once, and no count moves by it:
 * a pause ordered because too much is held comes in time. What it sends is counted, not kept.
 */
const BELL_BYTES = 256 * 65_593;

const CONFIG: MachineConfig = {
  memoryBytes: 16 << 20,
  disks: [],
  nics: [{ mac: '525400123456' }],
  startEpochSeconds: 1_700_000_000,
  seed: '07'.repeat(32),
  debugExit: false,
};

let kernel: Uint8Array;

beforeAll(async () => {
  kernel = await assembledGuest('flood');
});

function machine(engine: 'interpreter' | 'jit', onOutput: (output: Output) => void): LockstepMachine {
  const made = createMachine(
    CONFIG,
    { kernel, initrd: undefined, commandLine: '' },
    { output: onOutput },
    { engine },
  );
  if (!made.ok) throw new Error(made.error);
  return made.value;
}

it.each(['interpreter', 'jit'] as const)('the stop word is read within one bell, by the %s', (engine) => {
  let bytes = 0;
  const stopped = machine(engine, (output) => {
    if (output.kind !== 'frame') return;
    if (bytes === 0) stopped.stopWord[0] = 1;
    bytes += output.frame.length;
    if (bytes > 4 * BELL_BYTES) throw new Error('it sends and sends');
  });
  const end = instructionCount(100_000n);
  expect(stopped.runUntil(end)).toBe('stop-requested');
  expect(bytes).toBe(BELL_BYTES);

  // Where it stopped is where one that nobody stopped comes by.
  const other = machine(engine, () => {});
  expect(other.runUntil(stopped.count)).toBe('count');
  expect(other.digest()).toBe(stopped.digest());
});

it('a thread that takes no outputs for a while has few megabytes of them to come', async () => {
  const { VcpuThread: Thread } = await import(
    pathToFileURL(join(repositoryRoot(), 'dist/src/host/vcpu-thread.js')).href
  );
  const boot = { kernel, initrd: undefined, commandLine: '' };
  const vcpu: VcpuThread = new Thread({
    config: CONFIG,
    options: {},
    boot,
    digestEveryMs: undefined,
    tellsDiskRequests: false,
  });
  let bytes = 0;
  await new Promise<void>((resolve, reject) => {
    const events: Partial<VcpuEvents> = {
      entry: () => {},
      flush: () => {},
      output: ({ output }) => {
        if (output.kind !== 'frame') return;
        // Busy with something else, and then it wants no more.
        if (bytes === 0) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 500);
        if (bytes === 0) vcpu.pause();
        if (bytes === 0) vcpu.snapshot();
        bytes += output.frame.length;
      },
      snapshot: () => resolve(),
      stopped: (reason) => reject(new Error(reason)),
    };
    vcpu.listen(events as VcpuEvents);
    vcpu.run();
  });
  vcpu.stop();
  // What was under way, the bell that was being rung, and one more.
  expect(bytes).toBeLessThanOrEqual(UNTAKEN_BYTES_MAX + 2 * BELL_BYTES);
});
