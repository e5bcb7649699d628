import type { FtEvent, MachineSnapshot } from '../ft/event.ts';
import type { NumberedOutput } from '../replay/numbered-output.ts';
import type { CopyFigures, Ports } from './ports.ts';

/** Who is told what the ports tell. */
export interface PortListener {
  /** What is an event of the protocol core, and nothing else. */
  event(event: FtEvent): void;
  timer(name: string): void;
  output(output: NumberedOutput): void;
  /** Without `copy`: it was asked for by itself. */
  snapshot(snapshot: MachineSnapshot, copy: CopyFigures | undefined, stoodUs?: number): void;
}

/** What the ports tell, in the protocol core's words. */
export function listen(ports: Ports, hears: PortListener): void {
  const { vcpu, disks, network, console, arbiter, channel, heartbeats, hosts, clock } = ports;
  disks.listen({
    opened: (epoch, verdict) => hears.event({ kind: 'disks-opened', epoch, verdict }),
    completed: (completion) => hears.event({ kind: 'disk-completed', completion }),
    fenced: () => hears.event({ kind: 'fenced' }),
    read: (disk, request, data) => hears.event({ kind: 'disk-read', disk, request, data }),
    blockRead: (copy, extent, data, failed) =>
      hears.event({ kind: 'block-read', copy, extent, data, failed }),
    blockStored: () => hears.event({ kind: 'block-stored' }),
    secured: (number) => hears.event({ kind: 'copy-secured', number }),
    copyFailed: (reason) => hears.event({ kind: 'copy-failed', reason }),
  });
  network.listen({
    frame: (nic, { frame, offload }) =>
      hears.event({ kind: 'input', input: { kind: 'frame', nic, frame, offload } }),
  });
  console.listen({
    input: (port, bytes) => hears.event({ kind: 'input', input: { kind: 'console', port, bytes } }),
  });
  arbiter.listen({ answered: (answer) => hears.event({ kind: 'answered', answer }) });
  channel.listen({
    connected: (link, address) => hears.event({ kind: 'connected', link, address }),
    received: (link, messages) => hears.event({ kind: 'received', link, messages }),
    broken: (link, reason) => hears.event({ kind: 'broken', link, reason }),
  });
  heartbeats.listen({ heartbeat: (heartbeat) => hears.event({ kind: 'heartbeat', heartbeat }) });
  hosts.listen({ candidate: (address, host) => hears.event({ kind: 'candidate', address, host }) });
  clock.listen({ timer: (name) => hears.timer(name) });
  vcpu.listen({
    entry: (at, payload) => hears.event({ kind: 'entry', at, payload }),
    output: (output) => hears.output(output),
    flush: () => hears.event({ kind: 'flush' }),
    pages: (copy, bytes) => hears.event({ kind: 'pages', copy, bytes }),
    snapshot: (snapshot, copy, stoodUs) => hears.snapshot(snapshot, copy, stoodUs),
    loaded: (digest, pending) => {
      ports.status.report({ kind: 'loaded', digest });
      hears.event({ kind: 'loaded', digest, pending });
    },
    replayed: (sequence) => hears.event({ kind: 'replayed', sequence }),
    replayedToEnd: (_at, pending) => hears.event({ kind: 'replayed-to-end', pending }),
    diverged: (reason) => hears.event({ kind: 'diverged', reason }),
    stopped: (reason, failed) => hears.event({ kind: 'vcpu-stopped', reason, failed }),
  });
}
