import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buildImage, type GuestImage } from '../src/host/image/build-image.ts';
import { repositoryRoot } from '../src/host/image/repository.ts';
import { type Bench, type BenchOptions, type BenchResult, median, rounded } from './bench.ts';
import { type MeasuredProcess, measure } from './measured-process.ts';

/** What /init prints when userland is reached. */
const MARK = 'LOCKSTEP-BOOT-READY Linux';
const MEMORY_MB = 256;
const TIMEOUT_SECONDS = 300;

/**
 * Debian's cloud kernel from its first instruction to userland and power-off, with its plain command line.
 * The peer is QEMU's TCG with its default processor, qemu64, once plain and once recording.
 */
export const boot: Bench = {
  name: 'boot',
  summary: "Debian's cloud kernel to userland, interpreter only; QEMU TCG beside it",
  rounds: 3,
  run: runBoot,
};

interface Runner {
  readonly name: 'lockstep' | 'qemu' | 'qemu-record';
  readonly program: string;
  readonly args: readonly string[];
}

async function runBoot({ say, rounds }: BenchOptions): Promise<BenchResult> {
  const image = await buildImage('boot', { progress: say });
  if (!image.ok) return { bench: 'boot', ok: false, figures: {}, rows: [], complaints: [image.error] };
  const folder = await mkdtemp(join(tmpdir(), 'lockstep-bench-'));
  const complaints: string[] = [];
  const rows: Record<string, string | number | boolean>[] = [];
  const cpuSeconds: Record<Runner['name'], number[]> = { lockstep: [], qemu: [], 'qemu-record': [] };
  const instructions: number[] = [];
  try {
    // Interleaved, so that a slow minute of the host slows them all.
    for (let round = 1; round <= rounds; round++) {
      for (const runner of runners(image.value, folder)) {
        say(`round ${round} of ${rounds}: ${runner.name}`);
        const ran = await measure(runner.program, runner.args, { timeoutSeconds: TIMEOUT_SECONDS });
        const complaint = problem(ran);
        if (complaint !== undefined) complaints.push(`${runner.name}, round ${round}: ${complaint}`);
        else cpuSeconds[runner.name].push(ran.cpuSeconds);
        const count = runner.name === 'lockstep' ? instructionsIn(ran) : undefined;
        if (count !== undefined) instructions.push(count);
        rows.push({
          round,
          runner: runner.name,
          ok: complaint === undefined,
          cpuSeconds: rounded(ran.cpuSeconds),
          seconds: rounded(ran.seconds),
          ...(count !== undefined && { instructions: count }),
        });
      }
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
  const cpu = median(cpuSeconds.lockstep);
  const count = median(instructions);
  const figures = {
    instructions: count,
    cpuSeconds: rounded(cpu),
    mips: rounded(count / cpu / 1e6, 1),
    qemuCpuSeconds: rounded(median(cpuSeconds.qemu)),
    qemuRecordCpuSeconds: rounded(median(cpuSeconds['qemu-record'])),
  };
  return { bench: 'boot', ok: complaints.length === 0, figures, rows, complaints };
}

function runners(image: GuestImage, folder: string): Runner[] {
  const guest = ['-kernel', image.kernel, '-initrd', image.initrd, '-append', image.commandLine];
  const qemu = ['-accel', 'tcg', '-cpu', 'qemu64', '-m', String(MEMORY_MB), '-nographic', '-no-reboot'];
  const record = `shift=auto,rr=record,rrfile=${join(folder, 'qemu.rr')}`;
  return [
    {
      name: 'lockstep',
      program: process.execPath,
      args: [
        join(repositoryRoot(), 'dist/src/cli/main.js'),
        'run',
        ...['--kernel', image.kernel, '--initrd', image.initrd, '--append', image.commandLine],
        ...['--memory', `${MEMORY_MB}M`, '--net', 'none', '--engine', 'interpreter', '--no-reboot', '--json'],
      ],
    },
    { name: 'qemu', program: 'qemu-system-x86_64', args: [...qemu, '-net', 'none', ...guest] },
    {
      name: 'qemu-record',
      program: 'qemu-system-x86_64',
      args: [...qemu, '-net', 'none', '-icount', record, ...guest],
    },
  ];
}

function problem(ran: MeasuredProcess): string | undefined {
  if (ran.exitCode === 127) return 'it is not installed';
  if (ran.exitCode !== 0) return `exit code ${ran.exitCode}: ${ran.errors.trim().split('\n').at(-1)}`;
  if (!ran.output.includes(MARK)) return 'the guest did not reach userland';
  return Number.isFinite(ran.cpuSeconds) ? undefined : 'its time was not measured';
}

/** From the JSON object that `lockstep run --json` ends standard error with. */
function instructionsIn(ran: MeasuredProcess): number | undefined {
  try {
    const report = JSON.parse(ran.errors.trim().split('\n').at(-1) ?? '') as { instructions?: unknown };
    return typeof report.instructions === 'number' ? report.instructions : undefined;
  } catch {
    return undefined;
  }
}
