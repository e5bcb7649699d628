/** One benchmark of design section 10: what it measured, and whether it may be believed. */
export interface BenchResult {
  readonly bench: string;
  /** Every run behind the figures was correct, and every peer was there. */
  readonly ok: boolean;
  readonly figures: Readonly<Record<string, number>>;
  readonly rows: readonly Readonly<Record<string, string | number | boolean>>[];
  /** The rows as people read them, where there is a better way than names and values. */
  readonly table?: readonly string[];
  /** Why it is not ok. */
  readonly complaints: readonly string[];
}

export interface BenchOptions {
  /** What happens, for people. */
  readonly say: (line: string) => void;
  /** How often each thing is measured; the figures are medians. */
  readonly rounds: number;
  /** What the user said for the bench's own options. */
  readonly settings: Readonly<Partial<Record<string, string>>>;
}

export interface Bench {
  readonly name: string;
  readonly summary: string;
  readonly rounds: number;
  /** Options with a value that only this bench has, and what they take. */
  readonly settings?: Readonly<Record<string, string>>;
  run(options: BenchOptions): Promise<BenchResult>;
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  if (sorted.length === 0) return Number.NaN;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** The value that this share of all values does not exceed. */
export function percentile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.max(0, Math.ceil(sorted.length * share) - 1))] ?? Number.NaN;
}

export function rounded(value: number, digits = 3): number {
  return Number(value.toFixed(digits));
}
