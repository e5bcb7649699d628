import { type MicroOperation, microOperation, type Semantics } from '../semantics.ts';
import type { Size } from '../state.ts';

/** One micro-operation for each operand size. */
export type BySize<S extends Size = Size> = Readonly<Record<S, MicroOperation>>;

/** Defines `name` + bits for every given size. */
export function bySize<S extends Size>(
  name: string,
  sizes: readonly S[],
  meaning: <V, B, X>(s: Semantics<V, B, X>, size: S) => void,
): BySize<S> {
  const entries = sizes.map((size) => [size, microOperation(name + size * 8, (s) => meaning(s, size))]);
  return Object.fromEntries(entries) as BySize<S>;
}

export const ALL_SIZES = [1, 2, 4, 8] as const;
export const WORD_SIZES = [2, 4, 8] as const;
export const WIDE_SIZES = [4, 8] as const;
