import { Command } from 'commander';
import { fuzz, TARGETS } from './campaign.ts';

/** Everything that comes from the network, changed at random: node --expose-gc dist/fuzz/network/main.js */

const GROWTH_MAX_MIB = 16;
const options = new Command('network')
  .option('--inputs <number>', 'all targets together', '100000')
  .option('--seed <number>', 'of the first input', '1')
  .option('--only <text>', 'targets whose name has this in it', '')
  .option('--json', 'one JSON line for each target')
  .parse()
  .opts<{ inputs: string; seed: string; only: string; json?: true }>();

const chosen = TARGETS.filter(({ name }) => name.includes(options.only));
const shares = chosen.reduce((sum, { share }) => sum + share, 0);
let bad = 0;
for (const target of chosen) {
  const inputs = Math.ceil((Number(options.inputs) * target.share) / shares);
  const result = await fuzz(target, inputs, Number(options.seed));
  const grew = result.growthMiB > GROWTH_MAX_MIB;
  if (result.violation !== undefined || grew) bad += 1;
  if (options.json) console.log(JSON.stringify(result));
  else {
    const { seconds, taken, growthMiB } = result;
    console.log(
      `${target.name}: ${result.inputs} inputs, ${taken} taken, ${seconds.toFixed(1)} s, grew ${growthMiB.toFixed(1)} MiB`,
    );
    if (result.violation !== undefined) console.log(`  VIOLATION ${result.violation}`);
  }
}
process.exit(bad === 0 ? 0 : 1);
