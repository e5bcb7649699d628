/**
 * A number that carries its unit in its type. Arithmetic drops the unit; a constructor restores it, so every
 * place where a plain number becomes a count or a time is visible.
 */
declare const unit: unique symbol;
export type Unit<Representation, Name extends string> = Representation & { readonly [unit]: Name };

/** Position in the guest's execution: retired instructions, string iterations and deliveries (design 2). */
export type InstructionCount = Unit<bigint, 'InstructionCount'>;
export function instructionCount(value: bigint): InstructionCount {
  if (value < 0n) throw new RangeError('an instruction count is never negative');
  return value as InstructionCount;
}

/** Guest time in nanoseconds since the guest was switched on. A function of the count (design 2). */
export type GuestNanoseconds = Unit<bigint, 'GuestNanoseconds'>;
export function guestNanoseconds(value: bigint): GuestNanoseconds {
  return value as GuestNanoseconds;
}

/** Host monotonic time in milliseconds; only ever data above the line, never read there. */
export type HostMilliseconds = Unit<number, 'HostMilliseconds'>;
export function hostMilliseconds(value: number): HostMilliseconds {
  return value as HostMilliseconds;
}

/** Guest physical address in bytes. Below 2^52, so a JavaScript number holds it exactly. */
export type PhysicalAddress = Unit<number, 'PhysicalAddress'>;
export function physicalAddress(value: number): PhysicalAddress {
  return value as PhysicalAddress;
}
