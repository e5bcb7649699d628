import { type Form, type FormOptions, form } from './form.ts';

const forms: Form[] = [];
function add(mnemonic: string, encodings: string, options: FormOptions = {}): void {
  for (const encoding of encodings.split(', ')) forms.push(form(mnemonic, encoding, options));
}

const INTEGER_OPCODES =
  '60 61 62 63 64 65 66 67 68 69 6A 6B 74 75 76 D4 D5 D8 D9 DA DB DC DD DE DF E0 E3 E4 E5 E8 E9 EA EB EC ED EE ' +
  'EF F4 F5 F6 F8 F9 FA FB FC FD FE';
for (const opcode of INTEGER_OPCODES.split(' ')) add(`mmx ${opcode}`, `NP 0F ${opcode} /r`);
for (const opcode of ['D1', 'D2', 'D3', 'E1', 'E2', 'F1', 'F2', 'F3']) {
  add('mmx shift', `NP 0F ${opcode} /r`, { data: 'shift-count' });
}
for (const tail of ['71 /2', '71 /4', '71 /6', '72 /2', '72 /4', '72 /6', '73 /2', '73 /6']) {
  add('mmx shift', `NP 0F ${tail} r ib`);
}
add('mmx movd', 'NP 0F 6E /r, NP 0F 7E /r');
add('mmx movq', 'NP 0F 6F /r, NP 0F 7F /r');
add('movntq', 'NP 0F E7 /r m');
add('pshufw', 'NP 0F 70 /r ib');
add('mmx pinsrw', 'NP 0F C4 /r ib');
add('mmx pextrw', 'NP 0F C5 /r r ib');
add('mmx pmovmskb', 'NP 0F D7 /r r');
add('maskmovq', 'NP 0F F7 /r r', { setup: 'mask-store' });
add('movq2dq', 'F3 0F D6 /r r');
add('movdq2q', 'F2 0F D6 /r r');
add('emms', 'NP 0F 77');
add('cvtpi', 'NP 0F 2A /r, 66 0F 2A /r', { data: 'i32' });
add('cvtpi', 'NP 0F 2C /r, NP 0F 2D /r', { data: 'f32' });
add('cvtpi', '66 0F 2C /r, 66 0F 2D /r', { data: 'f64' });

export const MMX_FORMS: readonly Form[] = forms;
