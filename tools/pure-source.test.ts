// biome-ignore-all lint/suspicious/noTemplateCurlyInString: it is source that is planted.
import { describe, expect, it } from 'vitest';
import { impurities } from './pure-source.ts';

/** Each of these is planted by itself, among source that is pure. */
const BEFORE = `import { assert } from '../base/assert.ts';
/** Math.pow in a comment, and Date.now() too. // */
export class Port {
  readonly #process: string; // performance.now()
  constructor(process_: string) { this.#process = process_; }
  get text(): string { return \`\${this.#process} Date \${[1, 2].map((x) => { return \`\${x / 2} Math.pow\`; }).join('/')}\`; }
}
const quarter = (list: number[]) => list[0]! / 4 + Math.floor(list[1]! / 2) / Math.PI;
const PATTERN = /[/"'\`]|Math\\/'/; const text = 'it\\'s // no comment'; const big = 2 ** 20 + 16 * 16;
`;
const AFTER = '\nexport const shift = (a: number) => a / 2 + Math.max(a, 3) / 2;\n';

const IMPURE: readonly [string, string][] = [
  // Math, other than a plain call of what is exact.
  ['a function that differs', 'const x = Math.pow(y, 1.1);'],
  ['a random number', 'const x = Math.random();'],
  ['destructuring', 'const { pow } = Math;'],
  ['destructuring of what is exact, as of the rest', 'const { floor, ...others } = Math;'],
  ['brackets', "const x = Math['pow'](y, 2);"],
  ['brackets with what is computed', "const x = Math[['p', 'ow'].join('')](y, 2);"],
  ['brackets behind an optional chain', "const x = Math?.['pow'](y, 2);"],
  ['an alias', 'const M = Math;'],
  ['an argument', 'const x = pick(Math, 3);'],
  ['a shorthand property', 'const x = { Math };'],
  ['a spread', 'const x = { ...Math };'],
  ['an exact function that is no call', 'const x = list.map(Math.floor);'],
  ['a function on the next line', 'const x = Math\n  .sin(y);'],
  ['a comment in between', 'const x = Math /* the */ . /* wave */ sin(y);'],
  ['a longer name that begins as an exact one', 'const x = Math.floorplan(y);'],
  ['a cast', 'const x = (Math as unknown as Record<string, never>).pow;'],
  ['the operator', 'const x = y ** 0.5;'],
  ['the operator behind a bracket', 'const x = (y + 1) ** 2;'],
  ['the operator behind a mark', 'const x = y! ** 0.5;'],
  ['the operator that assigns', 'x **= 0.5;'],
  ['in a template', 'const x = `${Math.sin(y)}`;'],
  ['in a template in a template', 'const x = `a ${`b ${Math.sin(y)} c`} d`;'],
  ['behind a string with slashes', "const x = 'http://host'; const y = Math.sin(1);"],
  ['behind a pattern with a quote', "const x = /'/; const y = Math.sin(1);"],
  ['behind a division', 'const x = y! / Math.sin(1) / 2;'],
  // Time.
  ['the date', 'const x = Date.now();'],
  ['a new date', 'const x = new Date();'],
  ['a date without a call', 'const x = new Date;'],
  ['the date destructured', 'const { now } = Date;'],
  ['the date in brackets', "const x = Date['now']();"],
  ['the date by an alias', 'const D = Date;'],
  ['performance', 'const x = performance.now();'],
  ['performance destructured', 'const { now } = performance;'],
  ['performance in brackets', "const x = performance['now']();"],
  ['performance by an alias', 'const clock = performance;'],
  ['the time of the process', 'const x = process.hrtime.bigint();'],
  ['the process destructured', 'const { hrtime } = process;'],
  ['a timer', 'setTimeout(run, 0);'],
  // Randomness.
  ['crypto', 'crypto.getRandomValues(bytes);'],
  ['crypto destructured', 'const { randomUUID } = crypto;'],
  // Through the global object, or made from text.
  ['the global object', 'const x = globalThis.Math.pow(y, 2);'],
  ['the global object in brackets', "const x = globalThis['Date'];"],
  ['the global object by an alias', 'const g = globalThis;'],
  ['the global object destructured', 'const { Math: m } = globalThis;'],
  ['reflection', "const x = Reflect.get(scope, 'Date');"],
  ['eval', "const x = eval('Date');"],
  ['eval by an alias', "const x = (0, eval)('this');"],
  ['a function made from text', "const x = new Function('return this')();"],
  ['the constructor of a function', "const x = (() => 1).constructor('return this')();"],
  ['the constructor in brackets', "const x = run['constructor']('return this')();"],
  ['the constructor destructured', 'const { constructor: make } = run;'],
  ['a name with an escape', 'const x = M\\u0061th.pow(y, 2);'],
  ['require', "const x = require('node:os');"],
  ['an import that is an expression', "const x = import('node:os');"],
  ['import.meta', 'const x = import.meta.url;'],
  // The compiler told otherwise.
  ['a declared value', 'declare const console: { time(): void };'],
  ['a declared function', 'declare function now(): number;'],
  ['a silenced line', '// @ts-ignore\nconst x = window.y;'],
  ['another silenced line', '// @ts-expect-error: no types\nconst x = window.y;'],
  ['types of Node', '/// <reference types="node" />'],
  // What is ready when, and for whom.
  ['an async function', 'async function run() {}'],
  ['an async arrow', 'const x = async () => 1;'],
  ['await', 'const x = await y;'],
  ['a promise', 'const x = Promise.resolve(1);'],
  ['a microtask', 'queueMicrotask(run);'],
  ['a weak reference', 'const x = new WeakRef(y);'],
  ['a wait for another thread', 'Atomics.wait(words, 0, 0, 5);'],
  ['a locale', 'const x = y.toLocaleString();'],
  ['an order of the locale', 'const x = a.localeCompare(b);'],
  ['an order of the locale by name', 'const x = new Intl.Collator();'],
  // What could hide the rest of a file.
  ['a string without an end', "const x = 'y"],
  ['a comment without an end', '/* x'],
  ['a template without an end', 'const x = `y ${1'],
];

const PURE: readonly [string, string][] = [
  ['exact functions', 'const x = Math.imul(Math.clz32(a), Math.trunc(b)) + Math\n  .min(c, d);'],
  ['constants', 'const x = Math.PI * Math.SQRT2;'],
  ['powers of two and of bigints', 'const x = 2 ** y + Number(2n ** 64n) + 256 ** 2;'],
  ['names that contain one', 'const mathematics = 1; const dateOf = 2; const reprocess = 3;'],
  ['properties', 'const x = vm.process + this.#process + port.performance;'],
  ['names in strings and templates', "const x = 'Date.now()' + `Math.pow(${y}) await`;"],
  ['symbols of units', 'declare const unit: unique symbol;'],
  ['the stop word', 'const x = Atomics.load(words, 0);'],
];

describe('the scan of pure source', () => {
  it('leaves what is around the plants alone', () => {
    expect(impurities(BEFORE + AFTER)).toEqual([]);
  });

  it.each(IMPURE)('tells: %s', (_, line) => {
    expect(impurities(line)).not.toEqual([]);
    expect(impurities(BEFORE + line + AFTER)).not.toEqual([]);
  });

  it.each(PURE)('does not tell: %s', (_, line) => {
    expect(impurities(BEFORE + line + AFTER)).toEqual([]);
  });
});
