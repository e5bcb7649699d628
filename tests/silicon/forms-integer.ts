import { type Form, type FormOptions, form } from './form.ts';

const forms: Form[] = [];
function add(mnemonic: string, encodings: string, options: FormOptions = {}): void {
  for (const encoding of encodings.split(', ')) forms.push(form(mnemonic, encoding, options));
}
const hex = (value: number) => value.toString(16).toUpperCase().padStart(2, '0');

for (const [index, name] of ['add', 'or', 'adc', 'sbb', 'and', 'sub', 'xor', 'cmp'].entries()) {
  const options = {
    ...(name === 'or' || name === 'and' || name === 'xor' ? { undefined: 'a' } : {}),
    lock: name !== 'cmp',
  };
  const at = (offset: number) => hex(index * 8 + offset);
  add(name, `${at(0)} /r, ${at(1)} /r`, options);
  add(name, `82 /${index} ib`, { ...options, modes: 'legacy' });
  add(name, `80 /${index} ib, 81 /${index} iz, 83 /${index} ib`, options);
  add(name, `${at(2)} /r, ${at(3)} /r, ${at(4)} ib, ${at(5)} iz`, { ...options, lock: false });
}

add('test', '84 /r, 85 /r, A8 ib, A9 iz, F6 /0 ib, F7 /0 iz, F6 /1 ib, F7 /1 iz', { undefined: 'a' });
add('not', 'F6 /2, F7 /2', { lock: true });
add('neg', 'F6 /3, F7 /3', { lock: true });
add('mul', 'F6 /4, F7 /4', { undefined: 'szap' });
add('imul', 'F6 /5, F7 /5, 0F AF /r, 6B /r ib, 69 /r iz', { undefined: 'szap' });
add('div', 'F6 /6, F7 /6', { undefined: 'oszapc', setup: 'divide' });
add('idiv', 'F6 /7, F7 /7', { undefined: 'oszapc', setup: 'divide' });
add('inc', 'FE /0, FF /0', { lock: true });
add('dec', 'FE /1, FF /1', { lock: true });
add('inc', '40+r', { modes: 'legacy' });
add('dec', '48+r', { modes: 'legacy' });

for (const [digit, name] of ['rol', 'ror', 'rcl', 'rcr', 'shl', 'shr', 'sal', 'sar'].entries()) {
  // Which flags are undefined depends on the count: the comparison works it out.
  add(name, `C0 /${digit} ib, C1 /${digit} ib, D0 /${digit}, D1 /${digit}, D2 /${digit}, D3 /${digit}`, {
    setup: 'shift',
  });
}
add('shld', '0F A4 /r ib, 0F A5 /r', { setup: 'shift', undefined: 'a' });
add('shrd', '0F AC /r ib, 0F AD /r', { setup: 'shift', undefined: 'a' });

for (const [index, name] of ['bt', 'bts', 'btr', 'btc'].entries()) {
  const options = { undefined: 'osap', setup: 'bit-offset' as const, lock: name !== 'bt' };
  add(name, `0F ${hex(0xa3 + index * 8)} /r, 0F BA /${index + 4} ib`, options);
}
add('bsf', '0F BC /r', { undefined: 'osapc' });
add('bsr', '0F BD /r', { undefined: 'osapc' });
add('bswap', '0F C8+r');

add('mov', '88 /r, 89 /r, 8A /r, 8B /r, C6 /0 ib, C7 /0 iz, B0+r ib, B8+r iv');
add('mov', 'A0 mo, A1 mo, A2 mo, A3 mo');
add('movzx', '0F B6 /r, 0F B7 /r');
add('movsx', '0F BE /r, 0F BF /r');
add('movsxd', '63 /r', { modes: 'long' });
add('mov segment', '8C /r');
add('arpl', '63 /r', { modes: 'legacy' });
add('movnti', 'NP 0F C3 /r m');
add('lea', '8D /r m');
add('xchg', '86 /r, 87 /r', { lock: true });
add('xchg', '90+r');
add('xadd', '0F C0 /r, 0F C1 /r', { lock: true });
add('cmpxchg', '0F B0 /r, 0F B1 /r', { lock: true, setup: 'compare-exchange' });
add('cmpxchg8b', '0F C7 /1 m', { lock: true, setup: 'compare-exchange' });
add('xlat', 'D7', { setup: 'table' });
add('cbw', '98');
add('cwd', '99');
add('lahf', '9F');
add('sahf', '9E');
add('clc', 'F8');
add('stc', 'F9');
add('cmc', 'F5');
add('cld', 'FC');
add('std', 'FD');
add(
  'nop',
  '0F 1F /r, 0F 18 /0 m, 0F 18 /1 m, 0F 0D /1 m, 0F 19 /r, 0F 1A /r, 0F 1B /r, 0F 1C /r, 0F 1D /r, 0F 1E /r r, F3 0F 1E /r m',
);

