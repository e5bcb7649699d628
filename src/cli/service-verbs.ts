import { type Command, Option } from 'commander';
import {
  DEFAULT_GUEST_NETWORK,
  type ForegroundService,
  serveDisks,
  serveSwitch,
} from '../host/foreground.ts';
import { accepted, untilAsked, VerbError } from './ending.ts';
import { parseAddress, parseForward, parsePort, parseServedDisk } from './option-values.ts';

interface ServiceOptions {
  readonly host: string;
  readonly port: string;
  readonly json?: true;
  readonly untilStdinEnds?: true;
}

export function addServiceVerbs(program: Command): void {
  const disk = program.command('disk').description('virtual disks');
  withServiceOptions(disk.command('serve'), '10809')
    .description('serve disk images by NBD, with generations and the test-and-set for fault tolerance')
    .argument('<file...>', 'raw images; write name=file to name a disk, else they are vda, vdb, ...')
    .option('--read-only', 'refuse writes')
    .action(async (files: string[], options: ServiceOptions & { readOnly?: true }) => {
      const disks = files.map((file, index) => ({
        ...parseServedDisk(file, index),
        readOnly: options.readOnly === true,
      }));
      const port = accepted(parsePort(options.port));
      const service = accepted(await serveDisks({ host: options.host, port, disks }));
      await serveUntilAsked(service, options, `serving ${disks.map(({ name }) => name).join(', ')}`);
    });

  const switchCommand = program.command('switch').description('the user network');
  withServiceOptions(switchCommand.command('start'), '10810')
    .description('start the layer-2 switch that VM processes connect to')
    .addOption(
      new Option('--uplink <kind>', 'way out of the switch').choices(['passt', 'none']).default('passt'),
    )
    .option(
      '--forward <proto:host:guest>',
      'lead a port of this host to the guest, like tcp:8080:80',
      collect,
      [],
    )
    .option('--address <address/bits>', "the guest's address", '10.0.2.15/24')
    .option('--gateway <address>', "the guest's gateway", DEFAULT_GUEST_NETWORK.gateway)
    .action(
      async (
        options: ServiceOptions & {
          uplink: 'passt' | 'none';
          forward: string[];
          address: string;
          gateway: string;
        },
      ) => {
        const service = accepted(
          await serveSwitch({
            host: options.host,
            port: accepted(parsePort(options.port)),
            uplink: options.uplink,
            forwards: options.forward.map((text) => accepted(parseForward(text))),
            ...accepted(parseAddress(options.address)),
            gateway: options.gateway,
          }),
        );
        await serveUntilAsked(service, options, 'the switch is up');
      },
    );
}

function withServiceOptions(command: Command, port: string): Command {
  return command
    .option('--host <address>', 'address to listen on', '127.0.0.1')
    .option('--port <number>', 'port to listen on; 0 takes a free one', port)
    .option('--json', 'status as JSON lines on standard output')
    .option('--until-stdin-ends', 'stop when standard input ends, so that no service outlives its starter');
}

async function serveUntilAsked(
  service: ForegroundService,
  options: ServiceOptions,
  what: string,
): Promise<void> {
  const { port } = service;
  if (options.json) console.log(JSON.stringify({ kind: 'listening', host: options.host, port }));
  else console.log(`${what} on ${options.host}:${port}`);
  const asked = untilAsked({ standardInput: options.untilStdinEnds === true });
  const failure = await Promise.race([asked.then(() => undefined), service.ended]);
  await service.close();
  if (failure !== undefined) throw new VerbError(failure);
}

export function collect(value: string, before: readonly string[]): readonly string[] {
  return [...before, value];
}
