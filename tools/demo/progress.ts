/** One line that is rewritten on a terminal, and a line now and then elsewhere. */
export class Progress {
  readonly #stream: NodeJS.WriteStream;
  readonly #startedAt = performance.now();
  #shownAt = 0;

  constructor(stream: NodeJS.WriteStream) {
    this.#stream = stream;
  }

  /** Something happened: this line stays. */
  say(text: string): void {
    this.#clear();
    this.#stream.write(`${this.#time()}  ${text}\n`);
  }

  /** How things stand. */
  show(text: string): void {
    const now = performance.now();
    if (this.#stream.isTTY) {
      const line = `${this.#time()}  ${text}`.slice(0, (this.#stream.columns ?? 80) - 1);
      this.#stream.write(`\r\x1b[K${line}`);
    } else if (now - this.#shownAt >= 2000) {
      this.#shownAt = now;
      this.#stream.write(`${this.#time()}  ${text}\n`);
    }
  }

  #clear(): void {
    if (this.#stream.isTTY) this.#stream.write('\r\x1b[K');
  }

  #time(): string {
    return `${((performance.now() - this.#startedAt) / 1000).toFixed(1).padStart(6)} s`;
  }
}
