/** One call of one client, and what it was answered. */
export interface Operation<Action, Reply> {
  readonly action: Action;
  readonly calledMs: number;
  /** Undefined when no answer came: it may have taken effect at any time since, or never. */
  readonly answer: { readonly reply: Reply; readonly ms: number } | undefined;
}

/** What one object does, one operation after the other. States are compared by their text. */
export interface Model<Action, Reply> {
  readonly initial: string;
  /** The state afterwards; undefined when the object cannot have given this reply. No reply: anything goes. */
  after(state: string, action: Action, reply: Reply | undefined): string | undefined;
}

interface Step {
  readonly state: string;
  /** Indices that are in order already: all below `low`, and these. */
  readonly low: number;
  readonly beyond: readonly number[];
}

/**
 * True when the operations can be put into one order that the model allows and in which no operation stands before
 * another one that had been answered before it was called: the search of Wing and Gong, with Lowe's memory of the
 * places it has been to [J. M. Wing, C. Gong, *Testing and verifying concurrent objects*, 1993].
 */
export function isLinearizable<Action, Reply>(
  operations: readonly Operation<Action, Reply>[],
  model: Model<Action, Reply>,
): boolean {
  const all = [...operations].sort((a, b) => a.calledMs - b.calledMs);
  const seen = new Set<string>();
  const stack: Step[] = [{ state: model.initial, low: 0, beyond: [] }];
  for (let step = stack.pop(); step; step = stack.pop()) {
    const done = new Set(step.beyond);
    const open: number[] = [];
    // Whoever was called after some open operation had been answered comes later than that one.
    let earliestAnswer = Number.POSITIVE_INFINITY;
    let waited = false;
    for (let index = step.low; index < all.length; index++) {
      const { calledMs, answer } = all[index]!;
      if (calledMs > earliestAnswer) break;
      if (done.has(index)) continue;
      open.push(index);
      if (answer) {
        waited = true;
        earliestAnswer = Math.min(earliestAnswer, answer.ms);
      }
    }
    // What is left has no answer: none of it need ever have happened.
    if (!waited) return true;
    for (const index of open) {
      const { action, answer } = all[index]!;
      const state = model.after(step.state, action, answer?.reply);
      if (state === undefined) continue;
      const next = advanced(step, index, state);
      const key = `${next.low}/${next.beyond.join()}/${next.state}`;
      if (seen.has(key)) continue;
      seen.add(key);
      stack.push(next);
    }
  }
  return false;
}

function advanced({ low, beyond }: Step, index: number, state: string): Step {
  const left = new Set([...beyond, index]);
  while (left.delete(low)) low += 1;
  return { state, low, beyond: [...left].sort((a, b) => a - b) };
}
