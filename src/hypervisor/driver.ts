import { type HostMilliseconds, hostMilliseconds } from '../base/units.ts';
import type { FtAction, Takeover } from '../ft/action.ts';
import { Backup } from '../ft/backup.ts';
import type { FtEvent, MachineSnapshot } from '../ft/event.ts';
import type { InstanceId } from '../ft/identity.ts';
import { Primary } from '../ft/primary.ts';
import type { PrimaryStart } from '../ft/primary-state.ts';
import type { Side } from '../ft/side.ts';
import type { ControlInput } from '../machine/door.ts';
import type { NumberedOutput } from '../replay/numbered-output.ts';
import { perform } from './port-actions.ts';
import { listen } from './port-events.ts';
import type { CopyFigures, Ports } from './ports.ts';
import { protectionOf } from './protection-words.ts';

export type Role = { readonly kind: 'primary'; readonly start: PrimaryStart } | { readonly kind: 'backup' };

export interface DriverOptions {
  readonly side: Side;
  readonly role: Role;
  /** MAC address per network interface, for the announcement at go-live. */
  readonly macs: readonly Uint8Array[];
}

/** One half of the protocol, as the driver sees it. */
export interface Core {
  readonly state: string;
  start(now: HostMilliseconds): readonly FtAction[];
  step(event: FtEvent, now: HostMilliseconds): readonly FtAction[];
}

/** Makes the two halves. The simulator counts their steps, and puts broken ones in their place. */
export interface Cores {
  primary(side: Side, start: PrimaryStart, now: HostMilliseconds): Core;
  backup(side: Side, now: HostMilliseconds): Core;
}

export const PRODUCTION_CORES: Cores = {
  primary: (side, start, now) => new Primary(side, start, now),
  backup: (side, now) => new Backup(side, now),
};

/** Why an instance halted whose guest's state was handed out. */
export const SAVED = 'saved';

const TICK = 'tick';
const ENTROPY_BYTES = 32;
const ENTROPY_EVERY_MS = 60_000;

/**
 * THE driver: turns what the ports tell into events of the protocol core, and the core's actions into calls of the
 * ports. It decides nothing. Production and simulation run this same file.
 */
export class Driver {
  readonly #ports: Ports;
  readonly #options: DriverOptions;
  readonly #cores: Cores;
  #core: Core;
  #role: 'primary' | 'backup';
  readonly #events: FtEvent[] = [];
  #pumping = false;
  #halted = false;
  #entropyAt = 0;
  #saving: ((snapshot: MachineSnapshot) => void) | undefined;
  #capturing: ((snapshot: MachineSnapshot) => void) | undefined;

  constructor(ports: Ports, options: DriverOptions, cores: Cores = PRODUCTION_CORES) {
    this.#ports = ports;
    this.#options = options;
    this.#cores = cores;
    const now = ports.clock.now();
    this.#role = options.role.kind;
    this.#core =
      options.role.kind === 'primary'
        ? cores.primary(options.side, options.role.start, now)
        : cores.backup(options.side, now);
    listen(ports, {
      event: (event) => this.#event(event),
      timer: (name) => this.#timer(name),
      output: (output) => this.#output(output),
      snapshot: (snapshot, copy, stoodUs) => this.#snapshot(snapshot, copy, stoodUs),
    });
  }

  get role(): 'primary' | 'backup' {
    return this.#role;
  }

  get state(): string {
    return this.#core.state;
  }

  get core(): Core {
    return this.#core;
  }

  start(): void {
    this.#tickLater();
    this.#perform(this.#core.start(this.#ports.clock.now()));
    this.#pump();
  }

