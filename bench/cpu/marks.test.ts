import { describe, expect, test } from 'vitest';
import { type Mark, MarkReader } from './marks.ts';

function marksIn(chunks: readonly string[]): Mark[] {
  const marks: Mark[] = [];
  const reader = new MarkReader((mark) => marks.push(mark));
  for (const chunk of chunks) reader.push(chunk);
  return marks;
}

const CONSOLE =
  '[    0.1] Linux\r\nLOCKSTEP-WORK init end 00000000\r\nLOCKSTEP-WORK sort begin\r\n' +
  'LOCKSTEP-WORK sort end 0badcafe\r\nLOCKSTEP-WORK sort cpu 0.250000\n';
const MARKS: Mark[] = [
  { name: 'init', kind: 'end', value: '00000000' },
  { name: 'sort', kind: 'begin', value: '' },
  { name: 'sort', kind: 'end', value: '0badcafe' },
  { name: 'sort', kind: 'cpu', value: '0.250000' },
];

describe('marks on a console', () => {
  test('are found between other lines', () => {
    expect(marksIn([CONSOLE])).toEqual(MARKS);
  });

  test('are found however the output is cut', () => {
    for (const length of [1, 2, 7, 50])
      expect(marksIn(CONSOLE.match(new RegExp(`[^]{1,${length}}`, 'g')) ?? [])).toEqual(MARKS);
  });

  test('are whole lines: one without its end is none yet', () => {
    expect(marksIn(['LOCKSTEP-WORK sort begin'])).toEqual([]);
    expect(marksIn(['LOCKSTEP-WORK sort end 0bad\r\n'])).toEqual([]);
  });

  test('come out after any amount of noise', () => {
    expect(marksIn(['x'.repeat(1_000_000), 'LOCKSTEP-WORK sort begin\n'])).toEqual([MARKS[1]]);
  });
});
