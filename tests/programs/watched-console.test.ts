import { expect, it } from 'vitest';
import type { Program, Verdict } from './list.ts';
import { WatchedConsole } from './watched-console.ts';

const program = (name: string): Program => ({
  ...{ name, fast: true, generic: false, seconds: 1, files: [], sources: [], script: '', patterns: [] },
  output: name,
});

it('judges each program at its end, wherever the console is cut', () => {
  const text = ['boot', 'a', 'b'].reduce(
    (shown, name) =>
      name === 'boot'
        ? 'boot\r\n'
        : `${shown}LOCKSTEP-PROGRAM begin ${name}\r\n${name}\r\n\r\nLOCKSTEP-PROGRAM end ${name} 0 1.5\r\n`,
    '',
  );
  const lastLine = text.lastIndexOf('LOCKSTEP-PROGRAM end');
  for (let cut = 0; cut <= lastLine; cut++) {
    const verdicts: Verdict[] = [];
    const watched = new WatchedConsole([program('a'), program('b')], (verdict) => verdicts.push(verdict));
    watched.push(text.slice(0, cut));
    watched.push(text.slice(cut, lastLine));
    expect(verdicts).toEqual([{ name: 'a', problem: undefined }]);
    watched.push(text.slice(lastLine));
    expect(verdicts[1]).toEqual({ name: 'b', problem: undefined });
    expect(watched.whole).toBe(text);
  }
});

it('a guest that is gone has not run what is left', () => {
  const verdicts: Verdict[] = [];
  const watched = new WatchedConsole([program('a'), program('b')], (verdict) => verdicts.push(verdict));
  watched.push('LOCKSTEP-PROGRAM begin a\r\na\r\n');
  watched.finish();
  expect(verdicts.map(({ problem }) => problem)).toEqual([
    expect.stringMatching(/never ended/),
    'it never began',
  ]);
});
