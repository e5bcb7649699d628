import type { Outcome } from './run.ts';

const MEASURES = [
  'events',
  'steps',
  'generations',
  'takeovers',
  'moves',
  'restarts',
  'faults',
  'answers',
  'milliseconds',
] as const;

type Measure = (typeof MEASURES)[number];

/** How much happened in the seeds: a seed in which little happens proves little. */
export type Distribution = Readonly<
  Record<
    Measure,
    { readonly min: number; readonly median: number; readonly p90: number; readonly max: number }
  >
>;

export function distributionOf(outcomes: readonly Pick<Outcome, Measure>[]): Distribution {
  const measured = MEASURES.map((measure) => {
    const values = outcomes.map((outcome) => Math.round(outcome[measure])).sort((one, other) => one - other);
    const at = (share: number): number =>
      values[Math.min(values.length - 1, Math.floor(values.length * share))] ?? 0;
    return [measure, { min: at(0), median: at(0.5), p90: at(0.9), max: values.at(-1) ?? 0 }] as const;
  });
  return Object.fromEntries(measured) as Distribution;
}

export function table(distribution: Distribution): string[] {
  const row = (cells: readonly (string | number)[]): string =>
    cells.map((cell, index) => (index === 0 ? String(cell).padEnd(16) : String(cell).padStart(9))).join('');
  return [
    row(['per seed', 'min', 'median', 'p90', 'max']),
    ...MEASURES.map((measure) => {
      const { min, median, p90, max } = distribution[measure];
      return row([measure, min, median, p90, max]);
    }),
  ];
}
