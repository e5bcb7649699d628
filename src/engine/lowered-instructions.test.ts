import { describe, expect, test } from 'vitest';
import { KEPT, LoweredInstructions, NO_RECORDS, UNKNOWN } from './lowered-instructions.ts';

const MODE = 2;
const bytes = (...values: number[]) => Uint8Array.from([0xcc, ...values]);

function keep(kept: LoweredInstructions, code: Uint8Array, records: number[], mode = MODE): void {
  kept.begin(code, 1, code.length - 1, mode, records.length);
  records.forEach((operation, index) => {
    kept.add(operation, 0, 0, 0, index === records.length - 1 ? KEPT.last : 0);
  });
}

describe('kept instructions', () => {
  test('are found by the bytes they begin with, whatever follows', () => {
    const kept = new LoweredInstructions();
    keep(kept, bytes(0x48, 0x01, 0xd8), [7, 8]);
    keep(kept, bytes(0x90), [9]);
    const first = kept.find(bytes(0x48, 0x01, 0xd8, 0x90, 0x90), 1, 5, MODE);
    expect(kept.length).toBe(3);
    expect(kept.records[first]).toBe(7);
    expect(kept.records[kept.after(first)]).toBe(8);
    expect(kept.records[kept.find(bytes(0x90, 0x48), 1, 2, MODE)]).toBe(9);
    expect(kept.length).toBe(1);
  });

  test('are not found by fewer bytes, others, or in another mode', () => {
    const kept = new LoweredInstructions();
    keep(kept, bytes(0x48, 0x01, 0xd8), [7]);
    expect(kept.find(bytes(0x48, 0x01, 0xd8), 1, 2, MODE)).toBe(UNKNOWN);
    expect(kept.find(bytes(0x48, 0x01, 0xd9), 1, 3, MODE)).toBe(UNKNOWN);
    expect(kept.find(bytes(0x48, 0x01, 0xd8), 1, 3, MODE + 1)).toBe(UNKNOWN);
  });

  test('may have no records', () => {
    const kept = new LoweredInstructions();
    keep(kept, bytes(0x90), []);
    expect(kept.find(bytes(0x90), 1, 1, MODE)).toBe(NO_RECORDS);
  });

  test('are forgotten together when there is no more room', () => {
    const kept = new LoweredInstructions();
    const many = new Array<number>(1000).fill(1);
    keep(kept, bytes(0x90), [9]);
    for (let value = 0; value < 70; value++) keep(kept, bytes(0x0f, value), many);
    expect(kept.find(bytes(0x90), 1, 1, MODE)).toBe(UNKNOWN);
    const last = kept.find(bytes(0x0f, 69), 1, 2, MODE);
    expect(kept.records[last]).toBe(1);
  });
});
