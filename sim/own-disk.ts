import type { Following } from '../src/ft/copy-name.ts';
import type { Extent } from '../src/ft/extent.ts';
import type { Epoch } from '../src/ft/identity.ts';
import type { DiskCopies, DiskEvents, DiskPort } from '../src/hypervisor/ports.ts';
import type { DiskRequestOutput } from '../src/machine/door.ts';
import { ChangedSectors } from '../src/storage/changed-sectors.ts';
import { type OperationEffect, OrderedOperations } from '../src/storage/ordered-operations.ts';
import type { HostCopy } from './host-copy.ts';
import type { Instance } from './instance.ts';

const NOTHING = new Uint8Array(0);
const NOWHERE: Extent = { disk: 0, offset: 0, length: 0 };

/** One instance's port to its host's own copy: what the production port does, on a host that may lose its power. */
export class SimOwnDiskPort implements DiskPort {
  readonly copies: DiskCopies;
  readonly #instance: Instance;
  readonly #copy: HostCopy;
  readonly #operations = new OrderedOperations();
  #changed: ChangedSectors | undefined;
  readonly #issued = new Set<number>();
  readonly #replayed = new Map<number, { live: boolean }>();
  /** Given to the kernel: they take effect whether the process lives or not, unless it dies first. */
  readonly #started = new Set<() => void>();
  #events!: DiskEvents;
  #followed = false;
  #opened = false;
  #closed = false;
  /** Switched by a mutant. */
  keepsChanges = true;

