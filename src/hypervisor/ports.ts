import type { Packet } from '../base/packet/offload.ts';
import type { HostMilliseconds, InstructionCount } from '../base/units.ts';
import type { ArbiterAnswer, ArbiterRequest } from '../ft/arbiter.ts';
import type { Following } from '../ft/copy-name.ts';
import type { MachineSnapshot } from '../ft/event.ts';
import type { Extent } from '../ft/extent.ts';
import type { Epoch, InstanceId } from '../ft/identity.ts';
import type { Link } from '../ft/link.ts';
import type { Heartbeat, Message } from '../ft/message.ts';
import type { DiskCompletedInput, DiskRequestOutput, Input, PowerOutput } from '../machine/door.ts';
import type { LogEntry, LogPayload } from '../replay/log-entry.ts';
import type { NumberedOutput } from '../replay/numbered-output.ts';

/**
 * What one VM in one role needs of the world. The driver calls methods; the world answers through the listener,
 * always in a later turn, never from inside the call. No promises, so a simulator can decide the order of every
 * event. A port that loses its other side keeps trying; it has no "failed" state, silence is the failure.
 */

// ------------------------------------------------------------------------------------------------ disks

/** All disks of one VM. `disk` in requests and completions is the index in the VM's configuration. */
export interface DiskPort {
  listen(events: DiskEvents): void;
  /**
   * Opens every disk for this epoch and instance, which fences all older sessions (protocol 6). Answered by
   * `opened` when every disk has drained and answered. Repeated by the driver when no answer comes.
   */
  open(epoch: Epoch, instance: InstanceId): void;
  /**
   * Starts one operation on the opened session. Overlapping operations take effect in the order of issue; a flush
   * covers the writes that completed before it was issued. `data` may be kept until the completion: it is never
   * changed.
   */
  issue(request: DiskRequestOutput): void;
  /**
   * Of a backup, before it opens anything: its guest asks for this again. A read, of this side's own view of the disk, is
   * answered by `read`.
   */
  replay(request: DiskRequestOutput): void;
  /** Where each side has disks of its own. Then `replay` carries out changes too, on this side's copy. */
  readonly copies?: DiskCopies;
  /** Ends the session. No event follows. */
  close(): void;
}

/**
 * One side's own copies of the disks [FT 4.1]. All that is asked of them, here or as a disk operation, takes effect in the
 * order in which it was asked where it overlaps, and flushes cover all changes that were asked before.
 */
export interface DiskCopies {
  /** Reads a block for the copy with this number; answered by `blockRead`. */
  read(copy: number, extent: Extent): void;
  /** A copy begins to come here. `whole`: until it is secured as whole, what is here is nobody's. */
  begin(whole: boolean): void;
  /**
   * Stores a block of it, without data zeroes, but for what `replay` has changed since it began: that is newer, or comes
   * again. Answered by `blockStored`.
   */
  store(extent: Extent, data: Uint8Array | undefined): void;
  /** Answered by `secured` when all that was asked before is on stable storage; `follows`: and is a whole copy of this pair. */
  secure(number: number, follows: Following | undefined): void;
  /** A backup that has opened its disks has replayed everything: from now on its copy is the VM's, and whole. */
  live(): void;
}

export interface DiskEvents {
  blockRead?(copy: number, extent: Extent, data: Uint8Array | undefined, failed: boolean): void;
  blockStored?(): void;
  secured?(number: number): void;
  /** What this side's copy should hold it does not. */
  copyFailed?(reason: string): void;
  /** What `replay` has read; without data it failed, and may be asked for again. Absent: this side is no backup. */
  read?(disk: number, request: number, data: Uint8Array | undefined): void;
  /** `refused`: a newer generation has the disks, or another instance has this one. The instance halts. */
  opened(epoch: Epoch, verdict: 'ok' | 'refused'): void;
  /** Exactly once for each issued operation, unless `fenced`. A lost connection is retried, not reported. */
  completed(completion: DiskCompletedInput): void;
  /** An operation or the session was refused because a newer generation was opened. The instance halts. */
  fenced(): void;
}

// ------------------------------------------------------------------------------------------------ network

/** All network interfaces of one VM. A port starts closed: it sends and delivers nothing. */
export interface NetworkPort {
  listen(events: NetworkEvents): void;
  /** From now on frames are sent, marked with this epoch where the network can tell epochs apart, and delivered. */
  open(epoch: Epoch): void;
  /**
   * Hands over one packet, and what the guest has left to do before a wire can carry it. `output` counts outputs over the whole life of the VM, so a network that remembers the
   * highest one it let through can drop repeats after a takeover. Never blocks; a full network drops the frame.
   */
  send(nic: number, packet: Packet, output: bigint): void;
  /**
   * A frame that the guest of a backup sent, as its primary's has sent it. It never goes out from here; a network may
   * learn from it which addresses are the guest's.
   */
  replayed(nic: number, packet: Packet): void;
  /** Tells the network where this MAC address now is (RARP and gratuitous ARP on a bridge). Six bytes. */
  announce(nic: number, mac: Uint8Array): void;
  close(): void;
}

