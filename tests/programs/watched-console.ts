import { type Program, problemOf, type Verdict } from './list.ts';

/** Judges each program as soon as the console shows its end. */
export class WatchedConsole {
  readonly #programs: readonly Program[];
  readonly #ended: (verdict: Verdict) => void;
  #next = 0;
  #text = '';
  /** Everything that was shown. */
  whole = '';

  constructor(programs: readonly Program[], ended: (verdict: Verdict) => void) {
    this.#programs = programs;
    this.#ended = ended;
  }

  push(chunk: string): void {
    this.whole += chunk;
    this.#text += chunk.replaceAll('\r', '');
    for (;;) {
      const program = this.#programs[this.#next];
      if (program === undefined) return;
      const mark = this.#text.indexOf(`\nLOCKSTEP-PROGRAM end ${program.name} `);
      const end = mark < 0 ? -1 : this.#text.indexOf('\n', mark + 1);
      if (end < 0) return;
      this.#tell(program, this.#text.slice(0, end + 1));
      this.#text = this.#text.slice(end);
    }
  }

  /** The guest is gone: the program that ran, and those that never did, are judged by what is there. */
  finish(): void {
    for (
      let program = this.#programs[this.#next];
      program !== undefined;
      program = this.#programs[this.#next]
    )
      this.#tell(program, this.#text);
  }

  #tell(program: Program, text: string): void {
    this.#next += 1;
    this.#ended({ name: program.name, problem: problemOf(program, text) });
  }
}
