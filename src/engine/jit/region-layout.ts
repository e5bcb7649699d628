import type { Code, Label } from '../../wasm/code.ts';

/**
 * How the blocks of a region become structured control flow. They stand in one order. A jump forward leaves a wasm
 * block that ends where its target begins; a jump backward goes to a wasm loop that begins at its target and goes on
 * to the last place that jumps there. Loops that would overlap are made to nest. A jump from outside into the middle
 * of a loop, and the entry from outside the region, go through a dispatch at the loop's head: the wanted block's
 * number plus 1 is in a local.
 */
export interface Edge {
  readonly from: number;
  readonly to: number;
}

interface Loop {
  readonly head: number;
  last: number;
}

/** A block, or a loop with what is in it. */
interface Unit {
  readonly head: number;
  readonly last: number;
  readonly loop: boolean;
  readonly inner: readonly Unit[];
}

export interface BlockWriter {
  readonly code: Code;
  /** Local that holds the wanted block plus 1, or 0. */
  readonly wanted: number;
  /** Writes the block; it ends by jumping or leaving on every way. */
  block(index: number): void;
}

export class RegionLayout {
  readonly #count: number;
  readonly #loops: Loop[];
  /** Blocks that are jumped to through a dispatch. */
  readonly #dispatched = new Set<number>();
  readonly #labels = new Map<number, Label>();
  readonly #loopLabels = new Map<number, Label>();
  #at = 0;

  /** `entries`: blocks that the function may be entered at, besides block 0. */
  constructor(count: number, edges: readonly Edge[], entries: readonly number[]) {
    this.#count = count;
    this.#loops = nest(edges);
    for (const entry of entries) if (entry !== 0) this.#dispatched.add(entry);
    for (const { from, to } of edges)
      if (this.#dispatchHead(from, to) !== undefined) this.#dispatched.add(to);
  }

  /** The head of the outermost loop that has `to` in its middle and does not have `from`. */
  #dispatchHead(from: number, to: number): number | undefined {
    let outermost: Loop | undefined;
    for (const loop of this.#loops) {
      if (loop.head < to && to <= loop.last && (from < loop.head || from > loop.last)) {
        if (outermost === undefined || loop.head < outermost.head) outermost = loop;
      }
    }
    return outermost?.head;
  }

  write(writer: BlockWriter): void {
    this.#level(writer, units(this.#loops, 0, this.#count - 1), true);
  }

  /** Jumps from the block that is being written. */
  jump({ code, wanted }: BlockWriter, to: number): void {
    const from = this.#at;
    if (to <= from) {
      code.branch(this.#loopLabels.get(to)!);
      return;
    }
    const head = this.#dispatchHead(from, to);
    if (head === undefined) {
      code.branch(this.#labels.get(to)!);
      return;
    }
    code.i32(to + 1).set(wanted);
    code.branch(this.#labels.get(head)!);
  }

  /** `first`: the outermost level, where the function is entered. */
  #level(writer: BlockWriter, list: readonly Unit[], first: boolean): void {
    const { code, wanted } = writer;
    // The label of the last unit is opened first, so that each ends where its unit begins.
    for (const unit of list.slice(1).reverse()) this.#labels.set(unit.head, code.open('block'));
    const inside = first || list.length > 1 ? this.#dispatchedIn(list, first) : [];
    if (inside.length > 0) {
      const head = code.open('block');
      const targets: Label[] = [head];
      for (let block = 0; block <= Math.max(...inside); block++) {
        const unit = list.find((other) => other.head <= block && block <= other.last);
        const label = unit === undefined || unit === list[0] ? head : this.#labels.get(unit.head)!;
        targets.push(inside.includes(block) ? label : head);
      }
      code.get(wanted).branchTable([...targets, head]);
      code.close();
    }
    list.forEach((unit, index) => {
      if (index > 0) code.close();
      if (unit.loop) {
        this.#loopLabels.set(unit.head, code.open('loop'));
        this.#level(writer, unit.inner, false);
        code.close();
        return;
      }
      this.#at = unit.head;
      if (this.#dispatched.has(unit.head)) code.i32(0).set(wanted);
      writer.block(unit.head);
    });
  }

  /** Blocks of these units that are wanted from outside the level. */
  #dispatchedIn(list: readonly Unit[], first: boolean): number[] {
    const from = list[0]!.head;
    const last = list.at(-1)!.last;
    return [...this.#dispatched].filter((block) => (first || block > from) && block >= from && block <= last);
  }
}

/** One loop for each block that is jumped back to; where two overlap, the outer one is made longer. */
function nest(edges: readonly Edge[]): Loop[] {
  const byHead = new Map<number, Loop>();
  for (const { from, to } of edges) {
    if (to > from) continue;
    const loop = byHead.get(to);
    if (loop === undefined) byHead.set(to, { head: to, last: from });
    else loop.last = Math.max(loop.last, from);
  }
  const loops = [...byHead.values()].sort((a, b) => a.head - b.head);
  for (let changed = true; changed; ) {
    changed = false;
    for (const outer of loops) {
      for (const inner of loops) {
        if (outer.head < inner.head && inner.head <= outer.last && outer.last < inner.last) {
          outer.last = inner.last;
          changed = true;
        }
      }
    }
  }
  return loops;
}

/** The units of the blocks first..last, where no loop reaches beyond them. */
function units(loops: readonly Loop[], first: number, last: number, inside?: Loop): Unit[] {
  const list: Unit[] = [];
  for (let at = first; at <= last; ) {
    const loop = loops.find((other) => other.head === at && other !== inside);
    if (loop === undefined) {
      list.push({ head: at, last: at, loop: false, inner: [] });
      at++;
    } else {
      list.push({ head: at, last: loop.last, loop: true, inner: units(loops, at, loop.last, loop) });
      at = loop.last + 1;
    }
  }
  return list;
}
