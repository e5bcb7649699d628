import type { ByteReader, ByteWriter } from '../base/bytes.ts';
import { bytePorts } from './byte-ports.ts';
import type { Bus, Device, GuestClock } from './device.ts';

export const PM_TIMER_PORT = 0x608;
export const PM_TIMER_HZ = 3_579_545n;
const SECOND = 1_000_000_000n;

/** The ACPI power management timer: 32 bits that only count [ACPI 4.8.2.1]. */
export class PmTimer implements Device {
  readonly name = 'pm-timer';
  readonly #clock: GuestClock;

  constructor(bus: Bus, clock: GuestClock) {
    this.#clock = clock;
    const ports = bytePorts(
      (port) => this.value() >>> (8 * (port & 3)),
      () => {},
    );
    bus.ports(PM_TIMER_PORT, PM_TIMER_PORT + 3, ports);
  }

  value(): number {
    return Number(BigInt.asUintN(32, (this.#clock.now() * PM_TIMER_HZ) / SECOND));
  }

  /** How often the top bit has toggled, which is what sets TMR_STS. */
  toggles(): bigint {
    return ((this.#clock.now() * PM_TIMER_HZ) / SECOND) >> 31n;
  }

  /** The first time at which the top bit has toggled `count` times. */
  timeOfToggle(count: bigint): bigint {
    return ((count << 31n) * SECOND + PM_TIMER_HZ - 1n) / PM_TIMER_HZ;
  }

  /** It shows guest time and keeps nothing of its own. */
  reset(): void {}
  save(_writer: ByteWriter): void {}
  load(_reader: ByteReader): void {}
}
