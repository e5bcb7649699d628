import { type Form, type FormOptions, form } from './form.ts';

const forms: Form[] = [];
function add(mnemonic: string, encodings: string, options: FormOptions = {}): void {
  for (const encoding of encodings.split(', ')) forms.push(form(mnemonic, encoding, options));
}
const f32 = { data: 'f32' } as const;
const f64 = { data: 'f64' } as const;

/** Packed and scalar, single and double: NP, 66, F3, F2. */
function arithmetic(mnemonic: string, tail: string, options: FormOptions = {}): void {
  add(`${mnemonic}ps`, `NP 0F ${tail}`, { ...f32, ...options });
  add(`${mnemonic}pd`, `66 0F ${tail}`, { ...f64, ...options });
  add(`${mnemonic}ss`, `F3 0F ${tail}`, { ...f32, ...options });
  add(`${mnemonic}sd`, `F2 0F ${tail}`, { ...f64, ...options });
}
arithmetic('sqrt', '51 /r');
arithmetic('add', '58 /r');
arithmetic('mul', '59 /r');
arithmetic('sub', '5C /r');
arithmetic('min', '5D /r');
arithmetic('div', '5E /r');
arithmetic('max', '5F /r');
arithmetic('cmp', 'C2 /r ib');
add('rsqrt', 'NP 0F 52 /r, F3 0F 52 /r', { ...f32, inexact: 'reciprocal' });
add('rcp', 'NP 0F 53 /r, F3 0F 53 /r', { ...f32, inexact: 'reciprocal' });
add('comis', 'NP 0F 2E /r, NP 0F 2F /r', f32);
add('comid', '66 0F 2E /r, 66 0F 2F /r', f64);
for (const opcode of ['54', '55', '56', '57']) add('logic', `NP 0F ${opcode} /r, 66 0F ${opcode} /r`);

add('cvt', 'NP 0F 5A /r, F3 0F 5A /r, 66 0F 5B /r, F3 0F 5B /r, F3 0F 2C /r, F3 0F 2D /r', f32);
add('cvt', '66 0F 5A /r, F2 0F 5A /r, F2 0F 2C /r, F2 0F 2D /r, 66 0F E6 /r, F2 0F E6 /r', f64);
add('cvt', 'NP 0F 5B /r, F3 0F E6 /r', { data: 'i32' });
add('cvt', 'F3 0F 2A /r, F2 0F 2A /r', { data: 'i64' });

add('mov', 'NP 0F 10 /r, NP 0F 11 /r, 66 0F 10 /r, 66 0F 11 /r');
add('mov', 'F3 0F 10 /r, F3 0F 11 /r, F2 0F 10 /r, F2 0F 11 /r');
add('movhlps', 'NP 0F 12 /r, NP 0F 16 /r');
add('movl', '66 0F 12 /r m, NP 0F 13 /r m, 66 0F 13 /r m');
add('movh', '66 0F 16 /r m, NP 0F 17 /r m, 66 0F 17 /r m');
add('unpck', 'NP 0F 14 /r, NP 0F 15 /r, 66 0F 14 /r, 66 0F 15 /r');
add('mova', 'NP 0F 28 /r, NP 0F 29 /r, 66 0F 28 /r, 66 0F 29 /r');
add('movnt', 'NP 0F 2B /r m, 66 0F 2B /r m, 66 0F E7 /r m');
add('movmsk', 'NP 0F 50 /r r, 66 0F 50 /r r, 66 0F D7 /r r');
add('shuf', 'NP 0F C6 /r ib, 66 0F C6 /r ib');
add('movd', '66 0F 6E /r, 66 0F 7E /r');
add('movq', 'F3 0F 7E /r, 66 0F D6 /r');
add('movdq', '66 0F 6F /r, 66 0F 7F /r, F3 0F 6F /r, F3 0F 7F /r');
add('pshuf', '66 0F 70 /r ib, F3 0F 70 /r ib, F2 0F 70 /r ib');
add('pinsrw', '66 0F C4 /r ib');
add('pextrw', '66 0F C5 /r r ib');
add('maskmovdqu', '66 0F F7 /r r', { setup: 'mask-store' });

const INTEGER_OPCODES =
  '60 61 62 63 64 65 66 67 68 69 6A 6B 6C 6D 74 75 76 D4 D5 D8 D9 DA DB DC DD DE DF E0 E3 E4 E5 E8 E9 EA EB EC ' +
  'ED EE EF F4 F5 F6 F8 F9 FA FB FC FD FE';
for (const opcode of INTEGER_OPCODES.split(' ')) add(`p${opcode}`, `66 0F ${opcode} /r`);
for (const opcode of ['D1', 'D2', 'D3', 'E1', 'E2', 'F1', 'F2', 'F3']) {
  add('pshift', `66 0F ${opcode} /r`, { data: 'shift-count' });
}
for (const tail of [
  '71 /2',
  '71 /4',
  '71 /6',
  '72 /2',
  '72 /4',
  '72 /6',
  '73 /2',
  '73 /3',
  '73 /6',
  '73 /7',
]) {
  add('pshift', `66 0F ${tail} r ib`);
}
add('ldmxcsr', 'NP 0F AE /2 m', { setup: 'ldmxcsr' });
add('stmxcsr', 'NP 0F AE /3 m');
add('fxsave', 'NP 0F AE /0 m', { setup: 'fxsave' });
add('fxrstor', 'NP 0F AE /1 m', { setup: 'fxrstor' });
add('clflush', 'NP 0F AE /7 m');

export const SSE_FORMS: readonly Form[] = forms;
