import { expect, it } from 'vitest';
import { DebugExit } from './debug-exit.ts';
import { FakeBus } from './fake-machine.ts';

it('hands over what is written, in every width', () => {
  const bus = new FakeBus();
  const values: number[] = [];
  new DebugExit(bus, (value) => values.push(value));
  bus.output(0xf4, 0x2a);
  bus.output(0xf4, 0x8000_0001, 4);
  expect(values).toEqual([0x2a, 0x8000_0001]);
  expect(bus.input(0xf4)).toBe(0);
});
