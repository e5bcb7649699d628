import { resolve } from 'node:path';
import { type Command, InvalidArgumentError } from 'commander';
import type { ApiEvent, ClusterView, HostView, ImageView, InstanceView } from '../host/api.ts';
import { accepted, untilAsked, VerbError } from './ending.ts';
import { ask, type HostOption, print, table, withHost } from './host-option.ts';
import { parseMemory } from './option-values.ts';

interface StartOptions {
  readonly name?: string;
  readonly state?: string;
  readonly cluster?: string;
  readonly listen: string;
  readonly memory?: string;
  readonly cores?: string;
  readonly json?: true;
}

const WAIT_AGAIN_MS = 300;

export function addHostVerbs(program: Command): void {
  const host = program.command('host').description('this host: the daemon that owns its VM processes');
  host
    .command('start')
    .description('run the host daemon in the foreground; VMs live on when it ends')
    .option('--name <name>', "the host's name in the cluster (default: its host name)")
    .option('--state <folder>', 'what must outlive the daemon (default: in ~/.local/share/lockstep/hosts)')
    .option(
      '--cluster <store>',
      'etcd:URL,URL or a directory that all hosts have (default: one of this account)',
    )
    .option(
      '--listen <host:port>',
      'where other hosts and clients reach it by TLS; 0 takes a free port',
      '127.0.0.1:0',
    )
    .option('--memory <size>', "what guests may take of this host's memory (default: 80 %)")
    .option('--cores <number>', 'processors (default: all)')
    .option('--json', 'events as JSON lines on standard output')
    .action(async (options: StartOptions) => {
      const { startHost } = await import('../host/daemon/host-start.ts');
      const json = options.json === true;
      const show = (event: ApiEvent) => {
        if (json) console.log(JSON.stringify({ event: event.kind, ...event }));
        else
          console.log(
            `${event.time.slice(11, 23)} ${event.vm === undefined ? '' : `${event.vm}: `}${event.kind}: ${event.detail}`,
          );
      };
      const asked = untilAsked({ standardInput: false });
      const running = accepted(
        await startHost({
          name: options.name,
          state: options.state,
          cluster: options.cluster,
          listen: options.listen,
          memoryBytes: options.memory === undefined ? undefined : accepted(parseHostMemory(options.memory)),
          cores: options.cores === undefined ? undefined : accepted(parseCores(options.cores)),
          event: show,
        }),
      );
      const { stop, ...known } = running;
      if (json) console.log(JSON.stringify({ kind: 'listening', ...known }));
      else
        console.log(
          `host ${known.name} of the cluster in ${known.store}; API on ${known.socket} and https://${known.api}`,
        );
      await asked;
      const left = await stop();
      if (left > 0 && !json)
        console.log(`${left} VM processes run on; the next lockstep host start finds them`);
    });
  withHost(host.command('status'))
    .description('the host and its VM processes')
    .action(async (options: HostOption) => {
      const answer = await ask<HostView & { storeTrouble?: string; processes: InstanceView[] }>(
        options,
        'GET',
        '/v1/host',
      );
      print(options, answer, (status) =>
        [
          `host ${status.name}: ${hostState(status)}, ${mebibytes(status.memoryUsedBytes)} of ${mebibytes(status.memoryBytes)} MiB used, ${status.cores} cores`,
          ...(status.storeTrouble === undefined
            ? []
            : [`the cluster's store is out of reach: ${status.storeTrouble}`]),
          ...(status.processes.length === 0
            ? []
            : [
                table(
                  ['VM', 'ROLE', 'STATE', 'PID', 'DETAIL'],
                  status.processes.map((each) => [
                    each.vm,
                    each.role,
                    each.state,
                    String(each.pid),
                    each.detail,
                  ]),
                ),
              ]),
        ].join('\n'),
      );
    });
  withHost(host.command('maintenance'))
    .description('empty this host, or open it again')
    .argument('<on|off>', '', onOrOff)
    .option('--wait', 'until the host is empty')
    .action(async (on: boolean, options: HostOption & { wait?: true }) => {
      await ask(options, 'PUT', '/v1/host/maintenance', { on });
      let status = await ask<HostView>(options, 'GET', '/v1/host');
      while (options.wait && on && status.instances > 0) {
        await new Promise((resolve) => setTimeout(resolve, WAIT_AGAIN_MS));
        status = await ask<HostView>(options, 'GET', '/v1/host');
      }
      print(options, status, (now) => `host ${now.name}: ${hostState(now)}, ${now.instances} VM processes`);
    });

  addHostImageVerbs(host);

  const cluster = program.command('cluster').description('all hosts together');
  withHost(cluster.command('status'))
    .description('hosts and VMs, their states and why')
    .action(async (options: HostOption) => {
      print(options, await ask<ClusterView>(options, 'GET', '/v1/cluster'), clusterText);
    });
  withHost(cluster.command('forget'))
    .description(
      'forget a host that is off and does not come back: what it ran may then be started elsewhere',
    )
    .argument('<host>')
    .option('--surely-off', 'nothing of it runs any more; a VM that still does would run twice')
    .action(async (name: string, options: HostOption & { surelyOff?: true }) => {
      if (!options.surelyOff)
        throw new VerbError(
          `forget ${name} only when nothing of it runs any more, and say so with --surely-off`,
        );
      await ask(options, 'DELETE', `/v1/hosts/${encodeURIComponent(name)}`);
      print(options, { ok: true }, () => `host ${name} is forgotten`);
    });
}