  constructor(instance: Instance, copy: HostCopy) {
    this.#instance = instance;
    this.#copy = copy;
    this.copies = {
      read: (number, extent) =>
        this.#run('read', extent, () => {
          const data = copy.read(extent.offset);
          this.#events.blockRead?.(number, extent, data.some((byte) => byte !== 0) ? data : undefined, false);
        }),
      begin: (whole) => {
        this.#followed = true;
        this.#changed = new ChangedSectors(instance.world.profile.disks.bytes[0]!);
        copy.whole = false;
        if (whole) copy.name = { ...copy.name, follows: undefined };
      },
      store: (extent, data) => this.#store(extent, data),
      secure: (number, follows) => this.#secure(number, follows),
      live: () => this.#live(),
    };
  }

  listen(events: DiskEvents): void {
    this.#events = events;
  }

  open(epoch: Epoch): void {
    const { world } = this.#instance;
    this.#instance.act(() => {
      if (!this.#copy.whole && !this.#opened)
        world.violated('only a whole copy is used', `${this.#instance.name} opens a copy that is not whole`);
      this.#copy.name = { ...this.#copy.name, follows: undefined };
      if (this.#followed) this.#copy.whole = false;
      this.#opened = true;
      this.#run('barrier', NOWHERE, () => {
        this.#copy.flush();
        this.#events.opened(epoch, 'ok');
      });
    });
  }

  issue(request: DiskRequestOutput): void {
    this.#instance.act(() => {
      const replayed = this.#replayed.get(request.request);
      if (replayed) replayed.live = true;
      if (replayed || this.#issued.has(request.request)) return;
      this.#issued.add(request.request);
      const fails = this.#instance.world.random.chance(this.#instance.world.disk.failing);
      this.#run(effectOf(request), request, () => {
        this.#issued.delete(request.request);
        this.#complete(request, fails ? 'error' : 'ok', fails ? NOTHING : this.#execute(request));
      });
    });
  }

  replay(request: DiskRequestOutput): void {
    const { world } = this.#instance;
    if (request.operation === 'read') {
      const fails = world.random.chance(0.1);
      this.#run('read', request, () => {
        const data = fails ? undefined : this.#copy.read(request.offset);
        this.#events.read?.(0, request.request, data);
      });
      return;
    }
    const state = { live: false };
    this.#replayed.set(request.request, state);
    if (request.operation !== 'flush') this.#changed?.add(request);
    this.#run(effectOf(request), request, () => {
      this.#execute(request);
      this.#replayed.delete(request.request);
      if (state.live) this.#complete(request, 'ok', NOTHING);
    });
  }

  /** The process is over: what the kernel had of it is done or not. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const apply of this.#started) if (this.#instance.world.random.chance(0.5)) apply();
    this.#started.clear();
  }

  reconnect(): void {
    // Nothing is far away.
  }

  bootValues(): number[] {
    return this.#copy.bootValues();
  }

  #store(extent: Extent, data: Uint8Array | undefined): void {
    const others = (this.keepsChanges && this.#changed?.others(extent)) || [extent];
    this.#run('change', extent, () => {
      // Blocks are as long as what a guest writes at once: all of it has changed, or nothing.
      if (others.length > 0) this.#copy.write(extent.offset, data ?? NOTHING);
      this.#events.blockStored?.();
    });
  }

  #live(): void {
    this.#followed = false;
    this.#run('barrier', NOWHERE, () => {
      this.#copy.flush();
      this.#copy.whole = true;
    });
  }

  #secure(number: number, follows: Following | undefined): void {
    this.#run('barrier', NOWHERE, () => {
      this.#copy.flush();
      if (follows) {
        this.#lacksNothing(follows);
        this.#copy.whole = true;
        this.#copy.name = { ...this.#copy.name, follows };
      }
      this.#events.secured?.(number);
    });
  }

  /** What its guest has not written since is what the primary's copy held since. */
  #lacksNothing(follows: Following): void {
    const { world, name } = this.#instance;
    const primary = world.copies[world.processOf(follows.primary)?.host ?? -1];
    const { bytes, blockBytes } = world.profile.disks;
    for (let offset = 0; primary && offset < bytes[0]!; offset += blockBytes) {
      const changed = this.#changed?.others({ disk: 0, offset, length: blockBytes }).length === 0;
      if (changed || primary.held(offset, this.#copy.read(offset), this.#instance.loadingSince)) continue;
      world.violated(
        'a whole copy lacks nothing',
        `block ${offset} at ${name} is not what the primary's copy held`,
      );
    }
  }

  #execute({ operation, offset, data }: DiskRequestOutput): Uint8Array {
    if (operation === 'write') this.#copy.write(offset, data);
    if (operation === 'flush') this.#copy.flush();
    return operation === 'read' ? this.#copy.read(offset) : NOTHING;
  }

  #complete({ request }: DiskRequestOutput, status: 'ok' | 'error', data: Uint8Array): void {
    this.#events.completed({ kind: 'disk-completed', disk: 0, request, status, data });
  }

  /** `apply` changes the copy, and then tells of it, which a process that is over does not hear. */
  #run(effect: OperationEffect, extent: Extent, apply: () => void): void {
    const { world } = this.#instance;
    this.#operations.add(effect, extent, (done) => {
      let tells: (() => void)[] = [];
      const events = this.#events;
      const take = (): void => {
        // What it tells is kept until the process listens.
        this.#events = deferred(events, (tell) => tells.push(tell));
        apply();
        this.#events = events;
      };
      this.#started.add(take);
      const end = (): void => {
        if (this.#closed) return;
        if (world.disk.stalled) {
          world.schedule(3, end);
          return;
        }
        if (!this.#started.delete(take)) return;
        take();
        this.#instance.later(0.02, () => {
          for (const tell of tells) if (!this.#closed) tell();
          tells = [];
          done();
        });
      };
      const usual = world.random.chance(0.15) ? world.random.between(4, 25) : world.random.between(0.2, 1.2);
      world.schedule(usual + world.random.unit() * world.disk.slowMs, end);
    });
  }
}

function deferred(events: DiskEvents, later: (tell: () => void) => void): DiskEvents {
  return {
    opened: (...told) => later(() => events.opened(...told)),
    completed: (...told) => later(() => events.completed(...told)),
    fenced: () => later(() => events.fenced()),
    read: (...told) => later(() => events.read?.(...told)),
    blockRead: (...told) => later(() => events.blockRead?.(...told)),
    blockStored: () => later(() => events.blockStored?.()),
    secured: (...told) => later(() => events.secured?.(...told)),
    copyFailed: (...told) => later(() => events.copyFailed?.(...told)),
  };
}

function effectOf({ operation }: DiskRequestOutput): OperationEffect {
  if (operation === 'flush') return 'barrier';
  return operation === 'read' ? 'read' : 'change';
}