  /** A host that may carry the backup: the address of its logging channel. */
  protect(address?: string): void {
    if (this.#saving) return;
    this.#event({ kind: 'protect', address });
  }

  /** Moves the backup to another host, without an unprotected moment [FT 3.3]. */
  migrateBackup(address?: string): void {
    this.#event({ kind: 'migrate-backup', address });
  }

  /** Planned takeover: the backup goes on as the primary; with `migrateBackup` before it, the VM moves [FT 3.3]. */
  switchOver(): void {
    this.#event({ kind: 'switch-over' });
  }

  unprotect(): void {
    this.#event({ kind: 'unprotect' });
  }

  /** Moves a guest that has no backup to the instance that waits there: it runs on until the last of it has to go. */
  move(address: string): void {
    if (this.#saving) return;
    this.#event({ kind: 'move', address });
  }

  /** A control operation enters on the primary and travels in the log [FT 3.3]. */
  control(input: ControlInput): void {
    this.#event({ kind: 'input', input });
  }

  /**
   * Ends this instance with the guest's state, for a later start from there. Only a primary without a partner can:
   * a partner would take over. False when it cannot.
   */
  save(saved: (snapshot: MachineSnapshot) => void): boolean {
    if (this.#halted || this.#capturing || this.#core.state !== 'SOLE') return false;
    this.#saving = saved;
    // A host that is offered meanwhile would be copied to, by the very snapshot that is to be saved.
    this.unprotect();
    this.#ports.vcpu.pause();
    this.#ports.vcpu.snapshot();
    return true;
  }

  /**
   * The guest's state at one instant, while it runs on, with a partner or without. Outputs made before that instant are
   * handed over before `captured` is called or are in the state; those made after it are handed over afterwards. False:
   * this is not the guest's primary, or another one is under way.
   */
  capture(captured: (snapshot: MachineSnapshot) => void): boolean {
    const runs = this.#role === 'primary' && this.#core.state !== 'START';
    if (this.#halted || this.#saving || this.#capturing || !runs) return false;
    this.#capturing = captured;
    this.#ports.vcpu.snapshot();
    return true;
  }

  now(): HostMilliseconds {
    return this.#ports.clock.now();
  }

  #output(output: NumberedOutput): void {
    const { output: sent } = output;
    if (this.#role === 'backup' && sent.kind === 'frame') this.#ports.network.replayed(sent.nic, sent);
    this.#event({ kind: 'output', output });
  }

  #snapshot(snapshot: MachineSnapshot, copy: CopyFigures | undefined, stoodUs = 0): void {
    if (copy) {
      const { count, digest } = snapshot;
      this.#ports.status.report({ kind: 'copied', ...copy, count, digest });
      this.#event({ kind: 'snapshot', snapshot, copy: copy.number, stoodUs });
      return;
    }
    const captured = this.#capturing;
    if (captured) {
      this.#capturing = undefined;
      captured(snapshot);
      return;
    }
    const saved = this.#saving;
    if (!saved || this.#core.state !== 'SOLE') return;
    saved(snapshot);
    this.#halt(SAVED);
  }

  #timer(name: string): void {
    if (name !== TICK || this.#halted) return;
    this.#tickLater();
    this.#event({ kind: 'tick' });
    // A guest that may not run yet takes no inputs, and its first seed would be lost.
    const takes = this.#role === 'primary' && this.#core.state !== 'START';
    if (takes && this.#ports.clock.now() >= this.#entropyAt) this.#seed();
  }

  #tickLater(): void {
    const { clock } = this.#ports;
    clock.setTimer(TICK, hostMilliseconds(clock.now() + this.#options.side.timing.heartbeatMs));
  }

  /** Real entropy for the guest's generator, as a logged input; also after a takeover. */
  #seed(): void {
    this.#entropyAt = this.#ports.clock.now() + ENTROPY_EVERY_MS;
    const seed = this.#ports.entropy.bytes(ENTROPY_BYTES);
    this.#event({ kind: 'input', input: { kind: 'entropy', seed } });
  }

  /** A port that answers from inside a call is no harm: its event waits its turn. */
  #event(event: FtEvent): void {
    if (this.#halted) return;
    this.#events.push(event);
    this.#pump();
  }

  #pump(): void {
    if (this.#pumping) return;
    this.#pumping = true;
    try {
      for (let event = this.#events.shift(); event && !this.#halted; event = this.#events.shift()) {
        this.#perform(this.#core.step(event, this.#ports.clock.now()));
      }
    } finally {
      this.#pumping = false;
    }
  }

  #perform(actions: readonly FtAction[]): void {
    const pumping = this.#pumping;
    this.#pumping = true;
    for (const action of actions) if (!this.#halted) this.#do(action);
    this.#pumping = pumping;
  }

  #do(action: FtAction): void {
    switch (action.kind) {
      case 'go-live':
        this.#goLive(action.instance, action.takeover);
        return;
      case 'state':
        this.#ports.status.report({
          kind: 'state',
          role: this.#role,
          state: action.state,
          detail: action.detail,
          protection: protectionOf(action, this.#core.state),
        });
        return;
      case 'halt':
        this.#halt(action.reason);
        return;
      default:
        perform(action, this.#ports, this.#options.side.instance, this.#options.macs);
    }
    // The call has returned.
    if (action.kind === 'hand-over') this.#events.push({ kind: 'handed-over', output: action.output.number });
  }

  #goLive(instance: InstanceId, takeover: Takeover): void {
    const now = this.#ports.clock.now();
    const side = { ...this.#options.side, instance };
    const primary = this.#cores.primary(side, { kind: 'takeover', takeover }, now);
    this.#core = primary;
    this.#role = 'primary';
    this.#ports.disks.copies?.live();
    this.#perform(primary.start(now));
    this.#entropyAt = 0;
    if (takeover.stoodMs !== undefined)
      this.#ports.status.report({ kind: 'moved', stoodMs: takeover.stoodMs });
  }

  /** Nothing leaves this instance any more. */
  #halt(reason: string): void {
    this.#halted = true;
    this.#ports.vcpu.stop();
    this.#ports.disks.close();
    this.#ports.network.close();
    this.#ports.clock.clearTimer(TICK);
    this.#ports.status.report({ kind: 'halted', reason });
  }
}
