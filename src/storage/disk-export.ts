import { readFileSync } from 'node:fs';
import { open, unlink } from 'node:fs/promises';
import { failed, ok, type Result } from '../base/result.ts';
import type { ArbiterAnswer, ArbiterRequest } from '../ft/arbiter.ts';
import type { Epoch, InstanceId, VmId } from '../ft/identity.ts';
import { type DiskState, DiskStateFile } from './disk-state-file.ts';
import { type DiskSession, FencedDisk } from './fenced-disk.ts';
import { RawFile } from './raw-file.ts';
import { decide } from './vm-record.ts';

export interface DiskExportOptions {
  /** The name that clients ask for. */
  readonly name: string;
  readonly path: string;
  readonly readOnly?: boolean;
  /** How long a host may run without renewing before a restart elsewhere is allowed (protocol 10). */
  readonly leaseMs?: number;
}

const LEASE_MS = 10_000;

/** One disk of a disk server: the image, its fence, and the record of the VM it belongs to. */
export class DiskExport {
  readonly name: string;
  readonly disk: FencedDisk;
  readonly #image: RawFile;
  readonly #stateFile: DiskStateFile;
  readonly #lock: string;
  readonly #leaseMs: number;
  #state: DiskState;
  #leaseUntil: number;
  #changes: Promise<unknown> = Promise.resolve();

  private constructor(
    options: DiskExportOptions,
    image: RawFile,
    stateFile: DiskStateFile,
    state: DiskState,
    lock: string,
  ) {
    this.name = options.name;
    this.#image = image;
    this.#stateFile = stateFile;
    this.#state = state;
    this.#lock = lock;
    this.#leaseMs = options.leaseMs ?? LEASE_MS;
    // Whoever held the lease before this server started may hold it still.
    this.#leaseUntil = performance.now() + this.#leaseMs;
    this.disk = new FencedDisk(image, state.fence, (fence) =>
      this.#change((before) => ({ ...before, fence })),
    );
  }

  static async open(options: DiskExportOptions): Promise<Result<DiskExport>> {
    const image = await RawFile.open(options.path, { readOnly: options.readOnly ?? false });
    if (!image.ok) return image;
    const lock = `${options.path}.lockstep-lock`;
    const stateFile = new DiskStateFile(`${options.path}.lockstep-state`);
    const locked = options.readOnly === true ? ok(undefined) : await takeLock(lock, options.path);
    const state = locked.ok ? await stateFile.load() : locked;
    if (!state.ok) {
      await image.value.close();
      if (locked.ok && options.readOnly !== true) await unlink(lock).catch(() => undefined);
      return state;
    }
    return ok(new DiskExport(options, image.value, stateFile, state.value as DiskState, lock));
  }

  /** Undefined: refused. */
  async openGeneration(vm: VmId, epoch: Epoch, instance: InstanceId): Promise<DiskSession | undefined> {
    if (!(await this.#belongsTo(vm))) return undefined;
    return this.disk.open(epoch, instance);
  }

  /** The answer, after the record that it tells of is durable. Undefined: this disk belongs to another VM. */
  async arbitrate(request: ArbiterRequest): Promise<ArbiterAnswer | undefined> {
    if (!(await this.#belongsTo(request.vm))) return undefined;
    let answer: ArbiterAnswer | undefined;
    await this.#change((before) => {
      const decision = decide(before.record, request, performance.now() >= this.#leaseUntil);
      answer = decision.answer;
      if (decision.leaseRenewed) this.#leaseUntil = performance.now() + this.#leaseMs;
      return decision.record === before.record ? before : { ...before, record: decision.record };
    });
    return answer;
  }

  async close(): Promise<void> {
    await this.#changes;
    await this.#image.close();
    if (!this.#image.readOnly) await unlink(this.#lock).catch(() => undefined);
  }

  async #belongsTo(vm: VmId): Promise<boolean> {
    if (this.#state.vm === undefined) await this.#change((before) => ({ ...before, vm: before.vm ?? vm }));
    return this.#state.vm === vm;
  }

  /** One change at a time, durable before it is in force. */
  #change(next: (before: DiskState) => DiskState): Promise<void> {
    const change = this.#changes.then(async () => {
      const after = next(this.#state);
      if (after === this.#state) return;
      await this.#stateFile.save(after);
      this.#state = after;
    });
    this.#changes = change.catch(() => undefined);
    return change;
  }
}

/** Two servers of one image would fence nothing. A lock left by a process that is gone is taken over. */
async function takeLock(lock: string, path: string): Promise<Result<void>> {
  for (let attempt = 0; attempt < 2; attempt++) {
    try {
      const file = await open(lock, 'wx', 0o600);
      await file.writeFile(String(process.pid));
      await file.close();
      return ok(undefined);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST')
        return failed(`disk ${path} is read-only: its folder cannot be written`);
    }
    const owner = lockOwner(lock);
    if (owner !== undefined && isAlive(owner))
      return failed(`disk ${path} is already served by process ${owner}`);
    await unlink(lock).catch(() => undefined);
  }
  return failed(`disk ${path} is already served by another process`);
}

function lockOwner(lock: string): number | undefined {
  try {
    const owner = Number.parseInt(readFileSync(lock, 'utf8'), 10);
    return Number.isNaN(owner) ? undefined : owner;
  } catch {
    return undefined;
  }
}

function isAlive(process_: number): boolean {
  try {
    process.kill(process_, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
