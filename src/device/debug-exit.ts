import type { ByteReader, ByteWriter } from '../base/bytes.ts';
import type { Bus, Device } from './device.ts';

export const DEBUG_EXIT_PORT = 0xf4;

/** A write ends the run with its value, for test guests. A read gives zeros, so that a guest can find it. */
export class DebugExit implements Device {
  readonly name = 'debug-exit';

  constructor(bus: Bus, exit: (value: number) => void) {
    bus.ports(DEBUG_EXIT_PORT, DEBUG_EXIT_PORT + 3, {
      readPort: () => 0,
      writePort: (_port, _size, value) => exit(value >>> 0),
    });
  }

  reset(): void {}
  save(_writer: ByteWriter): void {}
  load(_reader: ByteReader): void {}
}