function addHostImageVerbs(host: Command): void {
  const image = host.command('image').description('the boot images that the host owns');
  withHost(image.command('list')).action(async (options: HostOption) => {
    print(options, await ask<ImageView[]>(options, 'GET', '/v1/images'), (images) =>
      table(
        ['IMAGE', 'DIGEST', 'KERNEL MiB', 'INITRD MiB', 'APPEND'],
        images.map(({ name, digest, kernelBytes, initrdBytes, append }) => [
          name,
          digest.slice(0, 12),
          String(mebibytes(kernelBytes)),
          String(mebibytes(initrdBytes)),
          append,
        ]),
      ),
    );
  });
  withHost(image.command('add'))
    .description(
      'keep a kernel and an initrd under a name: every host of the cluster can then start what boots from it',
    )
    .argument('<name>')
    .requiredOption('--kernel <file>', 'a file of that host')
    .option('--initrd <file>', 'a file of that host')
    .option('--append <text>', "the kernel's command line", 'console=ttyS0')
    .action(
      async (
        name: string,
        {
          kernel,
          initrd,
          append,
          ...options
        }: HostOption & { kernel: string; initrd?: string; append: string },
      ) => {
        const files = { kernel: resolve(kernel), ...(initrd && { initrd: resolve(initrd) }), append };
        const path = `/v1/images/${encodeURIComponent(name)}`;
        print(
          options,
          await ask<ImageView>(options, 'PUT', path, files),
          ({ digest }) => `${name}@${digest}`,
        );
      },
    );
  withHost(image.command('remove'))
    .description('remove an image that no VM boots from')
    .argument('<name>')
    .action(async (name: string, options: HostOption) => {
      await ask(options, 'DELETE', `/v1/images/${encodeURIComponent(name)}`);
      print(options, { ok: true }, () => `image ${name} is removed`);
    });
}

function clusterText({ store, storeTrouble, hosts, vms }: ClusterView): string {
  return [
    `store: ${store}${storeTrouble === undefined ? '' : `, out of reach (what follows is what it said last): ${storeTrouble}`}`,
    '',
    table(
      ['HOST', 'STATE', 'MEMORY MiB', 'VMS', 'API'],
      hosts.map((host) => [
        host.name,
        hostState(host),
        `${mebibytes(host.memoryUsedBytes)}/${mebibytes(host.memoryBytes)}`,
        String(host.instances),
        host.api ?? '-',
      ]),
    ),
    '',
    vmTable(vms),
  ].join('\n');
}

export function vmTable(vms: ClusterView['vms']): string {
  return table(
    ['VM', 'POWER', 'PROTECTION', 'PRIMARY', 'SECONDARY', 'REASON'],
    vms.map((vm) => [
      vm.name,
      vm.power,
      vm.protection,
      vm.primaryHost ?? '-',
      vm.secondaryHost ?? '-',
      vm.reason,
    ]),
  );
}

function hostState({ present, maintenance }: HostView): string {
  if (!present) return 'absent';
  return maintenance ? 'maintenance' : 'up';
}

function mebibytes(bytes: number): number {
  return Math.floor(bytes / 2 ** 20);
}

function onOrOff(text: string): boolean {
  if (text === 'on' || text === 'off') return text === 'on';
  throw new InvalidArgumentError('write on or off');
}

function parseCores(text: string) {
  const cores = Number(text);
  return Number.isSafeInteger(cores) && cores > 0
    ? { ok: true as const, value: cores }
    : { ok: false as const, error: `--cores ${text} is no number from 1` };
}

/** A host may have more than a guest can take. */
function parseHostMemory(text: string) {
  const match = /^(\d+)G$/i.exec(text);
  if (match) return { ok: true as const, value: Number(match[1]) * 2 ** 30 };
  return parseMemory(text);
}
