import { spawn } from 'node:child_process';

export interface MeasuredProcess {
  /** User and system time of the process and of all that it waited for. */
  readonly cpuSeconds: number;
  readonly seconds: number;
  readonly exitCode: number;
  readonly output: string;
  readonly errors: string;
}

const TIME_MARK = 'lockstep-time';

/** Runs a program to its end and tells what it cost; the shell's `time` knows, whatever the program is. */
export function measure(
  program: string,
  args: readonly string[],
  options: { readonly timeoutSeconds: number },
): Promise<MeasuredProcess> {
  const script = `TIMEFORMAT='${TIME_MARK} %3R %3U %3S'; time timeout -k 5 ${options.timeoutSeconds} "$@"`;
  return new Promise((resolve, reject) => {
    const child = spawn('bash', ['-c', script, 'measure', program, ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, LC_ALL: 'C' },
    });
    const output: Buffer[] = [];
    const errors: Buffer[] = [];
    child.stdout.on('data', (chunk: Buffer) => output.push(chunk));
    child.stderr.on('data', (chunk: Buffer) => errors.push(chunk));
    child.on('error', reject);
    child.on('close', (code) => {
      const complaint = Buffer.concat(errors).toString();
      const times = new RegExp(`${TIME_MARK} (\\S+) (\\S+) (\\S+)\\s*$`).exec(complaint);
      const [seconds, user, system] = (times ?? []).slice(1).map(Number);
      resolve({
        seconds: seconds ?? Number.NaN,
        cpuSeconds: (user ?? Number.NaN) + (system ?? Number.NaN),
        exitCode: code ?? -1,
        output: Buffer.concat(output).toString(),
        errors: complaint.slice(0, times?.index ?? complaint.length),
      });
    });
  });
}
