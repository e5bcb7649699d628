import { resolve } from 'node:path';
import type { Command } from 'commander';
import {
  FT_VERBS,
  type FtVerb,
  POWER_VERBS,
  SNAPSHOT_MS_MAX,
  type SnapshotView,
  type VmView,
} from '../host/api.ts';
import { callApi, followApi } from '../host/daemon/api-client.ts';
import { captureInto } from '../host/daemon/capture-client.ts';
import { accepted, VerbError } from './ending.ts';
import { addressOf, ask, type HostOption, print, withHost } from './host-option.ts';
import { vmTable } from './host-verbs.ts';

const POWER_TEXT: Readonly<Record<string, string>> = {
  stop: 'press the power button: the guest shuts down; --force switches it off',
  reset: 'reset the guest',
  pause: 'stop the guest where it is',
  resume: 'let a paused guest go on',
};

const FT_TEXT: Readonly<Record<FtVerb, string>> = {
  on: 'give the VM a secondary on another host',
  off: 'end the secondary',
  suspend: 'end the secondary for a while',
  resume: 'the secondary comes back after a suspension',
  'test-failover': 'kill the primary: the secondary has to take over',
  'test-restart-secondary': 'kill the secondary: a new one has to come up',
  'migrate-secondary': 'move the secondary, without an unprotected moment',
};

const WAIT_AGAIN_MS = 200;
const WAIT_MS_MAX = 600_000;

export function addVmVerbs(program: Command): void {
  const vm = program.command('vm').description('virtual machines of the cluster');
  withHost(vm.command('create'))
    .description('make a VM from its file')
    .argument('<file>', 'YAML or JSON; docs/CLUSTER.md describes it')
    .action(async (file: string, options: HostOption) => {
      const { readVmFile } = await import('../host/daemon/vm-file.ts');
      const content = accepted(await readVmFile(file)) as object;
      await ask(options, 'POST', '/v1/vms', content);
      done(options, `created; lockstep vm start ${(content as { name?: string }).name}`);
    });
  withHost(vm.command('start'))
    .description('switch a VM on')
    .argument('<name>')
    .option('--on <host>', 'on that host')
    .option('--wait', 'until it is Protected, where fault tolerance is on')
    .action(async (name: string, options: HostOption & { on?: string; wait?: true }) => {
      await ask(options, 'POST', path(name, 'start'), { host: options.on });
      if (options.wait) await protectedAgain(name, options);
      done(options, `${name} is on`);
    });
  for (const verb of POWER_VERBS) {
    if (verb === 'power-off') continue;
    const command = withHost(vm.command(verb))
      .description(POWER_TEXT[verb] ?? verb)
      .argument('<name>');
    if (verb === 'stop') command.option('--force', 'as by pulling the plug');
    command.action(async (name: string, options: HostOption & { force?: true }) => {
      await ask(options, 'POST', path(name, options.force ? 'power-off' : verb));
      done(options, `${name}: ${verb} is ordered`);
    });
  }
  withHost(vm.command('destroy'))
    .description('forget a VM that is off; its disks stay')
    .argument('<name>')
    .action(async (name: string, options: HostOption) => {
      await ask(options, 'DELETE', path(name));
      done(options, `${name} is forgotten`);
    });
  withHost(vm.command('list'))
    .description('all VMs')
    .action(async (options: HostOption) =>
      print(options, await ask<VmView[]>(options, 'GET', '/v1/vms'), vmTable),
    );
  withHost(vm.command('show'))
    .description('one VM: its state, its processes, its file')
    .argument('<name>')
    .action(async (name: string, options: HostOption) =>
      print(options, await ask<VmView>(options, 'GET', path(name)), (view) => JSON.stringify(view, null, 2)),
    );
  withHost(vm.command('set'))
    .description("change fields of a VM's file, like memory=1G")
    .argument('<name>')
    .argument('<field=value...>')
    .action(async (name: string, fields: string[], options: HostOption) => {
      await ask(options, 'PATCH', path(name), Object.fromEntries(fields.map(field)));
      done(options, `${name} is changed`);
    });
  withHost(vm.command('stats'))
    .description('figures of the primary')
    .argument('<name>')
    .action(async (name: string, options: HostOption) =>
      print(options, await ask<object>(options, 'GET', path(name, 'stats')), (figures) =>
        Object.entries(figures)
          .map(([figure, value]) => `${figure.padEnd(16)} ${String(value)}`)
          .join('\n'),
      ),
    );
  withHost(vm.command('migrate'))
    .description('move the running guest to another host')
    .argument('<name>')
    .requiredOption('--to <host>', 'the host that it goes on at')
    .action(async (name: string, options: HostOption & { to: string }) => {
      await ask(options, 'POST', path(name, 'migrate'), { host: options.to });
      done(options, `${name} is on ${options.to}`);
    });
  withHost(vm.command('capture'))
    .description("packets of one of the guest's interfaces, for tcpdump -r; Ctrl-C ends it")
    .argument('<name>')
    .option('--nic <number>', 'which interface, from 0', '0')
    .requiredOption('--out <file>', 'where they go: a new file')
    .option('--seconds <number>', 'end by itself after so long')
    .action(capture);
  withHost(vm.command('snapshot'))
    .description('the guest at one instant, memory and disks, while it runs on')
    .argument('<name>')
    .requiredOption('--out <folder>', 'a new folder, on the host that runs the guest')
    .action(async (name: string, options: HostOption & { out: string }) => {
      const folder = resolve(options.out);
      const wait = SNAPSHOT_MS_MAX + 60_000;
      const taken = await ask<SnapshotView>(options, 'POST', path(name, 'snapshot'), { folder }, wait);
      print(options, taken, (view) => `${name} is in ${view.folder} on ${view.host}`);
    });
  withHost(vm.command('restore'))
    .description('a new VM that goes on from a snapshot, with disks of its own')
    .argument('<folder>', 'what vm snapshot has made, on the host that is asked')
    .requiredOption('--name <name>', 'of the new VM')
    .option('--disks <folder>', 'a new folder for its disks (default: beside the snapshot)')
    .option('--without-network', 'with its network cards connected to nothing')
    .action(
      async (
        folder: string,
        options: HostOption & { name: string; disks?: string; withoutNetwork?: true },
      ) => {
        const disks = options.disks === undefined ? undefined : resolve(options.disks);
        const alone = options.withoutNetwork === true;
        await ask(options, 'POST', path(options.name, 'restore'), { folder: resolve(folder), alone, disks });
        done(options, `${options.name} goes on`);
      },
    );
  withHost(vm.command('console'))
    .description("the guest's console; Ctrl-] leaves it")
    .argument('<name>')
    .action(followGuest);

  const ft = program.command('ft').description('fault tolerance of a VM');
  for (const verb of FT_VERBS) {
    const command = withHost(ft.command(verb)).description(FT_TEXT[verb]).argument('<name>');
    if (verb === 'migrate-secondary') command.option('--to <host>', 'to that host');
    command
      .option('--wait', 'until the VM is Protected again')
      .action(async (name: string, options: HostOption & { to?: string; wait?: true }) => {
        await ask(options, 'POST', path(name, `ft/${verb}`), { host: options.to });
        if (options.wait && verb !== 'off' && verb !== 'suspend') await protectedAgain(name, options);
        done(options, `${name}: ${verb} is done`);
      });
  }
  withHost(ft.command('status'))
    .description('how a VM is protected, and why')
    .argument('<name>')
    .action(async (name: string, options: HostOption) =>
      print(options, await ask<VmView>(options, 'GET', path(name)), (view) => vmTable([view])),
    );
}

