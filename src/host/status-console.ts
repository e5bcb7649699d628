import { decodeText } from '../base/text.ts';
import type { ConsoleEvents, ConsolePort } from '../hypervisor/ports.ts';
import { ConsoleFile } from './console-file.ts';
import type { Report } from './status-lines.ts';

/** The guest's console: its output into a file or into the status lines, its input by order. */
export class StatusConsole implements ConsolePort {
  #events: ConsoleEvents | undefined;
  readonly #write: (port: number, bytes: Uint8Array) => void;

  constructor(file: string | undefined, report: (line: Report) => void) {
    const kept =
      file === undefined
        ? undefined
        : new ConsoleFile(file, (detail) => report({ kind: 'event', what: 'console-file', detail }));
    this.#write = (port, bytes) => {
      if (kept) kept.write(bytes);
      else report({ kind: 'console', port, text: decodeText(bytes) });
    };
  }

  listen(events: ConsoleEvents): void {
    this.#events = events;
  }

  write(port: number, bytes: Uint8Array): void {
    this.#write(port, bytes);
  }

  type(port: number, text: string): void {
    this.#events?.input(port, Buffer.from(text));
  }
}
