import type { Socket } from 'node:net';
import type { DiskLease } from './disk-lease.ts';

/** So often it is looked whether the lease has ended while changes have no answer. */
const LOOK_MS = 50;

/**
 * What may still be on its way over one socket when the lease has ended (protocol 7b): of this process's own queue one
 * change at most; and what has no answer by then goes with its connection, which is reset, so that the kernel sends
 * nothing of it either.
 */
export class LeasedChanges {
  readonly #socket: Socket;
  readonly #lease: DiskLease;
  /** A unix socket has nothing of its own to reset: what was written is with the peer. */
  readonly #resets: boolean;
  /** Until the kernel has all of the last one. */
  #leaving: Promise<void> | undefined;
  #unanswered = 0;
  #looks: NodeJS.Timeout | undefined;

  constructor(socket: Socket, lease: DiskLease) {
    this.#socket = socket;
    this.#lease = lease;
    this.#resets = socket.remoteAddress !== undefined;
  }

  /** Whether a change may be issued in this very turn. */
  get mayLeave(): boolean {
    return this.#lease.held() && this.#leaving === undefined;
  }

  /** Resolves when that may have changed. */
  changed(): Promise<void> {
    return this.#lease.held() && this.#leaving !== undefined ? this.#leaving : this.#lease.renewed();
  }

  /** A change leaves now; what this returns is called when the kernel has it. */
  leaves(): () => void {
    this.#unanswered += 1;
    this.#looks ??= setInterval(() => this.#look(), LOOK_MS).unref();
    let left: () => void = () => {};
    this.#leaving = new Promise((resolve) => {
      left = () => {
        this.#leaving = undefined;
        resolve();
      };
    });
    return left;
  }

  answered(): void {
    this.#unanswered -= 1;
  }

  /** The connection has ended. */
  end(): void {
    clearInterval(this.#looks);
  }

  #look(): void {
    if (this.#unanswered > 0 && !this.#lease.held()) {
      if (this.#resets) this.#socket.resetAndDestroy();
      else this.#socket.destroy();
    } else if (this.#unanswered > 0) return;
    clearInterval(this.#looks);
    this.#looks = undefined;
  }
}
