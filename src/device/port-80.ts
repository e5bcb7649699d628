import type { ByteReader, ByteWriter } from '../base/bytes.ts';
import { bytePorts } from './byte-ports.ts';
import type { Bus, Device } from './device.ts';

/** The diagnostic port, which kernels write to pass a microsecond; it keeps the last byte, as a latch does. */
export class Port80 implements Device {
  readonly name = 'port-80';
  #value = 0;

  constructor(bus: Bus) {
    const ports = bytePorts(
      () => this.#value,
      (port, value) => {
        if (port === 0x80) this.#value = value;
      },
    );
    bus.ports(0x80, 0x80, ports);
  }

  reset(): void {
    this.#value = 0;
  }

  save(writer: ByteWriter): void {
    writer.u8(this.#value);
  }

  load(reader: ByteReader): void {
    this.#value = reader.u8();
  }
}
