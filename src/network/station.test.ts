import { describe, expect, test } from 'vitest';
import { plainFrame, tcpFrame, textOf } from '../../tests/data/test-frames.ts';
import type { Packet } from '../base/packet/offload.ts';
import { epoch } from '../ft/identity.ts';
import { tcpSegmentOf } from './ethernet.ts';
import { Station, type StationLink } from './station.ts';

class Host implements StationLink {
  readonly frames: Uint8Array[] = [];
  gone = false;
  deliver({ frame }: Packet): boolean {
    this.frames.push(frame);
    return true;
  }
  replaced(): void {
    this.gone = true;
  }
}

const client = [2, 40000] as const;
const guest = [15, 6379] as const;
const toGuest = (sequence: number, payload: string) =>
  tcpFrame({ from: client, to: guest, sequence, acknowledges: 1, payload });
const ackFromGuest = (acknowledges: number) =>
  tcpFrame({ from: guest, to: client, sequence: 1, acknowledges });

describe('a VM at the switch', () => {
  test('frames for a VM without a host are held and delivered to the next host', () => {
    const station = new Station('vm/0');
    const [before, after] = [new Host(), new Host()];
    station.attach(epoch(1), before, 0);
    station.detach(before);
    station.deliver({ frame: plainFrame(15, 2, 'held') }, 1000);
    station.deliver({ frame: plainFrame(15, 2, 'too') }, 2000);
    station.attach(epoch(2), after, 3000);
    expect(after.frames.map(textOf)).toEqual(['held', 'too']);
    expect(before.frames).toEqual([]);
  });

  test('what is held too long is dropped, and what is held is bounded', () => {
    const station = new Station('vm/0');
    const host = new Host();
    for (let i = 0; i < 1000; i++)
      station.deliver({ frame: plainFrame(15, 2, `${i}`) }, i < 900 ? 0 : 40_000);
    station.attach(epoch(1), host, 40_001);
    expect(host.frames).toHaveLength(100);
  });

  test('TCP segments that the guest has not acknowledged are given to the survivor again, others are not', () => {
    const station = new Station('vm/0');
    const [before, after] = [new Host(), new Host()];
    station.attach(epoch(1), before, 0);
    station.deliver({ frame: toGuest(100, 'aaaa') }, 0);
    station.deliver({ frame: toGuest(104, 'bbbb') }, 0);
    expect(station.accepts(before, 1n, ackFromGuest(104))).toBe(true);
    station.detach(before);
    station.deliver({ frame: toGuest(108, 'cccc') }, 0);
    station.attach(epoch(2), after, 0);
    expect(after.frames.map((frame) => tcpSegmentOf(frame)?.sequence)).toEqual([104, 108]);
    station.accepts(after, 2n, ackFromGuest(112));
    const third = new Host();
    station.attach(epoch(3), third, 0);
    expect(third.frames).toEqual([]);
    expect(after.gone).toBe(true);
  });

  test('acknowledgement works across the wrap of sequence numbers', () => {
    const station = new Station('vm/0');
    const [before, after] = [new Host(), new Host()];
    station.attach(epoch(1), before, 0);
    station.deliver({ frame: toGuest(0xfffffffe, 'abcd') }, 0);
    station.deliver({ frame: toGuest(2, 'efgh') }, 0);
    station.accepts(before, 1n, ackFromGuest(2));
    station.attach(epoch(2), after, 0);
    expect(after.frames.map((frame) => tcpSegmentOf(frame)?.sequence)).toEqual([2]);
  });

  test('fencing: an older generation may not attach, and its connection is not heard any more', () => {
    const station = new Station('vm/0');
    const [old, fresh, late] = [new Host(), new Host(), new Host()];
    station.attach(epoch(1), old, 0);
    station.attach(epoch(2), fresh, 0);
    expect(station.accepts(old, 5n, plainFrame(2, 15, 'late'))).toBe(false);
    expect(station.attach(epoch(1), late, 0)).toBe(false);
    expect(station.accepts(fresh, 6n, plainFrame(2, 15, 'new'))).toBe(true);
  });

  test('an output sent again after a takeover is dropped; a VM that starts again is heard', () => {
    const station = new Station('vm/0');
    const [before, after] = [new Host(), new Host()];
    station.attach(epoch(1), before, 0);
    for (let i = 1; i <= 10; i++) station.accepts(before, BigInt(i), plainFrame(2, 15, `reply ${i}`));
    station.attach(epoch(2), after, 0);
    const again = (i: number) => station.accepts(after, BigInt(i), plainFrame(2, 15, `reply ${i}`));
    expect([8, 9, 10, 11].map(again)).toEqual([false, false, false, true]);
    const restarted = new Host();
    station.attach(epoch(3), restarted, 0);
    expect(station.accepts(restarted, 1n, plainFrame(2, 15, 'boot'))).toBe(true);
  });

  test('a process that moves to a newer epoch keeps its connection and gets nothing twice', () => {
    const station = new Station('vm/0');
    const host = new Host();
    station.attach(epoch(1), host, 0);
    station.deliver({ frame: toGuest(100, 'aaaa') }, 0);
    station.attach(epoch(2), host, 0);
    expect(host.frames).toHaveLength(1);
    expect(host.gone).toBe(false);
  });
});

describe('reading frames', () => {
  test('damaged and cut frames are no segments', () => {
    const frame = toGuest(1, 'data');
    expect(tcpSegmentOf(frame)).toMatchObject({ sequence: 1, end: 5 });
    for (let length = 0; length < frame.length; length++) {
      expect(tcpSegmentOf(frame.subarray(0, length)), `${length} bytes`).toBeUndefined();
    }
    const wrongHeader = Buffer.from(frame);
    wrongHeader[46] = 0xf0;
    expect(tcpSegmentOf(wrongHeader)).toBeUndefined();
  });
});
