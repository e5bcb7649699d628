import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import { assert } from '../base/assert.ts';
import { failed } from '../base/result.ts';
import { hostMilliseconds } from '../base/units.ts';
import { VcpuLoop } from '../hypervisor/vcpu.ts';
import { CopyTarget } from '../machine/copy-target.ts';
import { outputBytes } from '../machine/door.ts';
import { OrderedMachine } from '../machine/ordered-machine.ts';
import type { NumberedOutput } from '../replay/numbered-output.ts';
import { modulesFrom } from './region-compiler.ts';
import { compileInterpreterEagerly, compileWhereMade } from './v8-flags.ts';
import {
  ownBuffer,
  UNTAKEN_BYTES_MAX,
  type VcpuNews,
  type VcpuOrder,
  type VcpuWorkerData,
} from './vcpu-message.ts';

/**
 * The vCPU's thread: orders in, slices, news out. It never returns to the event loop; it sleeps on the bell, and
 * outputs are posted at the instruction that makes them.
 */
const port = parentPort;
assert(port !== null, 'this file runs as a worker');
const { config, boot, digestEveryMs, tellsDiskRequests, bell, standstill, untaken, ...data } =
  workerData as VcpuWorkerData;
const options = { ...data.options, jit: { modules: modulesFrom(data.modules) } };

compileInterpreterEagerly();
compileWhereMade();

const loop = new VcpuLoop(
  {
    create: (sink) =>
      boot ? OrderedMachine.create(config, boot, sink, options) : failed('there is nothing to boot'),
    restore: (snapshot, sink, staged) => OrderedMachine.restore(snapshot, sink, options, staged),
    stage: () => new CopyTarget(config, options),
  },
  { digestEveryMs, tellsDiskRequests },
);

/** When the present step began: a copy that ends in it has its guest stand still since then. */
let steppedAt = 0;

/** Entries that nobody waits for yet. */
let batch: VcpuNews[] = [];

function post(news: VcpuNews, transfer: ArrayBuffer[] = []): void {
  batch.push(news);
  port!.postMessage(batch, [...transfer, ...batch.flatMap(movedBy)]);
  batch = [];
}

/** A guest that makes outputs faster than they are taken stands still here: what lies between would grow without bound. */
function tellOutput(output: NumberedOutput): void {
  const bytes = outputBytes(output.output);
  post({ kind: 'output', output });
  let behind = Atomics.add(untaken, 0, bytes) + bytes;
  for (; behind > UNTAKEN_BYTES_MAX; behind = Atomics.load(untaken, 0)) Atomics.wait(untaken, 0, behind);
}

/** Frames move over: the machine has taken what it needs of those that came, and made the others for whoever is outside. */
function movedBy(news: VcpuNews): [ArrayBuffer] | [] {
  if (news.kind === 'output' && news.output.output.kind === 'frame')
    return ownBuffer(news.output.output.frame);
  if (news.kind !== 'entry' || news.payload.kind !== 'input') return [];
  const { input } = news.payload;
  return input.kind === 'frame' ? ownBuffer(input.frame) : [];
}

loop.listen({
  entry: (at, payload) => {
    batch.push({ kind: 'entry', at, payload });
  },
  output: tellOutput,
  flush: () => post({ kind: 'flush' }),
  replayed: (sequence, at) => post({ kind: 'replayed', sequence, at }),
  replayedToEnd: (at, pending) => post({ kind: 'replayed-to-end', at, pending }),
  pages: (copy, bytes) => {
    const { buffer } = bytes;
    post({ kind: 'pages', copy, bytes }, buffer instanceof ArrayBuffer ? [buffer] : []);
  },
  snapshot: (snapshot, copy) => {
    const { buffer } = snapshot.machine;
    const stoodUs = Math.round((performance.now() - steppedAt) * 1000);
    post({ kind: 'snapshot', snapshot, copy, stoodUs }, buffer instanceof ArrayBuffer ? [buffer] : []);
  },
  loaded: (digest, pending) => {
    tellStopWord();
    post({ kind: 'loaded', digest, pending });
  },
  diverged: (reason) => post({ kind: 'diverged', reason }),
  stopped: (reason, hasFailed) => post({ kind: 'stopped', reason, failed: hasFailed }),
});

let toldWord: Int32Array | undefined;

/** A restarted guest's machine has another word. */
function tellStopWord(): void {
  const word = loop.stopWord;
  if (word === undefined || word === toldWord) return;
  toldWord = word;
  post({ kind: 'stop-word', word });
}

function obey(order: VcpuOrder): void {
  switch (order.kind) {
    case 'run':
      loop.run();
      break;
    case 'pause':
      loop.pause();
      break;
    case 'input':
      loop.input(order.input);
      break;
    case 'replay':
      loop.replay(order.entries);
      break;
    case 'end-replay':
      loop.endReplay();
      break;
    case 'share':
      loop.setShare(order.share);
      break;
    case 'snapshot':
      loop.snapshot();
      break;
    case 'copy':
      loop.copy(order.number, order.standStill);
      break;
    case 'let-go':
      loop.letGo();
      break;
    case 'copied':
      loop.copied(order.parts);
      break;
    case 'forget-staged':
      loop.forgetStaged();
      break;
    case 'stage':
      loop.stage(order.pages);
      break;
    case 'load':
      loop.load(order.snapshot);
      break;
    case 'stop':
      loop.stop();
      break;
  }
}

if (boot) {
  loop.create();
  tellStopWord();
} else {
  loop.prepare();
}

/** When a step ended after which the guest could have gone on; undefined while it waits by itself. */
let couldRunSince: number | undefined;

function noteStandstill(now: number): void {
  if (couldRunSince === undefined) return;
  const microseconds = Math.round((now - couldRunSince) * 1000);
  if (microseconds > Atomics.load(standstill, 0)) Atomics.store(standstill, 0, microseconds);
}

for (;;) {
  // The order matters: what is ordered after these two lines rings the bell and sets the word again.
  const rung = Atomics.load(bell, 0);
  if (loop.stopWord) Atomics.store(loop.stopWord, 0, 0);
  for (let message = receiveMessageOnPort(port); message; message = receiveMessageOnPort(port)) {
    for (const order of message.message as VcpuOrder[]) obey(order);
  }
  const now = performance.now();
  steppedAt = now;
  noteStandstill(now);
  const step = loop.step(hostMilliseconds(now));
  tellStopWord();
  couldRunSince =
    step.kind === 'busy' ? performance.now() : step.heldBack ? (couldRunSince ?? now) : undefined;
  if (step.kind === 'busy') continue;
  const wait = step.until === undefined ? Number.POSITIVE_INFINITY : step.until - performance.now();
  if (wait > 0) Atomics.wait(bell, 0, rung, wait);
}
