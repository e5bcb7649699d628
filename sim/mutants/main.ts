import { MUTANTS } from './all.ts';
import { hunt } from './hunt.ts';

/** node dist/sim/mutants/main.js: the table of docs/RELIABILITY.md. */
const SEEDS = 1000;

console.log('| rule | model | broken how | seeds | found by |');
console.log('|---|---|---|---|---|');
for (const mutant of MUTANTS) {
  const found = hunt(mutant, SEEDS);
  const by = found ? found.violation.property : 'not found';
  console.log(
    `| ${mutant.rule} | ${mutant.model ?? ''} | ${mutant.broken} | ${found?.seed ?? `over ${SEEDS}`} | ${by} |`,
  );
  if (process.argv.includes('--what') && found) console.log(`    ${found.violation.what}`);
}
