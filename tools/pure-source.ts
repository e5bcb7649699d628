/**
 * What the source of the machine must not name (design 3 and 9): clocks, randomness, results that differ between
 * versions or hosts, promises, and every way round to them. Names, not meanings: whatever is no plain use of what is
 * allowed is told, so that destructuring, brackets and aliases have nothing to begin from.
 */

/** Exact on every host [ECMA-262 21.3.2]; any other function of Math may differ in its last bit, or always. */
const EXACT_FUNCTIONS = 'abs|ceil|clz32|floor|fround|imul|max|min|round|sign|sqrt|trunc';

const MATH_AS_ALLOWED = new RegExp(
  `^Math\\s*\\.\\s*(?:(?:${EXACT_FUNCTIONS})\\s*\\(|(?:E|LN10|LN2|LOG10E|LOG2E|PI|SQRT1_2|SQRT2)\\b(?!\\s*\\())`,
);

/** Not to be named at all, except as a property of something (`port.process`) or a private name. */
const FORBIDDEN_NAMES = new Set([
  // Time and randomness.
  ...['Date', 'performance', 'Temporal', 'crypto', 'process', 'setTimeout', 'setInterval', 'setImmediate'],
  // What is ready when, or collected when.
  ...['Promise', 'async', 'await', 'queueMicrotask', 'WeakRef', 'FinalizationRegistry'],
  // Locale.
  'Intl',
  // The ways round: everything above by another name.
  ...['globalThis', 'eval', 'Function', 'Reflect', 'require'],
]);

/** Properties of any value that lead to a locale, or to `Function`. */
const FORBIDDEN_PROPERTIES = /^(?:toLocale\w*|localeCompare|constructor)$/;
const CONSTRUCTOR_IN_BRACKETS = /\[\s*(['"`])constructor\1\s*\]/g;

/** The compiler refuses every name that it does not know, unless it is told otherwise: it must not be. */
const COMPILER_TOLD_OTHERWISE = /@ts-(?:ignore|expect-error|nocheck)|^\s*\/\/\/\s*<reference\b.*/gm;
const DECLARED = /\bdeclare\s+(?:const|let|var|function|class|global|namespace|module)\s+[\w$]+/g;
/** A type is no value: `declare const unit: unique symbol` makes units of measure. */
const DECLARED_SYMBOL = /\bdeclare\s+const\s+\w+\s*:\s*unique\s+symbol\b/g;

/** What `text` names and must not, as it stands there; nothing for source that is pure. */
export function impurities(text: string): string[] {
  const found = [...text.matchAll(COMPILER_TOLD_OTHERWISE)].map(([what]) => what.trim());
  const code = codeOf(text);
  if (code === undefined) return [...found, 'a string, comment or pattern without an end'];
  for (const [what] of code.replaceAll(DECLARED_SYMBOL, '').matchAll(DECLARED)) found.push(what);
  // What stands in strings is passed over, so this one is looked for in the whole text.
  for (const [what] of text.matchAll(CONSTRUCTOR_IN_BRACKETS)) found.push(what);
  // Names can be spelled with escapes; nobody needs that.
  for (const [what] of code.matchAll(/\\u\{?[0-9a-fA-F]+/g)) found.push(what);
  for (const [what] of code.matchAll(/\bimport\s*(?:\(|\.\s*meta)/g)) found.push(what);
  for (const { 0: name, index } of code.matchAll(/[A-Za-z_$][\w$]*/g)) {
    const before = code.slice(Math.max(0, index - 40), index);
    const property = /#$|(?<!\.\.)\.\s*$/.test(before);
    const rest = code.slice(index, index + 80);
    const line = rest.split('\n')[0]!.slice(0, 40).trim();
    if (property ? FORBIDDEN_PROPERTIES.test(name) : FORBIDDEN_NAMES.has(name)) found.push(line);
    else if (!property && name === 'Math' && !MATH_AS_ALLOWED.test(rest)) found.push(line);
    else if (name === 'constructor' && !/^constructor\s*\(/.test(rest)) found.push(line);
    // The machine's stop word is read, and nothing waits for another thread.
    else if (!property && name === 'Atomics' && !/^Atomics\s*\.\s*load\s*\(/.test(rest)) found.push(line);
  }
  // The operator is Math.pow: a power of two is exact, and so is one of bigints.
  for (const { index } of code.matchAll(/\*\*/g)) {
    const before = code.slice(Math.max(0, index - 40), index).trimEnd();
    const base = /[\w$.]*$/.exec(before)![0];
    if (!/^(?:2|256|\d+n)$/.test(base)) found.push(`${before.slice(-20)} **`.trim());
  }
  return found;
}

/** A slash after these begins a pattern; after anything else it divides. */
const PATTERN_MAY_FOLLOW =
  /(?:^|[(,=:[&|?{};+\-*%<>~^]|(?<![\w$)\]])!|\b(?:return|typeof|case|in|of|void|delete|throw|else|do))\s*$/;

/** What is passed over, by how it begins. */
const PASSED = {
  comment: /\/\/.*|\/\*[\s\S]*?\*\//y,
  string: /'(?:[^'\\\n]|\\[\s\S])*'|"(?:[^"\\\n]|\\[\s\S])*"/y,
  pattern: /\/(?:[^/\\[\n]|\\.|\[(?:[^\]\\\n]|\\.)*\])+\/\w*/y,
  /** A piece of a template, to its end or to the next expression in it. */
  template: /[`}](?:[^`\\$]|\\[\s\S]|\$(?!\{))*(?:`|\$\{)/y,
};

/** The source without comments and without what stands in strings and patterns; undefined when one has no end. */
function codeOf(text: string): string | undefined {
  let code = '';
  /** Of each expression in a template, innermost last: how many braces are open in it. */
  const open: number[] = [];
  for (let at = 0; at < text.length; ) {
    const character = text[at]!;
    const resumed = character === '}' && open.at(-1) === 0;
    let kind: keyof typeof PASSED | undefined;
    if (text.startsWith('//', at) || text.startsWith('/*', at)) kind = 'comment';
    else if (character === "'" || character === '"') kind = 'string';
    else if (character === '`' || resumed) kind = 'template';
    else if (character === '/' && PATTERN_MAY_FOLLOW.test(code.slice(-40))) kind = 'pattern';
    if (kind === undefined) {
      if (open.length > 0 && character === '{') open[open.length - 1]! += 1;
      if (open.length > 0 && character === '}') open[open.length - 1]! -= 1;
      code += character;
      at += 1;
      continue;
    }
    PASSED[kind].lastIndex = at;
    const piece = PASSED[kind].exec(text)?.[0];
    if (piece === undefined) return undefined;
    at += piece.length;
    if (kind === 'comment') code += piece.includes('\n') ? '\n' : ' ';
    else if (kind !== 'template') code += '""';
    else {
      const goesOn = piece.endsWith('${');
      if (resumed) open.pop();
      if (goesOn) open.push(0);
      code += `${resumed ? ')' : '""'}${goesOn ? '+(' : ''}`;
    }
  }
  return open.length === 0 ? code : undefined;
}
