import type { Result } from '../base/result.ts';
import type { CopiedPages } from '../machine/copied-pages.ts';
import type { Machine, OutputSink } from '../machine/door.ts';

/** Makes the machine of this VM: from its initial image, or from a snapshot. */
export interface MachineFactory {
  create(sink: OutputSink): Result<Machine>;
  /** `staged`: what had come of a copy before its end, the snapshot. */
  restore(snapshot: Uint8Array, sink: OutputSink, staged?: CopiedPages): Result<Machine>;
  /** Where the pages of a copy go that comes in parts. Absent: only whole snapshots come. */
  stage?(): CopiedPages;
}
