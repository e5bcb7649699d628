import { hash128 } from '../src/base/hash.ts';
import { decodeText, encodeText } from '../src/base/text.ts';
import {
  type GuestNanoseconds,
  guestNanoseconds,
  type InstructionCount,
  instructionCount,
} from '../src/base/units.ts';
import type {
  DiskRequestOutput,
  Input,
  Machine,
  Output,
  OutputSink,
  StopReason,
} from '../src/machine/door.ts';

/**
 * A deterministic machine of a few hundred lines less than a real one, for tests of what is around it. Its
 * "guest" increments counters on request: a frame [id, key] starts a disk write; when that completes, a frame
 * [id, key, value] answers. Everything it does is stirred into one number, so two histories that differ anywhere
 * end in different digests. It halts when idle, has a timer that wakes it, and one that does not.
 */

interface Pending {
  readonly id: number;
  readonly key: number;
  readonly value: number;
  readonly request: DiskRequestOutput;
}

interface State {
  count: bigint;
  stir: number;
  halted: boolean;
  poweredOff: boolean;
  idle: number;
  clockAt: bigint;
  clockTime: bigint;
  clockRate: bigint;
  clockCap: bigint;
  wakeTimer: bigint;
  silentTimer: bigint;
  interrupts: string[];
  nextRequest: number;
  pending: Pending[];
  counters: number[];
}

const WAKE_EVERY = 10_000_000n;
const SILENT_EVERY = 3_000_000n;

export class ToyMachine implements Machine {
  #state: State;
  readonly #sink: OutputSink;
  /** Set by a test: the next budget check stops. */
  stopRequested = false;

  constructor(sink: OutputSink, snapshot?: Uint8Array) {
    this.#sink = sink;
    this.#state = snapshot ? thaw(snapshot) : initialState();
  }

  get count(): InstructionCount {
    return instructionCount(this.#state.count);
  }

  get guestTime(): GuestNanoseconds {
    const { count, clockAt, clockTime, clockRate, clockCap } = this.#state;
    const time = clockTime + (((count - clockAt) * clockRate) >> 32n);
    return guestNanoseconds(time > clockCap ? clockCap : time);
  }

  get nextDeadline(): GuestNanoseconds {
    const { wakeTimer, silentTimer } = this.#state;
    const wakesFirst = wakeTimer < silentTimer;
    return guestNanoseconds(wakesFirst ? wakeTimer : silentTimer);
  }

  get counters(): readonly number[] {
    return this.#state.counters;
  }

  runUntil(until: InstructionCount): StopReason {
    const state = this.#state;
    for (;;) {
      if (state.poweredOff) return 'powered-off';
      if (state.count >= until) return 'count';
      if (this.stopRequested) {
        this.stopRequested = false;
        return 'stop-requested';
      }
      this.#fireTimers();
      const interrupt = state.interrupts.shift();
      if (interrupt !== undefined) {
        state.halted = false;
        state.idle = 0;
        this.#stirText(interrupt);
        this.#serve(interrupt);
        state.count += 1n;
      } else if (state.halted) {
        return 'halted';
      } else {
        this.#instruction();
        state.count += 1n;
      }
    }
  }

  apply(input: Input): void {
    const state = this.#state;
    switch (input.kind) {
      case 'clock':
        state.clockTime = input.guestTime;
        state.clockAt = state.count;
        state.clockRate = input.rate;
        state.clockCap = input.cap;
        return;
      case 'frame':
        state.interrupts.push(`frame ${[...input.frame].join(' ')}`);
        return;
      case 'disk-completed':
        this.#complete(input.request);
        return;
      case 'console':
        // Echoed at once: an output that an input makes, not an instruction.
        this.#out({ kind: 'console', port: input.port, bytes: input.bytes });
        return;
      case 'entropy':
        this.#stirText([...input.seed].join());
        return;
      case 'control':
        if (input.action === 'power-off') state.interrupts.push('power');
        return;
    }
  }

  pendingDiskRequests(): readonly DiskRequestOutput[] {
    return this.#state.pending.map((pending) => pending.request);
  }

  digest(): string {
    return hash128(this.snapshot());
  }

  snapshot(): Uint8Array {
    return encodeText(
      JSON.stringify(this.#state, (_, value) => {
        if (typeof value === 'bigint') return `#${value}`;
        return value instanceof Uint8Array ? [...value] : value;
      }),
    );
  }

