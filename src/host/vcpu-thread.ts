import { MessageChannel, Worker } from 'node:worker_threads';
import { unreachable } from '../base/assert.ts';
import type { MachineSnapshot } from '../ft/event.ts';
import type { VcpuEvents, VcpuPort } from '../hypervisor/ports.ts';
import { type Input, outputBytes } from '../machine/door.ts';
import type { LogEntry } from '../replay/log-entry.ts';
import { startRegionCompiler } from './region-compiler.ts';
import {
  ownBuffer,
  UNTAKEN_BYTES_MAX,
  type VcpuNews,
  type VcpuOrder,
  type VcpuWorkerData,
} from './vcpu-message.ts';

/** The vCPU in its own thread [hypervisor/ports.ts VcpuPort]: the I/O thread's side. */
export class VcpuThread implements VcpuPort {
  readonly #worker: Worker;
  readonly #bell = new Int32Array(new SharedArrayBuffer(4));
  readonly #standstill = new Int32Array(new SharedArrayBuffer(4));
  readonly #untaken = new Int32Array(new SharedArrayBuffer(4));
  #stopWord: Int32Array | undefined;
  #events: VcpuEvents | undefined;
  #stopped = false;
  /** Inputs that came in this turn: they cross together. */
  #inputs: VcpuOrder[] = [];

  constructor(data: Omit<VcpuWorkerData, 'bell' | 'standstill' | 'untaken' | 'modules'>) {
    const { port1, port2 } = new MessageChannel();
    startRegionCompiler(port2, (reason) => this.#died(reason));
    const workerData: VcpuWorkerData = {
      ...data,
      bell: this.#bell,
      standstill: this.#standstill,
      untaken: this.#untaken,
      modules: port1,
    };
    this.#worker = new Worker(new URL('./vcpu-worker.js', import.meta.url), {
      workerData,
      transferList: [port1],
    });
    this.#worker.on('message', (news: readonly VcpuNews[]) => {
      for (const item of news) this.#tell(item);
    });
    this.#worker.on('error', (error) => this.#died(error.message));
    this.#worker.on('exit', (code) => this.#died(`its thread ended with code ${code}`));
  }

  /** The longest time since the last call for which the guest could run and did not. */
  takeStandstillMs(): number {
    return Atomics.exchange(this.#standstill, 0, 0) / 1000;
  }

  listen(events: VcpuEvents): void {
    this.#events = events;
  }

  run(): void {
    this.#order({ kind: 'run' });
  }

  pause(): void {
    this.#order({ kind: 'pause' });
  }

  input(input: Input): void {
    if (this.#inputs.length === 0) queueMicrotask(() => this.#post([]));
    this.#inputs.push({ kind: 'input', input });
  }

  replay(entries: readonly LogEntry[]): void {
    this.#order({ kind: 'replay', entries });
  }

  endReplay(): void {
    this.#order({ kind: 'end-replay' });
  }

  setShare(share: number): void {
    this.#order({ kind: 'share', share });
  }

  snapshot(): void {
    this.#order({ kind: 'snapshot' });
  }

  copy(number: number, standStill: boolean): void {
    this.#order({ kind: 'copy', number, standStill });
  }

  letGo(): void {
    this.#order({ kind: 'let-go' });
  }

  copied(parts: number): void {
    this.#order({ kind: 'copied', parts });
  }

  forgetStaged(): void {
    this.#order({ kind: 'forget-staged' });
  }

  stage(pages: Uint8Array): void {
    // They are a piece of what the connection read: copied once, here.
    this.#order({ kind: 'stage', pages: pages.slice() });
  }

  load(snapshot: MachineSnapshot): void {
    // The bytes move over: nobody on this side looks at them again.
    const { buffer } = snapshot.machine;
    this.#order({ kind: 'load', snapshot }, buffer instanceof ArrayBuffer ? [buffer] : []);
  }

  stop(): void {
    this.#stopped = true;
    this.#order({ kind: 'stop' });
    void this.#worker.terminate();
  }

  #order(order: VcpuOrder, transfer: readonly ArrayBuffer[] = []): void {
    this.#post([order], transfer);
  }

  /** These orders, behind the inputs that came before them. */
  #post(later: readonly VcpuOrder[], transfer: readonly ArrayBuffer[] = []): void {
    const inputs = this.#inputs;
    if (inputs.length === 0 && later.length === 0) return;
    this.#inputs = [];
    const orders = [...inputs, ...later];
    this.#worker.postMessage(orders, [...transfer, ...frameBuffers(inputs)]);
    if (this.#stopWord) Atomics.store(this.#stopWord, 0, 1);
    Atomics.add(this.#bell, 0, 1);
    Atomics.notify(this.#bell, 0);
  }

  #tell(news: VcpuNews): void {
    const events = this.#events;
    if (this.#stopped || !events) return;
    switch (news.kind) {
      case 'entry':
        events.entry(news.at, news.payload);
        break;
      case 'output': {
        // First: the frame's memory may move on.
        const bytes = outputBytes(news.output.output);
        events.output(news.output);
        this.#taken(bytes);
        break;
      }
      case 'flush':
        events.flush();
        break;
      case 'replayed':
        events.replayed(news.sequence, news.at);
        break;
      case 'replayed-to-end':
        events.replayedToEnd(news.at, news.pending);
        break;
      case 'pages':
        events.pages(news.copy, news.bytes);
        break;
      case 'snapshot':
        events.snapshot(news.snapshot, news.copy, news.stoodUs);
        break;
      case 'loaded':
        events.loaded(news.digest, news.pending);
        break;
      case 'diverged':
        events.diverged(news.reason);
        break;
      case 'stopped':
        events.stopped(news.reason, news.failed);
        break;
      case 'stop-word':
        this.#stopWord = news.word;
        break;
      default:
        unreachable(news);
    }
  }

  #taken(bytes: number): void {
    const before = Atomics.sub(this.#untaken, 0, bytes);
    if (before > UNTAKEN_BYTES_MAX && before - bytes <= UNTAKEN_BYTES_MAX) Atomics.notify(this.#untaken, 0);
  }

  #died(reason: string): void {
    if (this.#stopped) return;
    this.#stopped = true;
    this.#events?.stopped(reason, true);
  }
}

/** A frame moves over: nobody on this side looks at it again. */
function frameBuffers(orders: readonly VcpuOrder[]): ArrayBuffer[] {
  return orders.flatMap((order) =>
    order.kind === 'input' && order.input.kind === 'frame' ? ownBuffer(order.input.frame) : [],
  );
}
