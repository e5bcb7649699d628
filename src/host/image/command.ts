import { spawn } from 'node:child_process';
import { failed, ok, type Result } from '../../base/result.ts';

export interface CommandOptions {
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
  /** Each whole line of its standard error as it comes. */
  readonly onLine?: (line: string) => void;
}

/** Runs a program without a shell. An error is one line: the program's own last words, or that it is missing. */
export function runCommand(
  program: string,
  args: readonly string[],
  options: CommandOptions = {},
): Promise<Result<string>> {
  return new Promise((resolve) => {
    const child = spawn(program, args, {
      cwd: options.cwd,
      env: { ...process.env, LC_ALL: 'C', ...options.env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const output: Buffer[] = [];
    let complaint = '';
    let line = '';
    child.stdout.on('data', (chunk: Buffer) => output.push(chunk));
    child.stderr.on('data', (chunk: Buffer) => {
      complaint = (complaint + chunk.toString()).slice(-4096);
      const lines = (line + chunk.toString()).split('\n');
      line = lines.pop() ?? '';
      for (const each of lines) options.onLine?.(each);
    });
    child.on('error', (error: NodeJS.ErrnoException) => {
      resolve(
        failed(error.code === 'ENOENT' ? `${program} is not installed` : `${program}: ${error.message}`),
      );
    });
    child.on('close', (code, signal) => {
      if (code === 0) return resolve(ok(Buffer.concat(output).toString()));
      const lines = complaint.split('\n').filter((line) => line.trim() !== '');
      const words =
        lines.findLast((line) => line.startsWith('E:')) ?? lines.at(-1) ?? `ended with ${signal ?? code}`;
      resolve(failed(`${program}: ${words.replace(/^E: /, '')}`));
    });
  });
}
