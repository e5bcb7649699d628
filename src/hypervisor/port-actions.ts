import { unreachable } from '../base/assert.ts';
import type { FtAction } from '../ft/action.ts';
import type { InstanceId } from '../ft/identity.ts';
import type { NumberedOutput } from '../replay/numbered-output.ts';
import type { Ports } from './ports.ts';

/** Actions that are calls of a port, and nothing else. */
export type PortAction = Exclude<FtAction, { kind: 'go-live' | 'state' | 'halt' }>;

/** `instance`: that of this process. `macs`: per network interface, for the announcement. */
export function perform(
  action: PortAction,
  ports: Ports,
  instance: InstanceId,
  macs: readonly Uint8Array[],
): void {
  const { vcpu, disks, network, arbiter, channel, heartbeats, hosts } = ports;
  switch (action.kind) {
    case 'ask':
      arbiter.request(action.request);
      break;
    case 'open-disks':
      disks.open(action.epoch, instance);
      break;
    case 'open-network':
      network.open(action.epoch);
      break;
    case 'announce':
      macs.forEach((mac, nic) => {
        network.announce(nic, mac);
      });
      break;
    case 'hand-over':
      handOver(action.output, ports);
      break;
    case 'issue-again':
    case 'issue':
      disks.issue(action.request);
      break;
    case 'read-block':
      disks.copies?.read(action.copy, action.extent);
      break;
    case 'begin-copy':
      disks.copies?.begin(action.whole);
      break;
    case 'store-block':
      disks.copies?.store(action.extent, action.data);
      break;
    case 'secure-copy':
      disks.copies?.secure(action.number, action.follows);
      break;
    case 'replay-disk':
      disks.replay(action.request);
      break;
    case 'find-host':
      hosts.find(action.except);
      break;
    case 'connect':
      channel.connect(action.address, action.generation);
      break;
    case 'send':
      channel.send(action.link, action.message);
      break;
    case 'send-snapshot':
      channel.sendSnapshot(action.link, action.snapshot);
      break;
    case 'flush':
      channel.flush(action.link);
      break;
    case 'close':
      channel.close(action.link);
      break;
    case 'pause-reading':
      channel.pauseReading(action.link);
      break;
    case 'resume-reading':
      channel.resumeReading(action.link);
      break;
    case 'heartbeat':
      heartbeats.send(action.heartbeat, action.to);
      break;
    case 'vcpu-run':
      vcpu.run();
      break;
    case 'vcpu-pause':
      vcpu.pause();
      break;
    case 'vcpu-input':
      vcpu.input(action.input);
      break;
    case 'vcpu-share':
      vcpu.setShare(action.share);
      break;
    case 'vcpu-copy':
      vcpu.copy(action.number, action.standStill);
      break;
    case 'vcpu-let-go':
      vcpu.letGo();
      break;
    case 'vcpu-copied':
      vcpu.copied(action.parts);
      break;
    case 'vcpu-forget-staged':
      vcpu.forgetStaged();
      break;
    case 'vcpu-stage':
      vcpu.stage(action.pages);
      break;
    case 'vcpu-load':
      vcpu.load(action.snapshot);
      break;
    case 'vcpu-replay':
      vcpu.replay(action.entries);
      break;
    case 'vcpu-end-replay':
      vcpu.endReplay();
      break;
    default:
      unreachable(action);
  }
}

function handOver({ output, number }: NumberedOutput, { network, console, disks, status }: Ports): void {
  switch (output.kind) {
    case 'frame':
      network.send(output.nic, output, number);
      break;
    case 'console':
      console.write(output.port, output.bytes, number);
      break;
    case 'disk-request':
      disks.issue(output);
      break;
    case 'power':
      status.report({ kind: 'power', state: output.state, value: output.value });
      break;
    default:
      unreachable(output);
  }
}
