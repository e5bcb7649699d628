import { expect, test } from 'vitest';
import { ToyMachine } from '../../tests/toy-machine.ts';
import { hostMilliseconds, instructionCount } from '../base/units.ts';
import type { MachineSnapshot } from '../ft/event.ts';
import { VcpuLoop } from '../hypervisor/vcpu.ts';
import type { NumberedOutput } from '../replay/numbered-output.ts';
import { restoreInto } from './restored-vcpu.ts';

function vcpu() {
  const made: { machine?: ToyMachine } = {};
  const loop = new VcpuLoop(
    {
      create: (sink) => ({ ok: true, value: (made.machine = new ToyMachine(sink)) }),
      restore: (bytes, sink) => ({ ok: true, value: (made.machine = new ToyMachine(sink, bytes)) }),
    },
    { digestEveryMs: undefined },
  );
  const outputs: NumberedOutput[] = [];
  const snapshots: MachineSnapshot[] = [];
  const listen = () =>
    loop.listen({
      output: (output) => outputs.push(output),
      pages() {},
      snapshot: (snapshot) => snapshots.push(snapshot),
      entry() {},
      flush() {},
      loaded() {},
      replayed() {},
      replayedToEnd() {},
      diverged() {},
      stopped() {},
    });
  listen();
  let now = 0;
  const steps = (count: number) => {
    for (let step = 0; step < count; step++) loop.step(hostMilliseconds((now += 0.5)));
  };
  return { loop, made, outputs, snapshots, listen, steps };
}

/** A guest that waits for its disk, stopped and saved. */
function saved(): MachineSnapshot {
  const { loop, outputs, snapshots, steps } = vcpu();
  loop.create();
  loop.run();
  loop.input({ kind: 'frame', nic: 0, frame: Uint8Array.of(1, 2) });
  steps(10);
  expect(outputs.map(({ output }) => output.kind)).toContain('disk-request');
  loop.pause();
  loop.snapshot();
  steps(1);
  return snapshots[0]!;
}

test('a saved guest stands still until it may run, knows what its disk owes it, and goes on from there', async () => {
  const snapshot = saved();
  const { loop, made, outputs, snapshots, listen, steps } = vcpu();
  const restored = restoreInto(loop, snapshot);
  steps(1);
  const resumed = await restored;
  if (!resumed.ok) throw new Error(resumed.error);
  expect(resumed.value.outputs).toBe(snapshot.position.outputs);
  expect(resumed.value.started).toHaveLength(1);
  listen();
  steps(5);
  expect(made.machine?.count).toBe(snapshot.count);

  // A backup can be attached before the first instruction.
  loop.snapshot();
  steps(1);
  expect(snapshots[0]).toMatchObject({ digest: snapshot.digest, position: snapshot.position });

  const [owed] = resumed.value.started;
  loop.run();
  loop.input({
    kind: 'disk-completed',
    disk: 0,
    request: owed!.request,
    status: 'ok',
    data: new Uint8Array(),
  });
  steps(10);
  expect(made.machine!.count).toBeGreaterThan(snapshot.count);
  expect(outputs.map(({ output }) => output.kind)).toContain('frame');
  expect(outputs[0]?.number).toBe(snapshot.position.outputs + 1n);
});

test('a state whose digest is another one than when it was saved is refused', async () => {
  const snapshot = saved();
  const { loop, steps } = vcpu();
  const restored = restoreInto(loop, { ...snapshot, digest: '0'.repeat(32), count: instructionCount(1n) });
  steps(1);
  expect(await restored).toEqual({ ok: false, error: 'the snapshot is damaged: its digest is another one' });
});
