import type { FtAction } from '../../src/ft/action.ts';
import type { FtEvent } from '../../src/ft/event.ts';
import type { Timing } from '../../src/ft/timing.ts';
import type { Core, Cores } from '../../src/hypervisor/driver.ts';
import type { Instance } from '../instance.ts';
import type { World } from '../world.ts';

/** What a broken side may do with the core that it stands around. */
export interface Side {
  readonly instance: Instance;
  readonly role: 'primary' | 'backup';
  /** The core's state. */
  readonly state: string;
  /** The core hears this too, after what it is hearing now. */
  tell(event: FtEvent): void;
  /** The driver is made to do this too, after what it is doing now. */
  add(action: FtAction): void;
}

/**
 * How one side is broken: what it hears or does instead. Nothing is changed inside the core. The same object stays
 * with an instance that goes from backup to primary.
 */
export interface Breakage {
  /** The timers that the core is given. */
  timing?(timing: Timing, role: 'primary' | 'backup'): Timing;
  /** A half of the protocol begins in this process. */
  begins?(instance: Instance): void;
  /** The event that the core gets, or none. */
  hears?(event: FtEvent, side: Side): FtEvent | undefined;
  /** The action that is done, or none. */
  does?(action: FtAction, side: Side): FtAction | undefined;
  /** After all actions of one event. */
  afterwards?(side: Side): void;
}

/** From now on every instance of this world is broken in this way. */
export function breakCores(world: World, breakage: () => Breakage): void {
  const sound = world.cores;
  world.cores = (instance) => {
    const broken = breakage();
    const cores = sound(instance);
    const given = (side: Parameters<Cores['backup']>[0], role: 'primary' | 'backup') => {
      broken.begins?.(instance);
      return broken.timing ? { ...side, timing: broken.timing(side.timing, role) } : side;
    };
    return {
      primary: (side, start, now) =>
        new BrokenCore(instance, 'primary', cores.primary(given(side, 'primary'), start, now), broken),
      backup: (side, now) =>
        new BrokenCore(instance, 'backup', cores.backup(given(side, 'backup'), now), broken),
    } satisfies Cores;
  };
}

class BrokenCore implements Core {
  readonly instance: Instance;
  readonly role: 'primary' | 'backup';
  readonly #core: Core;
  readonly #broken: Breakage;
  #heard: FtEvent[] = [];
  #done: FtAction[] = [];

  constructor(instance: Instance, role: 'primary' | 'backup', core: Core, broken: Breakage) {
    this.instance = instance;
    this.role = role;
    this.#core = core;
    this.#broken = broken;
  }

  get state(): string {
    return this.#core.state;
  }

  tell(event: FtEvent): void {
    this.#heard.push(event);
  }

  add(action: FtAction): void {
    this.#done.push(action);
  }

  start(now: Parameters<Core['start']>[0]): readonly FtAction[] {
    this.#filter(this.#core.start(now));
    return this.#drain(now);
  }

  step(event: FtEvent, now: Parameters<Core['start']>[0]): readonly FtAction[] {
    const heard = this.#broken.hears ? this.#broken.hears(event, this) : event;
    if (heard) this.#heard.unshift(heard);
    return this.#drain(now);
  }

  #drain(now: Parameters<Core['start']>[0]): readonly FtAction[] {
    try {
      for (let next = this.#heard.shift(); next; next = this.#heard.shift())
        this.#filter(this.#core.step(next, now));
    } catch (error) {
      // An invariant of the core stops this side, as it would in production; a mutant is to be found by its harm.
      this.instance.world.note(this.instance.name, `stops itself: ${String(error)}`);
      this.#heard = [];
      this.#done = [];
      this.instance.kill(false);
    }
    this.#broken.afterwards?.(this);
    return this.#done.splice(0);
  }

  #filter(actions: readonly FtAction[]): void {
    for (const action of actions) {
      const done = this.#broken.does ? this.#broken.does(action, this) : action;
      if (done) this.#done.push(done);
    }
  }
}
