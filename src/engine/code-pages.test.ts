import { expect, it } from 'vitest';
import { CodePages } from './code-pages.ts';
import { CodeSpace, EpochSource } from './code-space.ts';

it('a page of code is known by its whole address, within one generation', () => {
  const pages = new CodePages();
  const source = new EpochSource();
  const space = new CodeSpace(source);
  const { generation } = space;
  expect(pages.find(0, 0, generation)).toBe(-1);
  pages.note(0x1234_5678, 7, generation, 99);
  expect(pages.find(0x1234_5000, 7, generation)).toBe(99);
  expect(pages.find(0x1234_5fff, 7, generation)).toBe(99);
  expect(pages.find(0x1234_6000, 7, generation)).toBe(-1);
  // The same slot.
  expect(pages.find(0x1334_5000, 7, generation)).toBe(-1);
  expect(pages.find(0x1234_5000, 8, generation)).toBe(-1);
  expect(pages.find(0x1234_5000, 7, new CodeSpace(source).generation)).toBe(-1);
  space.end();
  expect(pages.find(0x1234_5000, 7, space.generation)).toBe(-1);
});

it('epochs end when code in the dropped range has run, and otherwise go on', () => {
  const space = new CodeSpace(new EpochSource());
  const first = space.epoch(2, 0);
  expect(space.epoch(2, 0)).toBe(first);
  expect(space.epoch(2, 0x1_0000)).not.toBe(first);
  expect(space.epoch(1, 0)).not.toBe(first);
  space.add(0x0040_3000, -1);
  space.dropped(0x0040_3000, 0, ~0xfff);
  space.dropped(0x0040_2000, -1, ~0xfff);
  space.dropped(0x0020_0000, -1, ~0x1f_ffff);
  expect(space.epoch(2, 0)).toBe(first);
  const { generation } = space;
  space.dropped(0x0040_0000, -1, ~0x1f_ffff);
  const second = space.epoch(2, 0);
  expect(second).not.toBe(first);
  expect(space.generation).not.toBe(generation);
  // Nothing runs from there in the new epochs.
  space.dropped(0x0040_3000, -1, ~0xfff);
  expect(space.epoch(2, 0)).toBe(second);
});
