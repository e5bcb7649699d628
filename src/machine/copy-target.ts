import { PAGE } from '../engine/layout.ts';
import { type EngineOptions, encodeConfig, type MachineConfig } from './config.ts';
import { type CopiedPages, eachCopiedPage, isZero, Pieces } from './copied-pages.ts';
import type { Output, OutputSink } from './door.ts';
import { LockstepMachine } from './machine.ts';

/**
 * A copy that goes into the RAM of a machine as it comes, and is hashed there: when its end arrives, for which the guest
 * stands still elsewhere, there is little left to do.
 */
export class CopyTarget implements CopiedPages {
  readonly unchanging = new Pieces();
  readonly #config: MachineConfig;
  /** Pages that something came for. */
  readonly #come: Uint8Array;
  /** Made at once: its engine is compiled before anybody waits for it. */
  #machine: LockstepMachine | undefined;
  #sink: OutputSink = { output() {} };

  constructor(config: MachineConfig, options: EngineOptions | undefined) {
    this.#config = config;
    this.#come = new Uint8Array(config.memoryBytes / PAGE);
    const sink = { output: (output: Output) => this.#sink.output(output) };
    this.#machine = new LockstepMachine(config, sink, options);
  }

  add(bytes: Uint8Array): string | undefined {
    const machine = this.#machine;
    if (machine === undefined) return 'this copy has been taken already';
    const wrong = eachCopiedPage(bytes, this.#come.length, this.unchanging, (page, content) => {
      this.#come[page] = 1;
      machine.takePage(page, content);
    });
    machine.hashPages();
    return wrong;
  }

  each(put: (page: number, content: Uint8Array) => void): void {
    this.#comePages((page, machine) => {
      const content = machine.page(page);
      if (!isZero(content)) put(page, content);
    });
  }

  clear(): void {
    this.#comePages((page, machine) => machine.takePage(page, undefined));
    this.#machine?.hashPages();
    this.#come.fill(0);
    this.unchanging.clear();
  }

  machineFor(config: Uint8Array, sink: OutputSink): LockstepMachine | undefined {
    const own = encodeConfig(this.#config);
    // A guest that was reset has a configuration of its own since.
    if (own.length !== config.length || own.some((byte, index) => byte !== config[index])) return undefined;
    const machine = this.#machine;
    this.#machine = undefined;
    this.#sink = sink;
    return machine;
  }

  #comePages(use: (page: number, machine: LockstepMachine) => void): void {
    const machine = this.#machine;
    if (machine === undefined) return;
    for (let page = this.#come.indexOf(1); page >= 0; page = this.#come.indexOf(1, page + 1))
      use(page, machine);
  }
}
