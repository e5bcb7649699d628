import { failed, ok, type Result } from '../base/result.ts';
import type { MachineSnapshot } from '../ft/event.ts';
import type { Resumed } from '../ft/primary-state.ts';
import type { VcpuPort } from '../hypervisor/ports.ts';

/**
 * Puts a saved guest into a new vCPU, which stands still until `run`. The result is what a
 * primary has to know of the guest's past. Whoever drives the vCPU afterwards listens to it anew.
 */
export function restoreInto(vcpu: VcpuPort, snapshot: MachineSnapshot): Promise<Result<Resumed>> {
  const { digest, position } = snapshot;
  return new Promise((resolve) => {
    vcpu.listen({
      loaded: (loaded) => {
        if (loaded !== digest) resolve(failed('the snapshot is damaged: its digest is another one'));
        else vcpu.endReplay();
      },
      replayedToEnd: (_at, started) => {
        vcpu.pause();
        resolve(ok({ outputs: position.outputs, started }));
      },
      diverged: (reason) => resolve(failed(reason)),
      stopped: (reason) => resolve(failed(reason)),
      entry() {},
      output() {},
      flush() {},
      replayed() {},
      pages() {},
      snapshot() {},
    });
    vcpu.load(snapshot);
  });
}
