/** Register numbers: the MMIO offset / 16, and the x2APIC MSR - 0x800 [SDM 3A table 11-1]. */
export const REGISTER = {
  id: 0x02,
  version: 0x03,
  taskPriority: 0x08,
  arbitrationPriority: 0x09,
  processorPriority: 0x0a,
  endOfInterrupt: 0x0b,
  logicalDestination: 0x0d,
  destinationFormat: 0x0e,
  spurious: 0x0f,
  inService: 0x10,
  triggerMode: 0x18,
  request: 0x20,
  errorStatus: 0x28,
  commandLow: 0x30,
  commandHigh: 0x31,
  lvtTimer: 0x32,
  lvtThermal: 0x33,
  lvtPerformance: 0x34,
  lvtLint0: 0x35,
  lvtLint1: 0x36,
  lvtError: 0x37,
  initialCount: 0x38,
  currentCount: 0x39,
  divide: 0x3e,
  selfIpi: 0x3f,
} as const;

/** Integrated APIC with six LVT entries and no EOI-broadcast suppression. */
export const APIC_VERSION = 0x0005_0014;
export const LVT_MASKED = 0x1_0000;
/** Writable bits, LVT timer first. */
export const LVT_WRITABLE = [0x7_00ff, 0x1_07ff, 0x1_07ff, 0x1_a7ff, 0x1_a7ff, 0x1_00ff] as const;
export const SPURIOUS_WRITABLE = 0x1ff;
export const SOFTWARE_ENABLE = 0x100;
export const COMMAND_WRITABLE = 0x000c_cfff;

export const ERROR_SEND_VECTOR = 0x20;
export const ERROR_RECEIVE_VECTOR = 0x40;
export const ERROR_REGISTER = 0x80;

/** [SDM 3A 11.5.1] */
export const DELIVERY = { fixed: 0, lowestPriority: 1, smi: 2, nmi: 4, init: 5, external: 7 } as const;

/**
 * Whether a message is for the APIC with ID 0, from its logical destination and destination format registers
 * [SDM 3A 11.6.2].
 */
export function isDestination(destination: number, isLogical: boolean, own: number, format: number): boolean {
  if (!isLogical) return destination === 0;
  const ownId = own >>> 24;
  if (format >>> 28 === 0xf) return (ownId & destination) !== 0;
  return ownId >>> 4 === destination >>> 4 && (ownId & destination & 0xf) !== 0;
}
