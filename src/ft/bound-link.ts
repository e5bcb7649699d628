import type { FtAction } from './action.ts';
import type { Link } from './link.ts';
import type { Message } from './message.ts';

/**
 * The one connection of a backup that has said hello. Others carry nothing; where there is none, what is to be sent is
 * sent to nobody: the next connection begins with how far this side is.
 */
export class BoundLink {
  readonly #do: (action: FtAction) => void;
  #link: Link | undefined;

  constructor(perform: (action: FtAction) => void) {
    this.#do = perform;
  }

  is(link: Link | undefined): boolean {
    return link !== undefined && link === this.#link;
  }

  /** Only the newest one counts. */
  bind(link: Link): void {
    if (!this.is(link)) this.close();
    this.#link = link;
  }

  /** It is gone already. */
  forget(): void {
    this.#link = undefined;
  }

  close(): void {
    if (this.#link !== undefined) this.#do({ kind: 'close', link: this.#link });
    this.#link = undefined;
  }

  send(message: Message): void {
    if (this.#link !== undefined) this.#do({ kind: 'send', link: this.#link, message });
  }

  /** And at once. */
  tell(message: Message): void {
    this.send(message);
    this.flush();
  }

  flush(): void {
    if (this.#link !== undefined) this.#do({ kind: 'flush', link: this.#link });
  }

  /** A full buffer stops the reading, never the connection (rule 9). */
  read(on: boolean): void {
    if (this.#link !== undefined)
      this.#do({ kind: on ? 'resume-reading' : 'pause-reading', link: this.#link });
  }
}
