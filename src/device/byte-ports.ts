import type { PortHandler } from './device.ts';

/** A range of 8-bit registers. A wider access is one access to each of its bytes, as on the ISA bus. */
export function bytePorts(
  read: (port: number) => number,
  write: (port: number, value: number) => void,
): PortHandler {
  return {
    readPort(port, size) {
      let value = read(port) & 0xff;
      for (let at = 1; at < size; at++) value |= (read(port + at) & 0xff) << (at * 8);
      return value >>> 0;
    },
    writePort(port, size, value) {
      for (let at = 0; at < size; at++) write(port + at, (value >>> (at * 8)) & 0xff);
    },
  };
}

/** What an undriven bus reads as. */
export const NO_REGISTER = 0xff;
