import { uptime } from 'node:os';
import type { ArbiterAnswer, ArbiterRequest } from '../ft/arbiter.ts';
import type { Epoch, InstanceId } from '../ft/identity.ts';
import type { ArbiterPort } from '../hypervisor/ports.ts';
import type { PortDisk } from './disk-port.ts';
import type { DiskAnswer, DiskOperation } from './fenced-disk.ts';

/** Protocol 7(b), in milliseconds; what has to be true for it stands in docs/STORAGE.md. */
export interface LeaseTimes {
  /** T: how long the arbiter's lease is. */
  readonly leaseMs: number;
  /** d: how far two hosts' clocks drift apart within it. */
  readonly driftMs: number;
  /** m: no write takes effect later than this after it was issued. */
  readonly lateMs: number;
}

/** CLOCK_BOOTTIME: it counts while a process is stopped and while its host is suspended [clock_gettime(2)]. */
const bootMs = (): number => uptime() * 1000;
/** How coarse that clock is. */
const CLOCK_MS = 20;

/**
 * The arbiter's lease as the disks know it. A write may be issued before `until`: T - d after the request that renewed the
 * lease was first asked.
 */
export class DiskLease {
  readonly times: LeaseTimes;
  readonly #now: () => number;
  readonly #asked = new Map<string, number>();
  #until = Number.NEGATIVE_INFINITY;
  #waiting: (() => void)[] = [];

  constructor(times: LeaseTimes, now: () => number = bootMs) {
    this.times = times;
    this.#now = now;
  }

  get now(): number {
    return this.#now();
  }

  /** Whether a write may be issued in this very turn. */
  held(): boolean {
    return this.#now() + CLOCK_MS < this.#until;
  }

  /** Resolves when the lease has been renewed; ask `held` again then. */
  renewed(): Promise<void> {
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  /** The same arbiter, overheard. */
  overhear(arbiter: ArbiterPort): ArbiterPort {
    return {
      listen: (events) =>
        arbiter.listen({
          answered: (answer) => {
            this.#answered(answer);
            events.answered(answer);
          },
        }),
      request: (request) => {
        this.#askedFor(request);
        arbiter.request(request);
      },
    };
  }

  #askedFor({ nonce }: ArbiterRequest): void {
    // Asked again, it may have been granted the first time.
    if (!this.#asked.has(nonce)) this.#asked.set(nonce, this.#now());
    const [oldest] = this.#asked.keys();
    if (this.#asked.size > 64 && oldest !== undefined) this.#asked.delete(oldest);
  }

  #answered({ nonce, verdict }: ArbiterAnswer): void {
    const asked = this.#asked.get(nonce);
    this.#asked.delete(nonce);
    if (asked === undefined) return;
    const { leaseMs, driftMs } = this.times;
    if (verdict === 'superseded') this.#until = Number.NEGATIVE_INFINITY;
    else this.#until = Math.max(this.#until, asked + leaseMs - driftMs);
    for (const resolve of this.#waiting.splice(0)) resolve();
  }
}

const AGAIN_MS = 50;

/**
 * A disk that knows no generations: whoever takes it over first waits until no write of the one before can be on its way,
 * T + d + m after the claim, and then neither reads nor writes anything older than that.
 */
export class LeasedDisk implements PortDisk {
  readonly #disk: PortDisk;
  readonly #lease: DiskLease;
  readonly #say: (line: string) => void;
  #wait: Promise<void> | undefined;
  #closed = false;

  constructor(disk: PortDisk, lease: DiskLease, say: (line: string) => void) {
    this.#disk = disk;
    this.#lease = lease;
    this.#say = say;
  }

  async open(epoch: Epoch, instance: InstanceId): Promise<'ok' | 'refused'> {
    // Opened again by the same instance, the disk has had no other writer; and before the first epoch there was none.
    this.#wait ??= epoch <= 1 ? Promise.resolve() : this.#untilNobodyWrites();
    await this.#wait;
    return this.#closed ? 'refused' : this.#disk.open(epoch, instance);
  }

  execute(operation: DiskOperation): Promise<DiskAnswer> {
    return this.#disk.execute(operation);
  }

  close(): void {
    this.#closed = true;
    this.#disk.close();
  }

  async #untilNobodyWrites(): Promise<void> {
    const { leaseMs, driftMs, lateMs } = this.#lease.times;
    // The claim was won before this call.
    const end = this.#lease.now + leaseMs + driftMs + lateMs + CLOCK_MS;
    const seconds = ((leaseMs + driftMs + lateMs) / 1000).toFixed(1);
    this.#say(
      `the disk's server fences nobody: waiting ${seconds} s until no write of another host can land`,
    );
    while (this.#lease.now < end && !this.#closed)
      await new Promise((resolve) => setTimeout(resolve, Math.min(AGAIN_MS, end - this.#lease.now)));
  }
}
