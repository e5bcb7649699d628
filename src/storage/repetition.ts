/** Work that is done again and again, `pauseMs` of milliseconds after its end, and never twice at once. */
export class Repetition {
  readonly #pauseMs: () => number;
  readonly #work: () => Promise<void>;
  readonly #finished: Promise<void>;
  #ended = false;
  #wake: () => void = () => {};

  /** Begins with the work; what it throws ends the process. */
  constructor(pauseMs: () => number, work: () => Promise<void>) {
    this.#pauseMs = pauseMs;
    this.#work = work;
    this.#finished = this.#repeat();
  }

  get ended(): boolean {
    return this.#ended;
  }

  /** Resolves when the work under way is done. */
  async end(): Promise<void> {
    this.#ended = true;
    this.#wake();
    await this.#finished;
  }

  async #repeat(): Promise<void> {
    // The caller gets this object before the work begins.
    await Promise.resolve();
    while (!this.#ended) {
      await this.#work();
      if (!this.#ended) await this.#pause();
    }
  }

  #pause(): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, this.#pauseMs());
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}
