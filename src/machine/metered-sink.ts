import { type Output, type OutputSink, outputBytes } from './door.ts';

/** So many bytes of outputs may be made before whoever takes them gets a word in. */
export const NOTICED_OUTPUT_BYTES = 1 << 20;

/**
 * Passes outputs on, and tells `full` whenever so many bytes have come. One instruction can make megabytes of them, a bell
 * of a full queue: they cannot wait for the next regular look at the stop word. No part of the state.
 */
export class MeteredSink implements OutputSink {
  readonly #sink: OutputSink;
  readonly #full: () => void;
  #bytes = 0;

  constructor(sink: OutputSink, full: () => void) {
    this.#sink = sink;
    this.#full = full;
  }

  output(output: Output): void {
    // First: a frame's memory may move on to another thread.
    this.#bytes += outputBytes(output);
    this.#sink.output(output);
    if (this.#bytes < NOTICED_OUTPUT_BYTES) return;
    this.#bytes = 0;
    this.#full();
  }
}
