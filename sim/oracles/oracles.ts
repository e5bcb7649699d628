import type { Message } from '../../src/ft/message.ts';
import type { DiskRequestOutput } from '../../src/machine/door.ts';
import type { VmRecord } from '../../src/storage/vm-record.ts';
import type { Instance } from '../instance.ts';
import type { SimLink } from '../link.ts';
import { wordsOf } from '../words.ts';
import type { World } from '../world.ts';
import { BoundedBuffers } from './bounded-buffers.ts';
import { ConsistentOutputs } from './consistent-outputs.ts';
import { Fencing } from './fencing.ts';
import { GateNotStall } from './gate-not-stall.ts';
import { OneLive } from './one-live.ts';
import { OpenQuestions } from './open-questions.ts';
import { Progress } from './progress.ts';
import { Redundancy } from './redundancy.ts';
import { SameReads } from './same-reads.ts';

/** What clients, disk and arbiter see goes to the oracles, one file for each property; clients judge themselves. */
export class Oracles {
  readonly #outputs: ConsistentOutputs;
  readonly #oneLive: OneLive;
  readonly #fencing: Fencing;
  readonly #buffers: BoundedBuffers;
  readonly #gate: GateNotStall;
  readonly #redundancy: Redundancy;
  readonly #questions: OpenQuestions;
  readonly reads: SameReads;
  readonly progress: Progress;
  /** Pairs committed: generations of the VM. */
  generations = 0;

  constructor(world: World) {
    this.#outputs = new ConsistentOutputs(world);
    this.#oneLive = new OneLive(world);
    this.#fencing = new Fencing(world);
    this.#buffers = new BoundedBuffers(world);
    this.#gate = new GateNotStall(world);
    this.#redundancy = new Redundancy(world);
    this.#questions = new OpenQuestions(world);
    this.reads = new SameReads(world);
    this.progress = new Progress(world);
  }

  /** The vCPU made an output. */
  made(instance: Instance, number: number, live: boolean): void {
    if (live) this.#gate.made(instance, number);
  }

  /** A frame or console bytes left. */
  left(instance: Instance, content: Uint8Array): void {
    const [number = 0, before = 0, link = 0] = wordsOf(content);
    this.#outputs.seen(instance, number, before, link);
    this.#left(instance, number);
  }

  /** A disk request left for the server. */
  issued(instance: Instance, request: DiskRequestOutput): void {
    if (request.operation === 'read') return;
    const [number, before, link] = wordsOf(request.data);
    this.#outputs.seen(instance, number ?? request.request, before, link);
    this.#left(instance, request.request);
  }

  #left(instance: Instance, number: number): void {
    instance.lastLeft = Math.max(instance.lastLeft, number);
    this.#oneLive.left(instance, number);
    this.#gate.left(instance, number);
    this.#buffers.look(instance);
  }

  written(session: number, request: DiskRequestOutput): void {
    this.#fencing.written(session, request);
  }

  diskOpened(epoch: number): void {
    this.#fencing.opened(epoch);
  }

  /** By a request of `by`, which may have sent it long ago. */
  recordMoved(record: VmRecord, by: Instance): void {
    if (record.mode === 'pair') this.generations += 1;
    this.#redundancy.recordMoved(record);
    this.#questions.recordMoved(record, by);
  }

  wentLive(instance: Instance): void {
    this.#outputs.bornAgain(instance.vcpu.life);
    instance.lastLeft = this.#outputs.last;
    this.#oneLive.wentLive(instance);
  }

  received(link: SimLink, _messages: readonly Message[]): void {
    this.#buffers.look(link.instance);
  }
}