for (let condition = 0; condition < 16; condition += 1) {
  add('jcc', `${hex(0x70 + condition)} cb, 0F ${hex(0x80 + condition)} cz`);
  add('setcc', `0F ${hex(0x90 + condition)} /r`);
  add('cmovcc', `0F ${hex(0x40 + condition)} /r`);
}
add('loop', 'E0 cb, E1 cb, E2 cb, E3 cb', { setup: 'count' });
add('jmp', 'EB cb, E9 cz');
add('jmp', 'FF /4', { setup: 'branch' });
add('call', 'E8 cz');
add('call', 'FF /2', { setup: 'branch' });
add('ret', 'C3, C2 iw', { setup: 'branch' });

add('push', '50+r, 68 iz, 6A ib, FF /6');
add('push segment', '06, 0E, 16, 1E', { modes: 'legacy' });
add('push segment', '0F A0, 0F A8');
add('pop', '58+r, 8F /0');
add('pushf', '9C', { setup: 'push-flags' });
add('popf', '9D', { setup: 'pop-flags' });
add('pusha', '60', { modes: 'legacy' });
add('popa', '61', { modes: 'legacy' });
add('enter', 'C8 iw ib', { setup: 'frame' });
add('leave', 'C9', { setup: 'frame' });

add('movs', 'A4, A5', { setup: 'string' });
add('cmps', 'A6, A7', { setup: 'string' });
add('stos', 'AA, AB', { setup: 'string' });
add('lods', 'AC, AD', { setup: 'string' });
add('scas', 'AE, AF', { setup: 'string' });

add('daa', '27', { modes: 'legacy', undefined: 'o', setup: 'ascii' });
add('das', '2F', { modes: 'legacy', undefined: 'o', setup: 'ascii' });
add('aaa', '37', { modes: 'legacy', undefined: 'oszp', setup: 'ascii' });
add('aas', '3F', { modes: 'legacy', undefined: 'oszp', setup: 'ascii' });
add('aam', 'D4 ib', { modes: 'legacy', undefined: 'oac', setup: 'ascii' });
add('aad', 'D5 ib', { modes: 'legacy', undefined: 'oac', setup: 'ascii' });
add('salc', 'D6', { modes: 'legacy' });
add('bound', '62 /r m', { modes: 'legacy' });

add('int', 'CC, CD ib');
add('int', 'CE', { modes: 'legacy' });
// What user mode may not do.
add(
  'privileged',
  'F4, FA, FB, 0F 06, 0F 08, 0F 09, 0F 30, 0F 32, 0F 20 /0 r, 0F 22 /0 r, 0F 21 /0 r, 0F 23 /0 r, 0F 33',
);
add('privileged', '0F 00 /2, 0F 00 /3, 0F 01 /2 m, 0F 01 /3 m, 0F 01 /6, 0F 01 /7 m, 0F 01 F8');
add('privileged', '0F 07', { modes: 'long' });
add('read base', 'F3 0F AE /0 r, F3 0F AE /1 r', { modes: 'long' });
add('in', 'E4 ib, E5 ib, EC, ED');
add('out', 'E6 ib, E7 ib, EE, EF');
add('ins', '6C, 6D', { setup: 'string' });
add('outs', '6E, 6F', { setup: 'string' });
add('ud', '0F 0B, 0F FF /r, 0F B9 /r');
add('invalid-in-64', '06, 07, 0E, 16, 17, 1E, 1F, 27, 2F, 37, 3F, 60, 61, CE, D4 ib, D6', { modes: 'long' });
add('fences', 'NP 0F AE /5 r, NP 0F AE /6 r, NP 0F AE /7 r');

export const INTEGER_FORMS: readonly Form[] = forms;
