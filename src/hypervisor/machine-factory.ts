import type { Result } from '../base/result.ts';
import type { Machine, OutputSink } from '../machine/door.ts';

/** Makes the machine of this VM: from its initial image, or from a snapshot. */
export interface MachineFactory {
  create(sink: OutputSink): Result<Machine>;
  restore(snapshot: Uint8Array, sink: OutputSink): Result<Machine>;
}
