import { describe, expect, it } from 'vitest';
import { PAGE } from '../engine/layout.ts';
import { encodePages, encodeUnchanging, StagedPages } from './copied-pages.ts';

const MIB = 2 ** 20;

function ramOf(contents: Record<number, number>): Uint8Array {
  const ram = new Uint8Array(4 * MIB);
  for (const [page, value] of Object.entries(contents)) ram[Number(page) * PAGE + 17] = value;
  return ram;
}

function staged(...parts: Uint8Array[]): Map<number, number> {
  const pages = new StagedPages(4 * MIB);
  for (const part of parts) expect(pages.add(part)).toBeUndefined();
  const found = new Map<number, number>();
  pages.each((page, content) => found.set(page, content[17]!));
  return found;
}

describe('pages of a copy', () => {
  it('arrive as they were, in blocks far apart, and pages of zeroes are left out', () => {
    const ram = ramOf({ 0: 1, 3: 2, 700: 3, 1023: 4 });
    const part = encodePages(ram, Uint32Array.of(0, 1, 2, 3, 700, 1023), true);
    expect(part.length).toBe(4 * (4 + PAGE));
    expect([...staged(part)]).toEqual([
      [0, 1],
      [3, 2],
      [700, 3],
      [1023, 4],
    ]);
  });

  it('what comes later is newer, also when it is nothing but zeroes', () => {
    const before = encodePages(ramOf({ 5: 1, 6: 2, 7: 3 }), Uint32Array.of(5, 6, 7), true);
    const after = encodePages(ramOf({ 5: 9 }), Uint32Array.of(5, 6, 900), false);
    expect(after.length).toBe(4 + PAGE + 4 + 4);
    expect([...staged(before, after)]).toEqual([
      [5, 9],
      [7, 3],
    ]);
  });

  it.each([
    ['copied pages end within a number', Uint8Array.of(1, 2)],
    ['copied pages end within a page', Uint8Array.of(1, 0, 0, 0, 5)],
    ['page 1024 was copied, which no guest has', Uint8Array.of(0, 4, 0, 0)],
    ['page 2147483647 was copied, which no guest has', Uint8Array.of(255, 255, 255, 255)],
  ])('%s', (problem, bytes) => {
    expect(new StagedPages(4 * MIB).add(bytes)).toBe(problem);
  });

  it('what never changes comes in pieces, and is whole in their order', () => {
    const pages = new StagedPages(4 * MIB);
    for (const piece of [Uint8Array.of(1, 2), Uint8Array.of(3)])
      expect(pages.add(encodeUnchanging(piece))).toBeUndefined();
    expect([...pages.unchanging.whole()]).toEqual([1, 2, 3]);
    pages.clear();
    expect(pages.unchanging.whole()).toHaveLength(0);
  });
});