export interface NetworkEvents {
  frame(nic: number, packet: Packet): void;
}

// ------------------------------------------------------------------------------------------------ console

export interface ConsolePort {
  listen(events: ConsoleEvents): void;
  write(port: number, bytes: Uint8Array, output: bigint): void;
}

export interface ConsoleEvents {
  input(port: number, bytes: Uint8Array): void;
}

// ------------------------------------------------------------------------------------------------ arbiter

/** The test-and-set (protocol 3). With Lockstep's disk server the server is the arbiter too. */
export interface ArbiterPort {
  listen(events: ArbiterEvents): void;
  /** Sends the request. A request or its answer may be lost, late or repeated: the caller repeats it. */
  request(request: ArbiterRequest): void;
}

export interface ArbiterEvents {
  answered(answer: ArbiterAnswer): void;
}

// ------------------------------------------------------------------------------------------------ channel

/**
 * The logging channel: connections that carry messages in order, or break. A primary connects; a backup listens,
 * and its connections show themselves by what they say. What cannot be decoded breaks the connection before any
 * of it, or anything behind it, is given out.
 */
export interface ChannelPort {
  listen(events: ChannelEvents): void;
  /** One attempt, for a pair of this generation. Answered by `connected`, or by `broken` without a link. */
  connect(address: string, generation: Epoch): void;
  /** Kept back for a few milliseconds at most, so that entries travel together. */
  send(link: Link, message: Message): void;
  /** The parts of a snapshot, between its begin and its end. */
  sendSnapshot(link: Link, snapshot: Uint8Array): void;
  /** Sends at once what was kept back. */
  flush(link: Link): void;
  pauseReading(link: Link): void;
  resumeReading(link: Link): void;
  /** Sends what was kept back and ends the connection. No event of this link follows. */
  close(link: Link): void;
}

export interface ChannelEvents {
  connected(link: Link, address: string): void;
  /** What arrived together, in order. */
  received(link: Link, messages: readonly Message[]): void;
  broken(link: Link | undefined, reason: string): void;
}

/** Datagrams between the two sides of a pair; they may be lost. */
export interface HeartbeatPort {
  listen(events: HeartbeatEvents): void;
  /** To this address; without one, to where the last heartbeat of this VM came from. */
  send(heartbeat: Heartbeat, to: string | undefined): void;
}

export interface HeartbeatEvents {
  heartbeat(heartbeat: Heartbeat): void;
}

// ------------------------------------------------------------------------------------------------ hosts

/** Who may carry a backup: the cluster's placement, or an operator's list. */
export interface HostsPort {
  listen(events: HostsEvents): void;
  /**
   * Asks for a host that takes a backup, with an instance started there. Answered by `candidate`, at any time later
   * or never: the caller asks again. `except` are addresses that are of no use any more.
   */
  find(except: readonly string[]): void;
}

export interface HostsEvents {
  candidate(address: string, host: string): void;
}

// ------------------------------------------------------------------------------------------------ clock

/** Host monotonic time, and one-shot timers by name. Setting a timer again moves it. */
export interface ClockPort {
  listen(events: ClockEvents): void;
  now(): HostMilliseconds;
  setTimer(name: string, at: HostMilliseconds): void;
  clearTimer(name: string): void;
}

export interface ClockEvents {
  timer(name: string): void;
}

// ------------------------------------------------------------------------------------------------ randomness

/** Real entropy, for nonces and for the guest's generator. */
export interface EntropyPort {
  bytes(length: number): Uint8Array;
}

// ------------------------------------------------------------------------------------------------ vCPU

/**
 * The thread that runs the machine. It starts paused. In live mode it makes entries and outputs; in replay mode
 * it consumes entries, and never executes past the `at` of the last one it was given.
 */
