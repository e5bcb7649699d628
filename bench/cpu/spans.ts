import type { Mark } from './marks.ts';
import { ALL } from './workloads.ts';

/** A clock that only grows, read at a mark: CPU seconds, instructions. */
export type Reading = Readonly<Record<string, number>>;

export interface Span {
  readonly checksum: string;
  /** By how much each clock grew. */
  readonly grew: Reading;
}

/** From marks and what clocks said at each, what each workload took. The boot is the span before the first end. */
export class Spans {
  readonly #spans = new Map<string, Span>();
  readonly #begun = new Map<string, Reading>();
  readonly #start: Reading;

  constructor(start: Reading) {
    this.#start = start;
  }

  mark({ name, kind, value }: Mark, reading: Reading): void {
    if (kind === 'begin') this.#begun.set(name, reading);
    else if (kind === 'end') {
      const from = this.#begun.get(name) ?? this.#start;
      this.#spans.set(name, { checksum: value, grew: difference(reading, from) });
    } else {
      // The program knows better than whoever looks from outside: its clock has no ticks.
      const span = this.#spans.get(name);
      if (span !== undefined) this.#spans.set(name, { ...span, grew: { ...span.grew, cpu: Number(value) } });
    }
  }

  get(name: string): Span | undefined {
    return this.#spans.get(name);
  }

  get finished(): boolean {
    return this.#spans.has(ALL);
  }
}

function difference(to: Reading, from: Reading): Reading {
  return Object.fromEntries(Object.entries(to).map(([name, value]) => [name, value - (from[name] ?? 0)]));
}
