import { closeSync, openSync, readSync } from 'node:fs';
import { replayRecording } from '../../src/host/recording-replay.ts';
import { type Mark, MarkReader } from './marks.ts';

/**
 * Replays a recording and tells, for each mark of the guest, the CPU time of this process and the count of
 * instructions there. A replay does not pause where the guest did, so nobody outside could read clocks in time.
 */
export interface ToldMark extends Mark {
  readonly cpu: number;
  readonly instructions: number;
}

const [, , path = '', engine = 'auto'] = process.argv;
const CHUNK_BYTES = 256 * 1024;

const file = openSync(path, 'r');
let waiting: { readonly mark: Mark; readonly cpu: number }[] = [];
const reader = new MarkReader((mark) => {
  const { user, system } = process.cpuUsage();
  waiting.push({ mark, cpu: (user + system) / 1e6 });
});
const outcome = replayRecording(
  () => {
    const chunk = Buffer.allocUnsafe(CHUNK_BYTES);
    const length = readSync(file, chunk, 0, CHUNK_BYTES, null);
    return length === 0 ? undefined : chunk.subarray(0, length);
  },
  {
    ...((engine === 'interpreter' || engine === 'jit') && { engine: { engine } }),
    onConsole: (bytes) => reader.push(Buffer.from(bytes).toString('latin1')),
    onProgress: ({ count }) => {
      for (const { mark, cpu } of waiting) tell({ ...mark, cpu, instructions: Number(count) });
      waiting = [];
    },
  },
);
closeSync(file);
if (!outcome.ok || outcome.value.verdict !== 'equal') {
  process.stderr.write(`${outcome.ok ? outcome.value.reason : outcome.error}\n`);
  process.exitCode = 1;
}

function tell(mark: ToldMark): void {
  process.stdout.write(`${JSON.stringify(mark)}\n`);
}