export interface VcpuPort {
  listen(events: VcpuEvents): void;
  /** Live mode from the present state: starts (or goes on after `pause`). */
  run(): void;
  /**
   * Stops at the end of the slice, for backpressure or by order. A vCPU that has replayed to the end is live from
   * then on too, and stands still.
   */
  pause(): void;
  /** Live mode: applied at the next boundary, in order. */
  input(input: Input): void;
  /** Replay mode: entries in order, without a gap. */
  replay(entries: readonly LogEntry[]): void;
  /**
   * Replay mode: no entry follows. Answered by `replayedToEnd` once the last one is replayed; afterwards `run`
   * goes on live.
   */
  endReplay(): void;
  /** The share of host time that the vCPU may use, 0 < share <= 1 (throttle in small steps, [FT 3.2]). */
  setShare(share: number): void;
  /** Asks for a snapshot at the next boundary; everything emitted before `snapshot` is contained in it. */
  snapshot(): void;
  /**
   * Live mode: copies the running guest, page by page while it runs, and ends with a snapshot of what changed last. It
   * stays little ahead of what `copied` says the other end has. An older copy is given up. `standStill`: the guest
   * executes nothing after that snapshot, whatever `run` says, until `letGo`.
   */
  copy(number: number, standStill: boolean): void;
  /** The present copy, if any, is given up, and a guest that stands still for it goes on. */
  letGo(): void;
  /** So many of the present copy's `pages` have arrived. */
  copied(parts: number): void;
  /** A new copy begins to arrive, and part after part of it: what `load` completes. */
  forgetStaged(): void;
  stage(pages: Uint8Array): void;
  /** Loads a snapshot, with what was staged before it, into a paused vCPU. Answered by `loaded`. */
  load(snapshot: MachineSnapshot): void;
  stop(): void;
}

/** A copy of a running guest [FT 3.1]. */
export interface CopyFigures {
  readonly number: number;
  /** Times that the guest's pages were gone through while it ran. */
  readonly rounds: number;
  /** Pages whose content was sent, the last ones included; and those last ones. */
  readonly pages: number;
  readonly lastPages: number;
}

export interface VcpuEvents {
  /** Live mode: one entry of the log, in order with the outputs (inputs and digests; not the marks of outputs). */
  entry(at: InstructionCount, payload: LogPayload): void;
  /**
   * Live: an output that waits. Replay: the same output, made again; never a reason to send anything. Those that are known
   * to have left may be kept back then, but for disk requests where this side answers them.
   */
  output(output: NumberedOutput): void;
  /** Live mode: what was emitted up to here may be sent together. */
  flush(): void;
  /** Replay mode: entries up to this sequence are replayed. */
  replayed(sequence: bigint, at: InstructionCount): void;
  replayedToEnd(at: InstructionCount, pendingDiskRequests: readonly DiskRequestOutput[]): void;
  /** Live mode: a part of the copy with this number. */
  pages(copy: number, bytes: Uint8Array): void;
  /**
   * The end of a copy, or, without figures, what `snapshot` asked for. `stoodUs`: what the guest has stood still for it,
   * in microseconds, where a clock tells.
   */
  snapshot(snapshot: MachineSnapshot, copy?: CopyFigures, stoodUs?: number): void;
  /** `pending`: disk operations that the loaded guest has under way, in order. */
  loaded(digest: string, pending: readonly DiskRequestOutput[]): void;
  /** Replay mode: this side did something else than the log says. One line with the count. */
  diverged(reason: string): void;
  /** The machine stopped for good: power-off, or the thread died, trapped or failed to load. */
  stopped(reason: string, failed: boolean): void;
}

// ------------------------------------------------------------------------------------------------ status

/** vSphere's state words for a VM's protection (design 10). */
export type Protection =
  | 'Protected'
  | 'Not Protected: Starting'
  | 'Not Protected: Need Secondary'
  | 'Not Protected: Disabled'
  | 'Not Protected: VM not Running';

export type StatusReport =
  | {
      readonly kind: 'state';
      readonly role: 'primary' | 'backup';
      /** A state of protocol 4 or 5, or what happened to the channel or the partner. */
      readonly state: string;
      readonly detail: string;
      readonly protection: Protection;
    }
  /** The guest has been copied, up to this count, for a backup. */
  | ({ readonly kind: 'copied'; readonly count: InstructionCount; readonly digest: string } & CopyFigures)
  /** A copy has been loaded, and the state has this digest. */
  | { readonly kind: 'loaded'; readonly digest: string }
  /** This side goes on with a guest that was moved here; from its last instruction there to here so long passed. */
  | { readonly kind: 'moved'; readonly stoodMs: number }
  | { readonly kind: 'power'; readonly state: PowerOutput['state']; readonly value: number }
  | { readonly kind: 'halted'; readonly reason: string };

export interface StatusPort {
  report(status: StatusReport): void;
}

/** All of one instance. */
export interface Ports {
  readonly vcpu: VcpuPort;
  readonly disks: DiskPort;
  readonly network: NetworkPort;
  readonly console: ConsolePort;
  readonly arbiter: ArbiterPort;
  readonly channel: ChannelPort;
  readonly heartbeats: HeartbeatPort;
  readonly hosts: HostsPort;
  readonly clock: ClockPort;
  readonly entropy: EntropyPort;
  readonly status: StatusPort;
}
