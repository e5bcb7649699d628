import { spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { repositoryRoot } from '../../src/host/image/repository.ts';
import { judge } from './list.ts';
import { listedPrograms, prepareGuest } from './programs-guest.ts';

/**
 * node dist/tests/programs/main.js [--fast] [--kernel generic] [--record FILE] [--qemu] [NAME...]
 *
 * Runs the programs of tests/programs/list in one guest and says which of them did what they must. The guest's console
 * goes to standard error. NAME selects those that contain it; --qemu runs the same guest under QEMU.
 */
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    fast: { type: 'boolean', default: false },
    kernel: { type: 'string', default: 'programs' },
    record: { type: 'string' },
    qemu: { type: 'boolean', default: false },
  },
});

const folder = await mkdtemp(join(tmpdir(), 'lockstep-programs-'));
process.once('exit', () => void rm(folder, { recursive: true, force: true }));
try {
  const programs = (await listedPrograms()).filter(
    ({ name, fast }) =>
      (fast || !values.fast) && (positionals.length === 0 || positionals.some((part) => name.includes(part))),
  );
  const kernelImage = values.kernel === 'generic' ? 'generic' : 'programs';
  const guest = await prepareGuest(programs, folder, kernelImage, (line) => console.error(line));
  const common = ['-kernel', guest.kernel, '-initrd', guest.initrd, '-append', guest.commandLine];
  const [program = '', ...args] = values.qemu
    ? [
        ...['qemu-system-x86_64', '-accel', 'tcg', '-m', '512', '-nographic', '-no-reboot', ...common],
        ...['-drive', `file=${guest.disk},format=raw,if=virtio`, '-monitor', 'none'],
      ]
    : [
        ...[
          process.execPath,
          join(repositoryRoot(), 'dist/src/cli/main.js'),
          'run',
          '--kernel',
          guest.kernel,
        ],
        ...['--initrd', guest.initrd, '--append', guest.commandLine, '--disk', guest.disk],
        ...['--memory', '512M', '--no-reboot'],
        ...(values.record === undefined ? [] : ['--record', values.record]),
      ];
  const console_ = await consoleOf(program, args);
  const verdicts = judge(programs, console_);
  const bad = verdicts.filter(({ problem }) => problem !== undefined);
  for (const { name, problem } of bad) console.log(`${name}: ${problem}`);
  console.log(`${verdicts.length - bad.length} of ${verdicts.length} programs as they must be`);
  process.exitCode = bad.length === 0 ? 0 : 1;
} catch (error) {
  console.error(`programs: ${(error as Error).message}`);
  process.exitCode = 2;
}
await rm(folder, { recursive: true, force: true });

function consoleOf(program: string, args: readonly string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'inherit'] });
    // Ctrl-C and the like end the guest, and with it this program in order.
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => child.kill(signal));
    let text = '';
    child.stdout.on('data', (chunk: Buffer) => {
      text += chunk.toString('latin1');
      process.stderr.write(chunk);
    });
    child.on('error', reject);
    child.on('close', () => resolve(text));
  });
}
