import type { Random } from '../silicon/random.ts';

/**
 * Code that means harm: mostly instructions that change how the processor runs, with operands that point at
 * tables, devices and nowhere; loops and string instructions in between; and plain random bytes. The same bytes
 * mean something else in each size of code, which is as good.
 */

/** '??' is a random byte; 'mm' a ModRM byte with any operand; 'rr' one whose operand is a register. */
const SYSTEM = [
  ...['0f20rr', '0f22rr', '0f21rr', '0f23rr', '440f22rr', '0f01mm', '0f01mm', '0f00mm', '0f00mm', '0f01f8'],
  ...['0f30', '0f32', '0f05', '0f07', '480f07', '0f34', '0f35', '480f35', '0f06', '0f08', '0f09', '0f0b'],
  ...['cd??', 'cc', 'ce', 'f1', 'cf', '48cf', '66cf', 'cb', '48cb', 'ca????', 'fa', 'fb', 'fbf4', 'f4'],
  ...[
    '9c',
    '9d',
    '9c814c2400000100009d',
    '6681 4c2400 0001 9d',
    'e4??',
    'e6??',
    'ec',
    'ee',
    'ed',
    'ef',
    '6d',
    '6f',
  ],
  ...['8emm', '8e??', '06', '07', '0e', '16', '17', '1e', '1f', '0fa0', '0fa1', '0fa8', '0fa9'],
  ...['0fb2mm', '0fb4mm', '0fb5mm', 'c5mm', 'c4mm', 'ffmm', 'ff2d????0000', 'ff1d????0000'],
  ...['9a??????00??00', 'ea??????00??00', '9a????0800', 'ea??????00??00', '0f02mm', '0f03mm', '63mm', '62mm'],
  ...['0faemm', '0faemm', '0fc7mm', '0fa2', '0f31', '0f01f9', 'c8??00??', 'c9', '0faee8', '0fc7f0', '0fc7f8'],
];
const STRINGS = [
  'f3a4',
  'f348a5',
  'f3aa',
  'f348ab',
  'f2ae',
  'f3a6',
  'f36e',
  'f36c',
  'f3ac',
  '66f3a5',
  '67f3a4',
  'fd',
  'fc',
];
const PLAIN = [
  ...[
    '01mm',
    '89mm',
    '8bmm',
    '88mm',
    'c7mm????????',
    '80mm??',
    '81mm????????',
    'f7mm',
    'f6mm',
    'ffmm',
    'femm',
  ],
  ...[
    '50',
    '58',
    '68????????',
    '8d mm',
    '87mm',
    'f083mm??',
    'f00fb1mm',
    '0fc1mm',
    'd3mm',
    '0fabmm',
    '0fa5mm',
  ],
  ...[
    'd9mm',
    'dbmm',
    'ddmm',
    'dfmm',
    '0f28mm',
    '0f29mm',
    '660f6fmm',
    '0f58mm',
    'f30f5amm',
    '0f77',
    '0fe7mm',
    '9b',
  ],
  ...[
    '75??',
    '74f0',
    'e2f8',
    'ebfe',
    'eb00',
    'e8????0000',
    'c3',
    '90',
    'e3??',
    '8605??000000',
    'c605??000000??',
  ],
];

const PORTS = [
  0x20, 0x21, 0x40, 0x43, 0x60, 0x64, 0x70, 0x71, 0x92, 0xa0, 0xa1, 0xcf8, 0xcfc, 0xcf9, 0x3f8, 0x3f9, 0x3fb,
  0x600, 0x604, 0x608, 0xffff,
];
const MSRS = [
  ...[0x10, 0x1b, 0xc000_0080, 0xc000_0081, 0xc000_0082, 0xc000_0084, 0xc000_0100, 0xc000_0101, 0xc000_0102],
  ...[0x174, 0x175, 0x176, 0x277, 0x2ff, 0x1a0, 0x6e0, 0x800, 0x80b, 0x830, 0x83f, 0xc000_0103, 0xffff_ffff],
];

export function randomCode(random: Random, length: number, addresses: () => number): Uint8Array {
  const bytes: number[] = [];
  const emit = (text: string): void => {
    const digits = text.replaceAll(' ', '');
    for (let at = 0; at < digits.length; at += 2) {
      const pair = digits.slice(at, at + 2);
      const byte = random.u32() & 0xff;
      if (pair === '??') bytes.push(byte);
      else if (pair === 'rr') bytes.push(0xc0 | byte);
      else if (pair === 'mm') emitModRm(byte);
      else bytes.push(Number.parseInt(pair, 16));
    }
  };
  const emitModRm = (byte: number): void => {
    if (random.chance(40)) bytes.push(0xc0 | byte);
    // A register and a displacement of 8 bits; or an absolute (in 64-bit code relative) address.
    else if (random.chance(70))
      bytes.push(0x40 | (byte & 0x3b) | (random.chance(50) ? 1 : 0), random.u32() & 0x7f);
    else bytes.push((byte & 0x38) | 5, ...little(addresses(), 4));
  };
  while (bytes.length < length) {
    switch (random.below(12)) {
      case 0:
        bytes.push(...random.bytes(1 + random.below(8)));
        break;
      case 1:
        emit(random.pick(STRINGS));
        break;
      case 2:
        bytes.push(0xb8 + random.below(8), ...little(addresses(), 4));
        break;
      case 3:
        bytes.push(
          0x48,
          0xb8 + random.below(8),
          ...little(addresses(), 4),
          ...little(random.chance(20) ? random.u32() : 0, 4),
        );
        break;
      case 4:
        bytes.push(0x66, 0xba, ...little(random.pick(PORTS), 2));
        emit(random.pick(['b0??ee', 'b0??ee', 'ec', 'ed', 'ef', '66ed', '66ef']));
        break;
      case 5:
        bytes.push(0xb9, ...little(random.pick(MSRS), 4));
        emit(random.pick(['0f32', '0f30', '31d20f30', '0f320f30']));
        break;
      case 6:
      case 7:
      case 8:
        emit(random.pick(SYSTEM));
        break;
      default:
        emit(random.pick(PLAIN));
    }
  }
  return Uint8Array.from(bytes.slice(0, length));
}

function little(value: number, size: number): number[] {
  return Array.from({ length: size }, (_, index) => (value >>> (8 * index)) & 0xff);
}