function path(name: string, rest?: string): string {
  return `/v1/vms/${encodeURIComponent(name)}${rest === undefined ? '' : `/${rest}`}`;
}

function done(options: HostOption, text: string): void {
  print(options, { ok: true }, () => text);
}

/** `memory=1G`, `restart=true`, `antiAffinity=["web"]`: what is JSON is taken as such. */
function field(text: string): [string, unknown] {
  const [, name, value] = /^([A-Za-z]+)=(.*)$/s.exec(text) ?? [];
  if (name === undefined || value === undefined) throw new VerbError(`${text} is no field=value`);
  try {
    return [name, JSON.parse(value)];
  } catch {
    return [name, value];
  }
}

async function protectedAgain(name: string, options: HostOption): Promise<void> {
  const deadline = performance.now() + WAIT_MS_MAX;
  for (;;) {
    const view = await ask<VmView>(options, 'GET', path(name));
    if (view.protection === 'Protected' || view.faultTolerance !== 'on') return;
    if (performance.now() > deadline) throw new VerbError(`${name} is ${view.protection}: ${view.reason}`);
    await new Promise((resolve) => setTimeout(resolve, WAIT_AGAIN_MS));
  }
}

/** What has come by Ctrl-C, or by the end of the primary, is a whole file; a takeover ends it, and says so. */
async function capture(
  name: string,
  options: HostOption & { nic: string; out: string; seconds?: string },
): Promise<void> {
  if (!/^\d{1,3}$/.test(options.nic))
    throw new VerbError(`--nic ${options.nic} is no number of an interface`);
  const seconds = Number(options.seconds ?? Number.POSITIVE_INFINITY);
  if (!(seconds > 0)) throw new VerbError(`--seconds ${options.seconds} is no number above 0`);
  const over = new AbortController();
  process.once('SIGINT', () => over.abort());
  process.once('SIGTERM', () => over.abort());
  const timer = Number.isFinite(seconds) ? setTimeout(() => over.abort(), seconds * 1000) : undefined;
  const captured = await captureInto(addressOf(options), name, Number(options.nic), options.out, over.signal);
  clearTimeout(timer);
  done(options, `${accepted(captured)} bytes are in ${options.out}`);
}

const LEAVE = 0x1d;

/** Follows the guest over takeovers: when its primary ends, the console goes on at the next one. */
async function followGuest(name: string, options: HostOption): Promise<void> {
  const address = addressOf(options);
  const over = new AbortController();
  const { stdin } = process;
  process.once('SIGINT', () => over.abort());
  if (stdin.isTTY) stdin.setRawMode(true);
  stdin.on('data', (bytes: Buffer) => {
    if (stdin.isTTY && bytes.includes(LEAVE)) over.abort();
    else void callApi(address, 'POST', path(name, 'console'), { text: bytes.toString() });
  });
  stdin.on('error', () => undefined);
  stdin.unref?.();
  let failures = 0;
  let reason = '';
  while (!over.signal.aborted && failures < 50) {
    const followed = await followApi(
      address,
      path(name, 'console'),
      (text) => process.stdout.write(text),
      over.signal,
    );
    failures = followed.ok ? 0 : failures + 1;
    reason = followed.ok ? '' : followed.error;
    if (!over.signal.aborted) await new Promise((resolve) => setTimeout(resolve, WAIT_AGAIN_MS));
  }
  if (stdin.isTTY) stdin.setRawMode(false);
  if (reason !== '' && !over.signal.aborted) throw new VerbError(reason);
}
