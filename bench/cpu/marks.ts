/** What the guest's program prints where something begins and ends [bench/guest/main.c]. */
export interface Mark {
  readonly name: string;
  readonly kind: 'begin' | 'end' | 'cpu';
  /** An end's checksum, or the CPU seconds that the program measured itself. */
  readonly value: string;
}

const LINE = /LOCKSTEP-WORK (\w+) (?:(begin)|(end) ([0-9a-f]{8})|(cpu) (\d+\.\d+))\r?\n/;
/** No mark is longer; a guest that never ends a line fills no memory. */
const KEPT = 4096;

/** Finds marks in a console's output, however it is cut and whatever stands around them. */
export class MarkReader {
  #text = '';
  readonly #onMark: (mark: Mark) => void;

  constructor(onMark: (mark: Mark) => void) {
    this.#onMark = onMark;
  }

  push(text: string): void {
    this.#text += text;
    for (;;) {
      const found = LINE.exec(this.#text);
      if (found === null) break;
      this.#text = this.#text.slice(found.index + found[0].length);
      const [, name = '', begin, end, sum = '', , seconds = ''] = found;
      if (begin !== undefined) this.#onMark({ name, kind: 'begin', value: '' });
      else if (end !== undefined) this.#onMark({ name, kind: 'end', value: sum });
      else this.#onMark({ name, kind: 'cpu', value: seconds });
    }
    if (this.#text.length > KEPT) this.#text = this.#text.slice(-KEPT);
  }
}
