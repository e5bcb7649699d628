/** The JSON values of a stream, one on each line; throws at what is none, and at a line that is too long. */
export async function* jsonLines(
  stream: AsyncIterable<Uint8Array> | null,
  lineBytesMax: number,
): AsyncGenerator<unknown> {
  let rest: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of stream ?? []) {
    let from = 0;
    for (let end = chunk.indexOf(10); end >= 0; end = chunk.indexOf(10, from)) {
      const line = Buffer.concat([...rest, chunk.subarray(from, end)]).toString('utf8');
      [rest, length, from] = [[], 0, end + 1];
      if (line.trim() !== '') yield parse(line);
    }
    rest.push(chunk.subarray(from));
    length += chunk.length - from;
    if (length > lineBytesMax) throw new Error('a line of it is too long');
  }
}

function parse(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    throw new Error('it answers rubbish');
  }
}
