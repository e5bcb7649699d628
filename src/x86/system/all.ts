import type { SystemOperation } from '../cpu.ts';
import { CONTROL_REGISTER_OPERATIONS } from './control-register.ts';
import { DESCRIPTOR_TABLE_OPERATIONS } from './descriptor-table.ts';
import { FAST_CALL_OPERATIONS } from './fast-call.ts';
import { IDENTIFICATION_OPERATIONS } from './identification.ts';
import { INTERRUPT_OPERATIONS } from './interrupt.ts';
import { MSR_OPERATIONS } from './msr.ts';
import { PORT_OPERATIONS } from './port.ts';
import { SEGMENT_LOAD_OPERATIONS } from './segment-load.ts';

/** Every slow-path operation of the system instructions, in a fixed order. */
export const SYSTEM_OPERATIONS: readonly SystemOperation[] = [
  ...SEGMENT_LOAD_OPERATIONS,
  ...DESCRIPTOR_TABLE_OPERATIONS,
  ...CONTROL_REGISTER_OPERATIONS,
  ...MSR_OPERATIONS,
  ...FAST_CALL_OPERATIONS,
  ...INTERRUPT_OPERATIONS,
  ...PORT_OPERATIONS,
  ...IDENTIFICATION_OPERATIONS,
];
