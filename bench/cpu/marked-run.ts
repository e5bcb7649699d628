import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { MarkReader } from './marks.ts';
import { treeUse } from './process-tree.ts';
import type { ToldMark } from './replay-child.ts';
import { Spans } from './spans.ts';

export interface MarkedRun {
  readonly spans: Spans;
  /** Of the whole process tree, when the last workload had ended. */
  readonly peakMemoryMB: number;
  readonly errors: string;
  /** Why it may not be believed. */
  readonly problem: string | undefined;
}

export interface MarkedRunOptions {
  readonly timeoutSeconds: number;
  /** It does not end by itself: it is ended after the last mark. */
  readonly endless?: boolean;
  /** It prints ToldMarks, one JSON object per line. */
  readonly tellsItself?: boolean;
}

const ERRORS_KEPT = 65_536;

/** Runs a program that prints marks and reads the CPU time of all its processes at each of them. */
export function markedRun(
  program: string,
  args: readonly string[],
  { timeoutSeconds, endless = false, tellsItself = false }: MarkedRunOptions,
): Promise<MarkedRun> {
  return new Promise((resolve) => {
    const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    const spans = new Spans({ cpu: 0, seconds: performance.now() / 1000 });
    let peakMemoryMB = 0;
    let errors = '';
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      child.kill('SIGKILL');
    }, timeoutSeconds * 1000);
    const reader = new MarkReader((mark) => {
      const use = treeUse(child.pid ?? 0);
      spans.mark(mark, { cpu: use.cpuSeconds, seconds: performance.now() / 1000 });
      peakMemoryMB = Math.max(peakMemoryMB, use.peakMemoryMB);
      if (endless && spans.finished) child.kill('SIGKILL');
    });
    if (tellsItself) {
      createInterface({ input: child.stdout }).on('line', (line) => {
        const { cpu, instructions, ...mark } = JSON.parse(line) as ToldMark;
        spans.mark(mark, { cpu, instructions });
      });
    } else child.stdout.setEncoding('latin1').on('data', (text: string) => reader.push(text));
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      errors = (errors + text).slice(-ERRORS_KEPT);
    });
    const end = (problem: string | undefined) => {
      clearTimeout(timer);
      resolve({ spans, peakMemoryMB, errors, problem });
    };
    child.on('error', (error: NodeJS.ErrnoException) =>
      end(error.code === 'ENOENT' ? `${program} is not installed` : error.message),
    );
    child.on('close', (code) => {
      const lastWords = errors.trim().split('\n').at(-1) ?? '';
      if (late) end(`it did not end within ${timeoutSeconds} s`);
      else if (!endless && code !== 0) end(`exit code ${code}: ${lastWords}`);
      else end(spans.finished ? undefined : `the guest did not do all its work: ${lastWords}`);
    });
  });
}

/** A runner that is not there. */
export function notRun(problem: string): MarkedRun {
  return { spans: new Spans({ cpu: 0 }), peakMemoryMB: 0, errors: '', problem };
}
