import { SiliconRecord } from './record.ts';
import { buildHarness, runOnSilicon } from './silicon.ts';

const h = buildHarness();
function r(code: number[], fcw = 0x37f, st: bigint[] = [], fsw = 0) {
  const x = new SiliconRecord();
  x.code = code;
  x.mxcsr = 0x1f80;
  x.fcw = fcw;
  x.fsw = fsw;
  x.ftw = 0;
  st.forEach((v, i) => {
    x.setSt(i, v);
    x.ftw |= 1 << (((fsw >> 11) + i) & 7);
  });
  x.rflags = 0x202n;
  return x;
}
const one = 0x3fff8000000000000000n;
const cases: [string, SiliconRecord][] = [
  ['fld1', r([0xd9, 0xe8])],
  ['fld1;fnstenv', r([0xd9, 0xe8, 0xd9, 0x37])],
  ['fadd m32;', r([0xd8, 0x07], 0x37f, [one])],
  ['fadd m32;fnstenv', r([0xd8, 0x07, 0xd9, 0x37], 0x37f, [one])],
  ['div0 masked', r([0xd8, 0x37], 0x37f, [one])],
  ['div0 masked;fnstenv', r([0xd8, 0x37, 0xd9, 0x37], 0x37f, [one])],
  ['div0 unmasked', r([0xd8, 0x37], 0x37b, [one])],
  ['div0 unmasked;fnstenv', r([0xd8, 0x37, 0xd9, 0x37], 0x37b, [one])],
  ['div0 unmasked;fnstenv66', r([0xd8, 0x37, 0x66, 0xd9, 0x37], 0x37b, [one])],
  ['div0 unmasked;fnclex;fld1;fnstenv', r([0xd8, 0x37, 0xdb, 0xe2, 0xd9, 0xe8, 0xd9, 0x37], 0x37b, [one])],
  ['div0 unmasked;fnclex;fld1', r([0xd8, 0x37, 0xdb, 0xe2, 0xd9, 0xe8], 0x37b, [one])],
  ['inexact masked;fnstenv', r([0xd8, 0xf1, 0xd9, 0x37], 0x37f, [one, 0x4000c000000000000000n])],
  ['inexact unmasked;fnstenv', r([0xd8, 0xf1, 0xd9, 0x37], 0x35f, [one, 0x4000c000000000000000n])],
  ['fld1;fnsave', r([0xd9, 0xe8, 0xdd, 0x37])],
  ['fld1;fxsave64', r([0xd9, 0xe8, 0x48, 0x0f, 0xae, 0x07])],
  ['fld1;fxsave', r([0xd9, 0xe8, 0x0f, 0xae, 0x07])],
  ['unmasked;fxsave', r([0xd8, 0x37, 0x0f, 0xae, 0x07], 0x37b, [one])],
  ['restore ES without cause, fld1', r([0xd9, 0xe8], 0x37f, [], 0x8080)],
  ['restore cause without ES, unmasked', r([0x90], 0x340, [], 0x0001)],
  ['restore cause without ES, unmasked;fld1', r([0xd9, 0xe8], 0x340, [], 0x0001)],
  ['restore ES without cause', r([0x90], 0x37f, [], 0x8080)],
  ['fcw reserved', r([0x90], 0xffff, [], 0)],
  ['fcw reserved 0', r([0x90], 0, [], 0)],
];
const out = runOnSilicon(
  h,
  cases.map((c) => c[1]),
);
out.forEach((o, i) => {
  const im = o.image;
  const hx = (a: Uint8Array) => Buffer.from(a).toString('hex');
  console.log(
    cases[i]![0],
    'sig',
    o.signal,
    'fsw',
    o.fsw.toString(16),
    'fcw',
    o.fcw.toString(16),
    'fop',
    hx(im.subarray(6, 8)),
    'fip',
    hx(im.subarray(8, 16)),
    'fdp',
    hx(im.subarray(16, 24)),
    'mem',
    hx(o.memory.subarray(0, 32)),
  );
});
