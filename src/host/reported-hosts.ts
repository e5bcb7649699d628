import type { HostsEvents, HostsPort } from '../hypervisor/ports.ts';

/** `except`: addresses of instances that were a backup and cannot be one again. */
export type FindHost = { readonly kind: 'find-host'; readonly except: readonly string[] };

/** Hosts by request: whoever watches this process is told that one is wanted, and answers with an order. */
export class ReportedHosts implements HostsPort {
  readonly #report: (line: FindHost) => void;
  #events: HostsEvents | undefined;

  constructor(report: (line: FindHost) => void) {
    this.#report = report;
  }

  listen(events: HostsEvents): void {
    this.#events = events;
  }

  find(except: readonly string[]): void {
    this.#report({ kind: 'find-host', except });
  }

  /** An instance that waits at `address`, on that host. */
  offer(address: string, host: string): void {
    this.#events?.candidate(address, host);
  }
}
