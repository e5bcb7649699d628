import { expect, test } from 'vitest';
import { jsonLines } from './json-lines.ts';

async function* chunks(...texts: string[]): AsyncGenerator<Uint8Array> {
  for (const text of texts) yield Buffer.from(text);
}

async function all(stream: AsyncIterable<Uint8Array> | null, lineBytesMax = 100): Promise<unknown[]> {
  const values: unknown[] = [];
  for await (const value of jsonLines(stream, lineBytesMax)) values.push(value);
  return values;
}

test('values are the same however the stream is cut', async () => {
  const text = '{"a":1}\n\n[2,"\u00fc"]\n3\n';
  const bytes = Buffer.from(text);
  for (let cut = 0; cut <= bytes.length; cut++) {
    const stream = (async function* () {
      yield bytes.subarray(0, cut);
      yield bytes.subarray(cut);
    })();
    expect(await all(stream)).toEqual([{ a: 1 }, [2, '\u00fc'], 3]);
  }
  expect(await all(null)).toEqual([]);
});

test('what is not ended by a line feed is not whole', async () => {
  expect(await all(chunks('1\n2'))).toEqual([1]);
});

test('rubbish and endless lines are refused', async () => {
  await expect(all(chunks('{"a":\n'))).rejects.toThrow('it answers rubbish');
  await expect(all(chunks('x'.repeat(60), 'x'.repeat(60)))).rejects.toThrow('a line of it is too long');
});