  #out(output: Output): void {
    this.#sink.output(output);
  }

  #stir(value: number): void {
    this.#state.stir = (Math.imul(this.#state.stir ^ value, 0x01000193) + 0x9e3779b9) | 0;
  }

  #stirText(text: string): void {
    for (const letter of text) this.#stir(letter.charCodeAt(0));
  }

  #instruction(): void {
    const state = this.#state;
    this.#stir(state.idle++);
    // Now and then it looks at the clock, as RDTSC would.
    if (state.idle % 7 === 0) this.#stir(Number(this.guestTime & 0xffffffffn));
    if (state.idle > 40 + (state.stir & 31)) state.halted = true;
  }

  #fireTimers(): void {
    const state = this.#state;
    const now = this.guestTime;
    if (now >= state.silentTimer) {
      state.silentTimer = now + SILENT_EVERY;
      this.#stir(Number(now & 0xffffffn));
      if ((state.stir & 7) === 0)
        this.#out({ kind: 'console', port: 1, bytes: Uint8Array.of(state.stir & 0xff) });
    }
    if (now >= state.wakeTimer) {
      state.wakeTimer += WAKE_EVERY;
      state.interrupts.push('timer');
    }
  }

  /** From here on the request is not pending: its completion is in the log. */
  #complete(request: number): void {
    const { pending, interrupts } = this.#state;
    const at = pending.findIndex((candidate) => candidate.request.request === request);
    const done = pending[at];
    if (!done) throw new Error(`the toy guest was given a completion of request ${request} twice`);
    pending.splice(at, 1);
    interrupts.push(`disk ${done.id} ${done.key} ${done.value & 0xff}`);
  }

  #serve(interrupt: string): void {
    const state = this.#state;
    const [what, ...rest] = interrupt.split(' ');
    const numbers = rest.map(Number);
    if (what === 'power') {
      state.poweredOff = true;
      this.#out({ kind: 'power', state: 'off', value: 0 });
    } else if (what === 'frame') {
      const [id = 0, key = 0] = numbers;
      const value = (state.counters[key & 3]! += 1);
      const request: DiskRequestOutput = {
        kind: 'disk-request',
        disk: 0,
        request: state.nextRequest++,
        operation: 'write',
        offset: (key & 3) * 512,
        length: 512,
        data: new Uint8Array(512).fill(value & 0xff),
      };
      state.pending.push({ id, key, value, request });
      this.#out(request);
    } else if (what === 'disk') {
      this.#out({ kind: 'frame', nic: 0, frame: Uint8Array.from(numbers) });
    }
  }
}

export const toyFactory = {
  create: (sink: OutputSink): ToyMachine => new ToyMachine(sink),
  restore: (snapshot: Uint8Array, sink: OutputSink): ToyMachine => new ToyMachine(sink, snapshot),
};

function initialState(): State {
  return {
    count: 0n,
    stir: 1,
    halted: false,
    poweredOff: false,
    idle: 0,
    clockAt: 0n,
    clockTime: 0n,
    clockRate: 0n,
    clockCap: 0n,
    wakeTimer: WAKE_EVERY,
    silentTimer: SILENT_EVERY,
    interrupts: [],
    nextRequest: 1,
    pending: [],
    counters: [0, 0, 0, 0],
  };
}

function thaw(snapshot: Uint8Array): State {
  const state = JSON.parse(decodeText(snapshot), (_, value) =>
    typeof value === 'string' && /^#\d+$/.test(value) ? BigInt(value.slice(1)) : value,
  ) as State;
  for (const pending of state.pending) {
    const request = pending.request as { data: Uint8Array };
    request.data = Uint8Array.from(request.data);
  }
  return state;
}
