import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';

/** What docs/PAPER.md and docs/QUESTIONS.md name as a proof is there. */

const PATH = /^(?:src|tests|sim|bench|tools|fuzz|docs)\/[\w./-]*$/;

/** Every source file at or below `path`, as one text. */
function sourceOf(path: string): string {
  if (!existsSync(path)) return '';
  if (statSync(path).isFile()) return readFileSync(path, 'utf8');
  return readdirSync(path, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts'))
    .map((name) => readFileSync(join(path, name), 'utf8'))
    .join('\n');
}

/** What is wrong with one row: a file that is not there, or a test that the file named before it does not have. */
function problemsOf(row: string): string[] {
  const found: string[] = [];
  let tests = '';
  for (const [, code, name] of row.matchAll(/`([^`]+)`|\*([^*|]+)\*/g)) {
    if (code !== undefined && PATH.test(code)) {
      if (!existsSync(code)) found.push(`${code} does not exist`);
      if (code.endsWith('.test.ts')) tests = code;
    } else if (name !== undefined && tests === '') {
      found.push(`no test file before: ${name}`);
    } else if (name !== undefined && !sourceOf(tests).includes(name)) {
      found.push(`${tests} has no test: ${name}`);
    }
  }
  return found;
}

/** What is wrong with the commands of a text: `npx vitest run PATH [-t WORDS]`, or `PATH -t WORDS` after one. */
function commandProblemsOf(text: string): string[] {
  const found: string[] = [];
  for (const [, command = ''] of text.matchAll(/`([^`]+)`/g)) {
    const parts =
      /^(?:npx vitest run )?((?:src|sim|tests|tools)(?:\/\S*)?)(?: -t (?:"([^"]+)"|(\S+)))?$/.exec(
        command.replaceAll(/\s+/g, ' '),
      );
    if (!parts) {
      if (command.startsWith('npx vitest')) found.push(`not understood: ${command}`);
      continue;
    }
    const [, path = '', quoted, word] = parts;
    const words = quoted ?? word;
    if (!existsSync(path)) found.push(`${path} does not exist`);
    else if (words !== undefined && !sourceOf(path).includes(words)) found.push(`${path} has no "${words}"`);
  }
  return found;
}

const paper = readFileSync('docs/PAPER.md', 'utf8');

test('every file and test that the rows of the paper name exists', () => {
  const rows = paper.split('\n').filter((line) => /^\| [1-7]/.test(line));
  expect(rows.flatMap(problemsOf)).toEqual([]);
  expect(rows.length).toBeGreaterThan(30);
});

test('every section of the paper has a row', () => {
  const sections = new Set([...paper.matchAll(/^\| ([\d.]+) \|/gm)].map(([, section]) => section));
  const wanted = '1 2.1 2.2 2.3 3.1 3.2 3.3 3.4 3.5 4.1 4.2 5 6 7'.split(' ');
  expect(wanted.filter((section) => !sections.has(section))).toEqual([]);
});

test('every command that answers a question names what exists', () => {
  expect(commandProblemsOf(readFileSync('docs/QUESTIONS.md', 'utf8'))).toEqual([]);
});

test('what is not there is noticed', () => {
  const row = '| 2 | x | `src/ft/primary.ts` | `src/ft/rules.test.ts`: *Output Rule* |';
  expect(problemsOf(row)).toEqual([]);
  expect(problemsOf(row.replace('primary', 'secondary'))).toHaveLength(1);
  expect(problemsOf(row.replace('Output Rule', 'Output Rune'))).toHaveLength(1);
  expect(problemsOf('| 2 | x | `src/ft/primary.ts` | *Output Rule* |')).toHaveLength(1);
  expect(commandProblemsOf('`npx vitest run src/ft/rules.test.ts -t Order`')).toEqual([]);
  expect(commandProblemsOf('`npx vitest run\nsrc/ft/rules.test.ts -t "no such words"`')).toHaveLength(1);
  expect(commandProblemsOf('`npx vitest run src/ft/rule.test.ts`')).toHaveLength(1);
});
