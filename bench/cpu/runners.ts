import { join } from 'node:path';
import type { Result } from '../../src/base/result.ts';
import { repositoryRoot } from '../../src/host/image/repository.ts';
import type { CpuGuest } from './image.ts';
import { IDLE } from './workloads.ts';

export const MEMORY_MB = 256;

export const RUNNERS = [
  'native',
  'qemu',
  'qemu-icount',
  'qemu-record',
  'lockstep',
  'lockstep-plain',
  'replay',
  'v86',
  'idle',
] as const;
export type RunnerName = (typeof RUNNERS)[number];

export interface Command {
  readonly program: string;
  readonly args: readonly string[];
  /** It has no power switch. */
  readonly endless?: boolean;
  /** Its marks are JSON with readings of its own clocks [replay-child.ts]. */
  readonly tellsItself?: boolean;
}

export interface RunnerContext {
  readonly guest: CpuGuest;
  /** What v86 boots: a 32-bit kernel and the 32-bit program. */
  readonly guest32: Result<CpuGuest>;
  /** For this round's recordings. */
  readonly folder: string;
  readonly engine: string;
  /** Names of workloads, all by default. */
  readonly only: readonly string[];
  /** Appended to the kernel's command line. */
  readonly append: string;
}

/** What to start; or why not. */
export function commandOf(runner: RunnerName, context: RunnerContext): Command | string {
  const { guest, folder } = context;
  const recording = join(folder, 'lockstep.recording');
  switch (runner) {
    case 'native':
      return { program: guest.program, args: ['--cpu', ...context.only] };
    case 'qemu':
      return qemu(context, []);
    case 'qemu-icount':
      return qemu(context, ['-icount', 'shift=auto']);
    case 'qemu-record':
      return qemu(context, ['-icount', `shift=auto,rr=record,rrfile=${join(folder, 'qemu.rr')}`]);
    case 'lockstep':
      return lockstep(context, ['--record', recording]);
    case 'lockstep-plain':
      return lockstep(context, []);
    case 'replay':
      return {
        program: process.execPath,
        args: [join(import.meta.dirname, 'replay-child.js'), recording, context.engine],
        tellsItself: true,
      };
    case 'idle':
      return lockstep({ ...context, only: [IDLE] }, ['--record', join(folder, 'idle.recording')]);
    case 'v86': {
      const { guest32 } = context;
      if (!guest32.ok) return guest32.error;
      const { kernel, initrd } = guest32.value;
      const child = join(import.meta.dirname, 'v86-child.js');
      const commandLine = kernelCommandLine(context);
      return {
        program: process.execPath,
        args: [child, kernel, initrd, String(MEMORY_MB), commandLine],
        endless: true,
      };
    }
  }
}

/** What stands after `--` becomes the arguments of /init. */
export function kernelCommandLine({ only, append }: Pick<RunnerContext, 'only' | 'append'>): string {
  const words = ['console=ttyS0', ...(append === '' ? [] : [append])];
  return [...words, ...(only.length === 0 ? [] : ['--', ...only])].join(' ');
}

function qemu(context: RunnerContext, more: readonly string[]): Command {
  const { kernel, initrd } = context.guest;
  return {
    program: 'qemu-system-x86_64',
    args: [
      ...['-accel', 'tcg', '-cpu', 'qemu64', '-m', String(MEMORY_MB), '-nographic', '-no-reboot'],
      ...['-net', 'none', ...more],
      ...['-kernel', kernel, '-initrd', initrd, '-append', kernelCommandLine(context)],
    ],
  };
}

function lockstep(context: RunnerContext, more: readonly string[]): Command {
  const { kernel, initrd } = context.guest;
  return {
    program: process.execPath,
    args: [
      join(repositoryRoot(), 'dist/src/cli/main.js'),
      'run',
      ...['--kernel', kernel, '--initrd', initrd, '--append', kernelCommandLine(context)],
      ...['--memory', `${MEMORY_MB}M`, '--net', 'none', '--engine', context.engine, '--no-reboot', '--json'],
      ...more,
    ],
  };
}
