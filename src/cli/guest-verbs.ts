import type { Command } from 'commander';
import { failed } from '../base/result.ts';
import { parseDisk } from '../host/disk-option.ts';
import { parseSeed } from '../host/image/cloud-seed.ts';
import { compileInterpreterEagerly, limitHeapGrowth } from '../host/v8-flags.ts';
import { accepted, leave } from './ending.ts';
import {
  parseCount,
  parseEngine,
  parseForward,
  parseMemory,
  parseNetworks,
  parseTlbEntries,
} from './option-values.ts';
import { collect } from './service-verbs.ts';

interface RunCommandOptions {
  readonly kernel: string;
  readonly initrd?: string;
  readonly append: string;
  readonly disk: readonly string[];
  readonly seed?: string;
  readonly memory: string;
  readonly net: readonly string[];
  readonly forward: readonly string[];
  readonly reboot: boolean;
  readonly debugExit?: true;
  readonly record?: string;
  readonly capture?: string;
  readonly engine: string;
  readonly json?: true;
}

interface ReplayCommandOptions {
  readonly verify?: true;
  readonly until?: string;
  readonly tlbEntries?: string;
  readonly budget?: string;
  readonly engine: string;
  readonly json?: true;
}

/** A verb loads what it needs when it is called: the command line answers at once. */
export function addGuestVerbs(program: Command): void {
  program
    .command('run')
    .description('run a guest here; its first serial port is standard input and output')
    .requiredOption('--kernel <file>', 'a bzImage')
    .option('--initrd <file>', 'initial RAM disk')
    .option('--append <text>', "the kernel's command line", '')
    .option(
      '--disk <disk>',
      'a raw disk image, nbd://host:port/export or nbd+unix:///export?socket=PATH; with ",readonly" behind it not written; may be given several times',
      collect,
      [],
    )
    .option('--seed <files>', "cloud-init's user-data[,meta-data[,network-config]], as one more disk")
    .option('--memory <size>', 'guest memory', '512M')
    .option(
      '--net <kind>',
      'an interface on user or tap:NAME, may be given several times; or none (default: none, or user with --forward)',
      collect,
      [],
    )
    .option(
      '--forward <proto:host:guest>',
      'lead a port of this host to the guest, like tcp:8080:80',
      collect,
      [],
    )
    .option('--no-reboot', 'end when the guest resets')
    .option('--debug-exit', 'a write of v to port 0xf4 ends with exit code (v << 1) | 1')
    .option('--record <file>', 'record the run for `replay`, up to its first reset')
    .option('--capture <file>', 'packets of the first interface into a new file, for tcpdump -r')
    .option('--engine <name>', 'auto, interpreter or jit', 'auto')
    .option('--json', 'end with figures as JSON on standard error')
    .action(async (options: RunCommandOptions) => {
      const forwards = options.forward.map((text) => accepted(parseForward(text)));
      const nets = accepted(parseNetworks(options.net, forwards.length > 0));
      if (forwards.length > 0 && !nets.includes('user'))
        accepted(failed('--forward needs --net user: behind a TAP the guest has an address of its own'));
      if (options.capture !== undefined && nets.length === 0)
        accepted(failed('--capture needs an interface: --net user or --net tap:NAME'));
      const runOptions = {
        kernel: options.kernel,
        initrd: options.initrd,
        append: options.append,
        disks: options.disk.map((text) => accepted(parseDisk(text))),
        seed: options.seed === undefined ? undefined : accepted(parseSeed(options.seed)),
        memoryBytes: accepted(parseMemory(options.memory)),
        nets,
        forwards,
        noReboot: !options.reboot,
        debugExit: options.debugExit === true,
        record: options.record,
        capture: options.capture,
        engine: accepted(parseEngine(options.engine)),
        json: options.json === true,
      };
      compileInterpreterEagerly();
      limitHeapGrowth();
      const { run } = await import('../host/run.ts');
      await leave(await run(runOptions));
    });

  program
    .command('replay')
    .description('replay a recording')
    .argument('<file>', 'what `run --record` has written; nothing else is needed')
    .option('--verify', 'compare the digest at every recorded point')
    .option('--until <count>', 'stop at this instruction count')
    .option('--tlb-entries <number>', 'entries of the translation cache; no result may depend on it')
    .option('--budget <count>', 'instructions executed in one go; no result may depend on it')
    .option('--engine <name>', 'auto, interpreter or jit; no result may depend on it', 'auto')
    .option('--json', 'end with figures as JSON on standard error')
    .action(async (file: string, options: ReplayCommandOptions) => {
      const count = (text: string | undefined, option: string) =>
        text === undefined ? undefined : accepted(parseCount(text, option));
      const until = count(options.until, '--until');
      const budget = count(options.budget, '--budget');
      const tlbEntries = accepted(parseTlbEntries(options.tlbEntries));
      compileInterpreterEagerly();
      limitHeapGrowth();
      const verify = options.verify === true;
      const json = options.json === true;
      const chosen = accepted(parseEngine(options.engine));
      const engine = {
        tlbEntries,
        engine: chosen === 'interpreter' ? ('interpreter' as const) : ('jit' as const),
      };
      const { replay } = await import('../host/replay.ts');
      await leave(replay({ file, verify, until, json, budget, engine }));
    });

  const debug = program.command('debug').description('tools for people who work on Lockstep');
  debug
    .command('step')
    .description('execute one instruction for each JSON line on standard input')
    .option('--engine <name>', 'auto, interpreter, jit or oracle', 'auto')
    .action(async (options: { engine: string }) => {
      const chosen = options.engine === 'oracle' ? 'oracle' : accepted(parseEngine(options.engine));
      const engine = chosen === 'auto' ? 'interpreter' : chosen;
      const reportError = (message: string) => process.stderr.write(`lockstep: ${message}\n`);
      const { debugStep } = await import('../host/debug-step/command.ts');
      await leave(await debugStep({ input: process.stdin, output: process.stdout, engine, reportError }));
    });
}
