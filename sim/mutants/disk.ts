import type { Mutant } from './mutant.ts';

export const DISK: readonly Mutant[] = [
  {
    name: 'no fence',
    rule: '7',
    model: 'M7',
    broken: 'the disk takes operations of any generation',
    apply: ({ disk }) => {
      disk.fences = false;
    },
  },
  {
    name: 'fence without drain',
    rule: '7',
    model: 'M7B',
    broken: 'an opening is answered while older operations are still executing',
    apply: ({ disk }) => {
      disk.drains = false;
    },
  },
];
