import { failed, ok, type Result } from '../../src/base/result.ts';

/** One block of tests/programs/list. */
export interface Program {
  readonly name: string;
  readonly fast: boolean;
  /** Only the generic kernel lets it do what it does. */
  readonly generic: boolean;
  readonly seconds: number;
  readonly files: readonly string[];
  /** Names of sources.ts. */
  readonly sources: readonly string[];
  readonly script: string;
  /** The whole output, or undefined where only patterns are told. */
  readonly output: string | undefined;
  readonly patterns: readonly RegExp[];
}

/** Reads the list; an error names the line. */
export function readList(text: string): Result<Program[]> {
  const programs: Program[] = [];
  let line = 0;
  for (const block of text.split(/\n{2,}/)) {
    const lines = block.split('\n');
    const first = line + 1;
    line += lines.length + 1;
    const told = lines.filter((each) => each !== '' && !each.startsWith('#'));
    if (told.length === 0) continue;
    const program = readBlock(told);
    if (!program.ok) return failed(`the block at line ${first}: ${program.error}`);
    if (programs.some(({ name }) => name === program.value.name))
      return failed(`the block at line ${first}: ${program.value.name} is there already`);
    programs.push(program.value);
  }
  return ok(programs);
}

function readBlock(lines: readonly string[]): Result<Program> {
  const head = /^program ([a-z0-9-]+)( fast)?( generic)?(?: seconds (\d+))?$/.exec(lines[0] ?? '');
  if (head === null) return failed(`'${lines[0]}' is no head of a program`);
  const files: string[] = [];
  const sources: string[] = [];
  const script: string[] = [];
  const output: string[] = [];
  const patterns: RegExp[] = [];
  for (const line of lines.slice(1)) {
    if (line.startsWith('files ')) files.push(...line.slice(6).split(' '));
    else if (line.startsWith('source ')) sources.push(...line.slice(7).split(' '));
    else if (line.startsWith('| ')) script.push(line.slice(2));
    else if (line === '=' || line.startsWith('= ')) output.push(line.slice(2));
    else if (line.startsWith('~ ')) patterns.push(new RegExp(line.slice(2), 'm'));
    else return failed(`'${line}' starts with none of | = ~ files source`);
  }
  const name = head[1] ?? '';
  if (script.length === 0) return failed(`${name} has no command`);
  if ((output.length === 0) === (patterns.length === 0)) return failed(`${name} needs either = or ~ lines`);
  return ok({
    name,
    fast: head[2] !== undefined,
    generic: head[3] !== undefined,
    seconds: Number(head[4] ?? 1800),
    files,
    sources,
    script: `${script.join('\n')}\n`,
    output: output.length === 0 ? undefined : output.join('\n'),
    patterns,
  });
}

export interface Verdict {
  readonly name: string;
  /** undefined: as it must be. */
  readonly problem: string | undefined;
}

/** Judges what the guest's console shows of each program. */
export function judge(programs: readonly Program[], console: string): Verdict[] {
  const text = console.replaceAll('\r', '');
  return programs.map((program) => ({ name: program.name, problem: problemOf(program, text) }));
}

/** undefined: the program did what it must; `text` is the console without carriage returns. */
export function problemOf(program: Program, text: string): string | undefined {
  const begin = `LOCKSTEP-PROGRAM begin ${program.name}\n`;
  const from = text.indexOf(begin);
  if (from < 0) return 'it never began';
  const rest = text.slice(from + begin.length);
  const end = new RegExp(`\\n?^LOCKSTEP-PROGRAM end ${program.name} (\\d+) .*$`, 'm').exec(rest);
  if (end === null) return `it never ended; its output so far:\n${rest.slice(-2000)}`;
  const said = rest.slice(0, end.index).trimEnd();
  if (end[1] !== '0') return `it ended with ${end[1]}:\n${said}`;
  if (program.output !== undefined && said !== program.output.trimEnd())
    return difference(program.output.trimEnd().split('\n'), said.split('\n'));
  const missing = program.patterns.find((pattern) => !pattern.test(said));
  return missing === undefined ? undefined : `no ${missing} in:\n${said}`;
}

function difference(expected: readonly string[], said: readonly string[]): string {
  const wrong: string[] = [];
  for (let i = 0; i < Math.max(expected.length, said.length) && wrong.length < 12; i++)
    if (expected[i] !== said[i])
      wrong.push(`line ${i + 1}: expected '${expected[i] ?? ''}', got '${said[i] ?? ''}'`);
  return wrong.join('\n');
}
