import { existsSync } from 'node:fs';
import { expect, test } from 'vitest';
import { takeover } from '../bench/takeover.ts';

const MINUTES = 60_000;
const missing = ['passt'].filter((program) => !existsSync(`/usr/bin/${program}`));

/** Times are the benchmark's business (docs/RELIABILITY.md): a test asks what came true, on any machine. */
test.skipIf(missing.length > 0)(
  'ten takeovers of real processes under load: every connection survives, nothing acknowledged is lost, the history is one',
  async () => {
    const said: string[] = [];
    const result = await takeover.run({
      say: (line) => said.push(line),
      rounds: 10,
      settings: { seed: 'ci', warm: '0' },
    });
    const wrong = result.complaints.filter((line) => line.startsWith('round'));
    expect(wrong, said.join('\n')).toEqual([]);
    expect(result.figures).toMatchObject({
      rounds: 10,
      connectionsLost: 0,
      acknowledgedWritesLost: 0,
      unknownOutcomes: 0,
      notLinearizable: 0,
    });
  },
  15 * MINUTES,
);
