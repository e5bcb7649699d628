import { describe, expect, it } from 'vitest';
import { judge, readList } from './list.ts';

describe('the list', () => {
  it('names the block that is wrong', () => {
    const list = (text: string) => {
      const programs = readList(text);
      return programs.ok ? 'fine' : programs.error;
    };
    expect(list('program a\n| true\n= x')).toBe('fine');
    expect(list('program a\n| true\n= x\n\nprogram a\n| true\n= x')).toMatch(/line 5: a is there already/);
    expect(list('# why\n\nprogram b\n| true')).toMatch(/line 3: b needs either/);
    expect(list('program b\n= x')).toMatch(/b has no command/);
    expect(list('programs b')).toMatch(/no head/);
  });

  it('judges output, exit status and an end that never came', () => {
    const program = {
      name: 'a',
      fast: true,
      generic: false,
      seconds: 1,
      files: [],
      sources: [],
      script: '',
      patterns: [],
    };
    const said = (text: string, output = 'x\ny') => judge([{ ...program, output }], text)[0]?.problem;
    const shown = (text: string, status = 0) =>
      `LOCKSTEP-PROGRAM begin a\r\n${text}\r\n\r\nLOCKSTEP-PROGRAM end a ${status} 1.5\r\n`;
    expect(said(shown('x\r\ny'))).toBeUndefined();
    expect(said(shown('x\r\nz'))).toBe("line 2: expected 'y', got 'z'");
    expect(said(shown('x\r\ny', 143))).toMatch(/ended with 143/);
    expect(said('LOCKSTEP-PROGRAM begin a\r\nx')).toMatch(/never ended/);
    expect(said('')).toBe('it never began');
  });
});
