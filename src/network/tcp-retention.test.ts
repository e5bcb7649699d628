import { expect, test } from 'vitest';
import { tcpFrame } from '../../tests/data/test-frames.ts';
import { TcpRetention } from './tcp-retention.ts';

const guest = [15, 6379] as const;
const payload = 'x'.repeat(1400);

test('a flood of connections takes a bounded amount of memory, and the newest are kept', () => {
  const retention = new TcpRetention();
  for (let flow = 0; flow < 60; flow++) {
    for (let sequence = 0; sequence < 700; sequence++) {
      const from = [2, 1000 + flow] as const;
      retention.towardsGuest({
        frame: tcpFrame({ from, to: guest, sequence: sequence * 1400, acknowledges: 1, payload }),
      });
    }
  }
  const kept = retention.unacknowledged();
  const total = kept.reduce((sum, { frame }) => sum + frame.length, 0);
  expect(total).toBeLessThanOrEqual(32 * 1024 * 1024);
  expect(retention.bytes).toBe(total);
  expect(kept.length).toBeGreaterThan(20_000);
});

test('what is acknowledged, reset or forgotten is no longer counted', () => {
  const retention = new TcpRetention();
  for (const port of [1, 2, 3]) {
    retention.towardsGuest({
      frame: tcpFrame({ from: [2, port], to: guest, sequence: 0, acknowledges: 1, payload }),
    });
  }
  const each = retention.bytes / 3;
  retention.fromGuest(tcpFrame({ from: guest, to: [2, 1], sequence: 1, acknowledges: 1400 }));
  expect(retention.bytes).toBe(2 * each);
  retention.fromGuest(tcpFrame({ from: guest, to: [2, 2], sequence: 1, acknowledges: 700 }));
  expect(retention.bytes).toBe(2 * each);
  retention.fromGuest(tcpFrame({ from: guest, to: [2, 2], sequence: 1, acknowledges: 1400 }));
  retention.fromGuest(tcpFrame({ from: guest, to: [2, 3], sequence: 1, acknowledges: 1400 }));
  expect(retention.bytes).toBe(0);
});
