import { type Form, type FormOptions, form } from './form.ts';

const forms: Form[] = [];
function add(mnemonic: string, encodings: string, options: FormOptions = {}): void {
  for (const encoding of encodings.split(', ')) forms.push(form(mnemonic, encoding, { ...options }));
}
const C0 = 0x100;
const C1 = 0x200;
const C2 = 0x400;
const C3 = 0x4000;
/** Instructions that say nothing about a condition bit leave it undefined [SDM 1 8.1.3.3]. */
const NOT_C1 = C0 | C2 | C3;
const ALL = NOT_C1 | C1;

const NAMES = ['fadd', 'fmul', 'fcom', 'fcomp', 'fsub', 'fsubr', 'fdiv', 'fdivr'];
for (const [digit, name] of NAMES.entries()) {
  const undefinedStatus = name.startsWith('fcom') ? 0 : NOT_C1;
  add(name, `D8 /${digit} m`, { data: 'f32', undefinedStatus });
  add(name, `DC /${digit} m`, { data: 'f64', undefinedStatus });
  add(`fi${name.slice(1)}`, `DA /${digit} m`, { data: 'i32', undefinedStatus });
  add(`fi${name.slice(1)}`, `DE /${digit} m`, { data: 'i16', undefinedStatus });
  add(name, `D8 ${(0xc0 + digit * 8).toString(16).toUpperCase()}+r`, { undefinedStatus });
  add(name, `DC ${(0xc0 + digit * 8).toString(16).toUpperCase()}+r`, { undefinedStatus });
  if (digit !== 3)
    add(`${name}p`, `DE ${(0xc0 + digit * 8).toString(16).toUpperCase()}+r`, { undefinedStatus });
}
add('fcompp', 'DE D9');
add('fucompp', 'DA E9');
add('fucom', 'DD E0+r, DD E8+r');
add('fcomi', 'DB E8+r, DB F0+r, DF E8+r, DF F0+r', { undefinedStatus: NOT_C1 });
add('fcmov', 'DA C0+r, DA C8+r, DA D0+r, DA D8+r, DB C0+r, DB C8+r, DB D0+r, DB D8+r', {
  undefinedStatus: NOT_C1,
});

const moves = { undefinedStatus: NOT_C1 };
add('fld', 'D9 /0 m', { ...moves, data: 'f32' });
add('fld', 'DD /0 m', { ...moves, data: 'f64' });
add('fld', 'DB /5 m', { ...moves, data: 'f80' });
add('fld', 'D9 C0+r', moves);
add('fst', 'D9 /2 m, D9 /3 m, DD /2 m, DD /3 m, DB /7 m, DD D0+r, DD D8+r', moves);
add('fild', 'DF /0 m', { ...moves, data: 'i16' });
add('fild', 'DB /0 m', { ...moves, data: 'i32' });
add('fild', 'DF /5 m', { ...moves, data: 'i64' });
add('fist', 'DF /2 m, DF /3 m, DB /2 m, DB /3 m, DF /7 m', moves);
add('fbld', 'DF /4 m', { ...moves, data: 'bcd' });
add('fbstp', 'DF /6 m', moves);
add('fxch', 'D9 C8+r, DD C8+r, DF C8+r', moves);
add('fld constant', 'D9 E8, D9 E9, D9 EA, D9 EB, D9 EC, D9 ED, D9 EE', moves);
add('fchs', 'D9 E0, D9 E1', moves);
add('ftst', 'D9 E4');
add('fxam', 'D9 E5');
add('fsqrt', 'D9 FA', moves);
add('frndint', 'D9 FC', moves);
add('fscale', 'D9 FD', moves);
add('fxtract', 'D9 F4', moves);
add('fprem', 'D9 F8, D9 F5');
add('fdecstp', 'D9 F6, D9 F7', { undefinedStatus: NOT_C1 });
add('ffree', 'DD C0+r, DF C0+r', { undefinedStatus: ALL });
add('fnop', 'D9 D0, DB E0, DB E1, DB E4', { undefinedStatus: ALL });
add('transcendental', 'D9 F0, D9 F1, D9 F9, D9 F2, D9 F3', {
  undefinedStatus: ALL,
  inexact: 'transcendental',
});
add('fsin', 'D9 FB, D9 FE, D9 FF', { undefinedStatus: C0 | C1 | C3, inexact: 'transcendental' });

add('fldcw', 'D9 /5 m', { setup: 'environment', undefinedStatus: ALL });
add('fnstcw', 'D9 /7 m', { undefinedStatus: ALL });
add('fnstsw', 'DD /7 m, DF E0', { undefinedStatus: ALL });
add('fnclex', 'DB E2', { undefinedStatus: ALL });
add('fninit', 'DB E3');
add('fldenv', 'D9 /4 m', { setup: 'environment' });
add('fnstenv', 'D9 /6 m', { undefinedStatus: ALL });
add('frstor', 'DD /4 m', { setup: 'environment' });
add('fnsave', 'DD /6 m');
add('fwait', '9B', { undefinedStatus: ALL });
add('ud', 'D9 D8, D9 E2, D9 EF, DB E5, DB F8, DD F0, DF E1, DA E0, D9 /1 m, DB /4 m, DD /5 m, DB /6 m');
add('undocumented', 'DC D0+r, DE D0+r, DF D0+r, DF D8+r');

export const X87_FORMS: readonly Form[] = forms;
