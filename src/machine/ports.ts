import { assert } from '../base/assert.ts';
import type { PortHandler } from '../device/device.ts';

/** The 64 Ki I/O ports. Unclaimed ports read all ones and swallow writes. */
export class PortSpace {
  readonly #handlers: (PortHandler | undefined)[] = new Array(0x10000);

  claim(first: number, last: number, handler: PortHandler): void {
    assert(first >= 0 && last <= 0xffff && first <= last, 'a range of ports');
    this.#handlers.fill(handler, first, last + 1);
  }

  read(port: number, size: number): number {
    const ones = size === 4 ? 0xffff_ffff : (1 << (size * 8)) - 1;
    const handler = this.#handlers[port];
    return handler === undefined ? ones : (handler.readPort(port, size) & ones) >>> 0;
  }

  write(port: number, size: number, value: number): void {
    const ones = size === 4 ? 0xffff_ffff : (1 << (size * 8)) - 1;
    this.#handlers[port]?.writePort(port, size, (value & ones) >>> 0);
  }
}
