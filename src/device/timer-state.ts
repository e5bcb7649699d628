import type { ByteReader, ByteWriter } from '../base/bytes.ts';
import { guestNanoseconds } from '../base/units.ts';
import type { Timer } from './device.ts';

/** The latest deadline a device arms: 146 years. Later ones never come, and 64 bits always hold it. */
const DEADLINE_MAX = 1n << 62n;

export function armTimer(timer: Timer, deadline: bigint): void {
  timer.arm(guestNanoseconds(deadline < DEADLINE_MAX ? deadline : DEADLINE_MAX));
}

export function saveTimer(writer: ByteWriter, timer: Timer): void {
  const { deadline } = timer;
  writer.bool(deadline !== undefined).u64(deadline ?? 0n);
}

export function loadTimer(reader: ByteReader, timer: Timer): void {
  const armed = reader.bool();
  const deadline = reader.u64();
  if (armed) armTimer(timer, deadline);
  else timer.disarm();
}
