import { expect, it } from 'vitest';
import { FakeBus, loadBytes, savedBytes } from './fake-machine.ts';
import { Port80 } from './port-80.ts';

it('keeps the last byte, over a restore too', () => {
  const bus = new FakeBus();
  const port = new Port80(bus);
  bus.output(0x80, 0x5a);
  const restored = new FakeBus();
  loadBytes(new Port80(restored), savedBytes(port));
  expect(restored.input(0x80)).toBe(0x5a);
});
