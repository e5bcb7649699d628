import { randomBytes, randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { isIPv6 } from 'node:net';
import { hostname } from 'node:os';
import { createInterface } from 'node:readline';
import { Backup } from '../ft/backup.ts';
import { epoch, instanceId, vmId } from '../ft/identity.ts';
import { Primary } from '../ft/primary.ts';
import { Driver, type Role, SAVED } from '../hypervisor/driver.ts';
import type { StatusReport } from '../hypervisor/ports.ts';
import { hexBytes } from '../machine/config.ts';
import { SNAPSHOT_FORMAT_VERSION } from '../machine/snapshot-format.ts';
import { MacConflicts } from '../network/mac-conflicts.ts';
import { PcapWriter } from '../network/pcap-writer.ts';
import { LOG_FORMAT_VERSION } from '../replay/frame.ts';
import { DiskLease } from '../storage/disk-lease.ts';
import { formatHostPort, type HostPort, parseHostPort } from '../transport/address.ts';
import { TcpChannel } from '../transport/tcp-channel.ts';
import { UdpHeartbeats } from '../transport/udp-heartbeats.ts';
import { buildIdentity } from './build-identity.ts';
import { readChannelSecurity } from './channel-config.ts';
import { listenForControl } from './control-socket.ts';
import { FirstFrame } from './first-frame.ts';
import { readBootImage } from './guest-files.ts';
import { HostClock } from './host-clock.ts';
import { ObservedNetwork } from './observed-network.ts';
import { ownDisks } from './own-disks.ts';
import { ReportedHosts } from './reported-hosts.ts';
import { restoreInto } from './restored-vcpu.ts';
import { readSnapshotFile, writeSnapshotFile } from './snapshot-file.ts';
import { StatusConsole } from './status-console.ts';
import { type Report, StatusLines } from './status-lines.ts';
import { arbiterDisk, unfenced } from './storage-config.ts';
import { VcpuThread } from './vcpu-thread.ts';
import { arbiterOf, presentEpoch } from './vm-arbiter.ts';
import { disksOf } from './vm-disks.ts';
import { networkOf } from './vm-network.ts';
import { obey } from './vm-orders.ts';
import { parseVmProcessConfig, type VmProcessConfig } from './vm-process-config.ts';
import { takeSnapshot } from './vm-snapshot.ts';

/**
 * One VM in one role: the process that a host starts. Its configuration is the first argument (a JSON text, or the
 * path of one). It reports on standard output and takes orders on standard input (./vm-orders.ts), one JSON object per
 * line, and does the same on the unix socket `control`, where whoever connects is first told how things stand.
 */

/** Time for the last lines and the last frames to leave. */
const LEAVING_MS = 150;
const EXIT_WRONG = 2;

/** The guest is being saved: the process ends when its file is written. */
let saving = false;

const lines = new StatusLines();
const report = (line: Report): void => lines.report(line);

function leave(code: number): void {
  setTimeout(() => process.exit(code), LEAVING_MS);
}

function refuse(reason: string): void {
  process.stderr.write(`lockstep: ${reason}\n`);
  report({ kind: 'failed', reason });
  leave(EXIT_WRONG);
}

/** What a process lacks to have a partner. */
function missingFor({ storage, arbiter }: VmProcessConfig, security: unknown): string | undefined {
  if (security === undefined) return 'this process was started without "channel"';
  // A lone process is its own arbiter; two of them would both win.
  if (!arbiter && arbiterDisk(storage) === undefined)
    return 'this process was started without an arbiter ("storage" or "arbiter")';
  return storage && unfenced(storage);
}

function addressFamily(address: HostPort | undefined): 'udp4' | 'udp6' {
  return address !== undefined && isIPv6(address.host) ? 'udp6' : 'udp4';
}

async function start(config: VmProcessConfig): Promise<void> {
  const boot = config.role === 'primary' && config.boot ? await readBootImage(config.boot) : undefined;
  if (boot && !boot.ok) {
    refuse(boot.error);
    return;
  }
  const snapshot =
    config.role === 'primary' && config.snapshot !== undefined
      ? await readSnapshotFile(config.snapshot)
      : undefined;
  if (snapshot && !snapshot.ok) {
    refuse(snapshot.error);
    return;
  }
  const vm = vmId(config.vm);
  const security = await readChannelSecurity(config.channel, vm);
  if (!security.ok) {
    refuse(security.error);
    return;
  }
  const macs = config.machine.nics.map((nic) => hexBytes(nic.mac));
  const network = await networkOf(config.network, vm, macs, (detail) =>
    report({ kind: 'event', what: 'network', detail }),
  );
  if (!network.ok) {
    refuse(network.error);
    return;
  }
  const sayOfNetwork = (detail: string) => report({ kind: 'event', what: 'network', detail });
  const observed = new ObservedNetwork(network.value, new MacConflicts(macs, sayOfNetwork));
  const vcpu = new VcpuThread({
    config: config.machine,
    options: {},
    boot: boot?.value,
    digestEveryMs: config.digestEveryMs,
    tellsDiskRequests: config.diskMode.own || config.diskMode.backupReads,
  });
  const resumed = snapshot && (await restoreInto(vcpu, snapshot.value));
  if (resumed && !resumed.ok) {
    refuse(resumed.error);
    return;
  }
  const partner = config.protect === undefined ? undefined : parseHostPort(config.protect);
  const family = addressFamily(config.listen ?? (partner?.ok ? partner.value : undefined));
  const heartbeats = new UdpHeartbeats(vm, security.value === 'none' ? 'none' : 'sealed', family);
  const channel = new TcpChannel({
    vm,
    security: security.value ?? 'none',
    compresses: config.channel.compress,
    onHeartbeatKeys: (generation, keys, end) => heartbeats.useKeys(generation, keys, end),
  });
  const console = new StatusConsole(config.consoleFile, report);
  const aboutDisks = (detail: string): void => report({ kind: 'event', what: 'disk', detail });
  const { leaseMs } = config.timing;
  const lease = config.storage?.lease && new DiskLease({ ...config.storage.lease, leaseMs });
  const host = config.host ?? hostname();
  const disks = config.diskMode.own
    ? await ownDisks(config, host, aboutDisks)
    : await disksOf(config, vm, aboutDisks, lease);
  if (!disks.ok) {
    refuse(disks.error);
    return;
  }
  const arbiter = arbiterOf(config, (detail) => report({ kind: 'event', what: 'arbiter', detail }));
  const hosts = new ReportedHosts(report);
  const ports = {
    vcpu,
    disks: disks.value.port,
    network: config.network
      ? new FirstFrame(observed, (of) =>
          report({ kind: 'event', what: 'first-frame', detail: `of epoch ${of}` }),
        )
      : observed,
    console,
    arbiter: lease?.overhear(arbiter) ?? arbiter,
    channel,
    heartbeats,
    hosts,
    clock: new HostClock(),
    entropy: { bytes: (length: number) => new Uint8Array(randomBytes(length)) },
    status: {
      report: (status: StatusReport) => {
        report(status);
        if (status.kind !== 'halted' || (saving && status.reason === SAVED)) return;
        if (saving) report({ kind: 'event', what: 'save', detail: 'the guest ended before it was saved' });
        leave(/powered off$|^moved to /.test(status.reason) ? 0 : 1);
      },
    },
  };
  // A restarted process is a new instance, whatever it is called: its questions must not repeat an older one's.
  const instance = instanceId(`${config.instance === undefined ? '' : `${config.instance}/`}${randomUUID()}`);
  const expected =
    config.expectedEpoch === 'present' && config.role === 'primary'
      ? await presentEpoch(config, vm, instance, (detail) =>
          report({ kind: 'event', what: 'arbiter', detail }),
        )
      : epoch(Number(config.expectedEpoch) || 0);
  const waitForBackup = config.protect !== undefined;
  const role: Role =
    config.role === 'primary'
      ? {
          kind: 'primary',
          start: {
            kind: 'power-on',
            expected,
            waitForBackup,
            faultTolerance: config.faultTolerance,
            ...(resumed && { resumed: resumed.value }),
          },
        }
      : { kind: 'backup' };
  const side = {
    vm,
    instance,
    host,
    program: {
      machine: config.identity,
      build: buildIdentity(),
      logFormat: LOG_FORMAT_VERSION,
      snapshotFormat: SNAPSHOT_FORMAT_VERSION,
    },
    disks: config.diskMode,
    copy: disks.value.copy,
    timing: config.timing,
    limits: config.limits,
  };
  const driver = new Driver(ports, { side, role, macs });
  const unreachable = (address?: string): string | undefined => {
    const missing = missingFor(config, security.value);
    const peer = address === undefined ? undefined : parseHostPort(address);
    if (!peer) return missing;
    if (!peer.ok) return peer.error;
    if (missing !== undefined || addressFamily(peer.value) === family) return missing;
    return `this process's heartbeats are not of ${peer.value.host}'s family`;
  };
  const targets = {
    driver,
    console,
    hosts,
    nics: config.machine.nics.length,
    report,
    unreachable,
    save: (file: string) => save(driver, file),
    capture: (nic: number, socket: string) =>
      observed.capture(
        nic,
        PcapWriter.toSocket(socket, (detail) => report({ kind: 'event', what: 'capture', detail })),
      ),
    snapshot: (folder: string, file: unknown, id: unknown) => {
      const { vm: name, machine } = config;
      void takeSnapshot(driver, disks.value.port, folder, { vm: name, machine, file }).then((taken) =>
        report({ kind: 'snapshot', folder, id, ...(taken.ok ? taken.value : { error: taken.error }) }),
      );
    },
  };
  createInterface({ input: process.stdin }).on('line', (line) => obey(line, targets));
  reportFigures(driver, vcpu, channel, config.figuresEveryMs);

  const { listen, control } = config;
  const go = (port?: number): void => {
    report({
      kind: 'started',
      role: config.role,
      vm: config.vm,
      instance,
      pid: process.pid,
      ...(listen && { address: formatHostPort({ ...listen, port: port ?? listen.port }) }),
    });
    driver.start();
    if (config.protect === undefined) return;
    const why = unreachable(config.protect);
    if (why === undefined) driver.protect(config.protect);
    else report({ kind: 'event', what: 'protect', detail: why });
  };
  const open = (): void => {
    if (!listen) heartbeats.bind({ host: family === 'udp6' ? '::' : '0.0.0.0', port: 0 }, go, refuse);
    else
      channel.accept(
        listen,
        (port) => heartbeats.bind({ host: listen.host, port }, () => go(port), refuse),
        refuse,
      );
  };
  lines.keptInFile = control !== undefined;
  if (control === undefined) open();
  else listenForControl(control, lines, (line) => obey(line, targets), open, refuse);
}

/** The guest's state goes into a file, and this process ends; whatever it had begun on its disks is in it. */
function save(driver: Driver, file: string): void {
  if (saving) {
    report({ kind: 'event', what: 'save', detail: 'the guest is being saved already' });
    return;
  }
  saving = driver.save((snapshot) => {
    void writeSnapshotFile(file, snapshot).then((written) => {
      if (!written.ok) refuse(written.error);
      else {
        report({ kind: 'saved', file, bytes: snapshot.machine.length });
        leave(0);
      }
    });
  });
  if (!saving)
    report({ kind: 'event', what: 'save', detail: 'a guest is saved while it runs without a partner' });
}

function reportFigures(
  driver: Driver,
  vcpu: VcpuThread,
  channel: TcpChannel,
  everyMs: number | undefined,
): void {
  if (everyMs === undefined || everyMs === 0) return;
  setInterval(() => {
    const { core, role } = driver;
    if (core instanceof Backup) report({ kind: 'figures', role, ...core.figures() });
    if (!(core instanceof Primary)) return;
    const figures = core.figures(driver.now());
    const standstillMs = vcpu.takeStandstillMs();
    report({
      kind: 'figures',
      role,
      ...figures,
      standstillMs,
      logBytes: channel.logBytes,
      wireBytes: channel.wireBytes,
      ...core.takeWaits(),
    });
  }, everyMs).unref();
}

process.on('SIGINT', () => {
  // The terminal's Ctrl-C reaches every process of the group; whoever started this one ends it in good order.
});
process.on('SIGTERM', () => process.exit(0));
process.stdout.on('error', () => {
  // A full disk under the log is no reason to end the guest; a starter that is gone is.
  if (!lines.keptInFile) process.exit(1);
});

const argument = process.argv[2] ?? '';
let text = argument;
try {
  if (!argument.trimStart().startsWith('{')) text = readFileSync(argument, 'utf8');
} catch (error) {
  text = '';
  refuse(`the configuration cannot be read: ${(error as Error).message}`);
}
if (text !== '') {
  const config = parseVmProcessConfig(text);
  if (config.ok) void start(config.value);
  else refuse(config.error);
}
