import type { Epoch, InstanceId } from './identity.ts';

/** Which pair a copy of the disks was whole in, and so whose writes it has up to some point. */
export interface Following {
  readonly primary: InstanceId;
  readonly generation: Epoch;
}

/** One side's copy of the disks, under whichever process. */
export interface CopyName {
  readonly id: string;
  /** Undefined: it is part of nothing that a primary could know of. */
  readonly follows: Following | undefined;
}

/** Where there are no copies. */
export const NO_COPY: CopyName = { id: '', follows: undefined };
