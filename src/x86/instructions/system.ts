import type { Row } from '../instruction.ts';
import { SYSTEM_CONTROL_ROWS } from './system-control.ts';
import { SYSTEM_PORT_ROWS } from './system-port.ts';
import { SYSTEM_SEGMENT_ROWS } from './system-segment.ts';
import { SYSTEM_TRANSFER_ROWS } from './system-transfer.ts';

/** Everything that programs the processor rather than computes. UD0, UD1 and UD2 have no rows: they are #UD. */
export const SYSTEM_ROWS: readonly Row[] = [
  ...SYSTEM_SEGMENT_ROWS,
  ...SYSTEM_CONTROL_ROWS,
  ...SYSTEM_TRANSFER_ROWS,
  ...SYSTEM_PORT_ROWS,
];
