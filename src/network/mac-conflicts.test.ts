import { expect, test } from 'vitest';
import { plainFrame } from '../../tests/data/test-frames.ts';
import { announcement } from './announcement.ts';
import { MacConflicts } from './mac-conflicts.ts';

const MACS = [Uint8Array.of(2, 0, 0, 0, 0, 15), Uint8Array.of(2, 0, 0, 0, 0, 16)];
const own = plainFrame('everyone', 15, 'I am 15');

function watch(): { said: string[]; conflicts: MacConflicts } {
  const said: string[] = [];
  return { said, conflicts: new MacConflicts(MACS, (line) => said.push(line)) };
}

test('another machine with the MAC address of an interface is told of in one line, once', () => {
  const { said, conflicts } = watch();
  for (let second = 0; second < 100; second++) conflicts.received(0, own, second * 1000);
  expect(said).toEqual([
    'interface 0: another machine on the network has its MAC address 02:00:00:00:00:0f; give one of them another',
  ]);
});

test('a takeover is no conflict: echoes and announcements within seconds, however many', () => {
  const { said, conflicts } = watch();
  for (let ms = 0; ms < 14_000; ms += 10) conflicts.received(0, own, ms);
  for (let second = 20; second < 100; second++) conflicts.received(0, announcement(MACS[0]!), second * 1000);
  expect(said).toEqual([]);
});

test('frames of others, and those of the other interface, say nothing', () => {
  const { said, conflicts } = watch();
  for (let second = 0; second < 100; second++) {
    conflicts.received(0, plainFrame(15, 3, 'hello'), second * 1000);
    conflicts.received(1, own, second * 1000);
    conflicts.received(0, new Uint8Array(3), second * 1000);
  }
  expect(said).toEqual([]);
});
