import { describe, expect, it } from 'vitest';
import { type Block, CodeCache } from '../../src/engine/code-cache.ts';
import { MODE } from '../../src/engine/code-mode.ts';
import { engineLayout, PAGE, RECORD } from '../../src/engine/layout.ts';
import { ENGINE_OPERATION, OperationTable } from '../../src/engine/operation-table.ts';
import { OPCODES } from '../../src/x86/instructions/all.ts';
import { MICRO_OPERATIONS } from '../../src/x86/micro-operations/all.ts';
import { Random } from './random.ts';

const RAM = 2 * PAGE;
const LAYOUT = engineLayout(RAM, 16, 1 << 12);
const TABLE = new OperationTable(MICRO_OPERATIONS);

function cache(): { code: CodeCache; ram: Uint8Array } {
  const buffer = new SharedArrayBuffer(LAYOUT.pages * 65536);
  return {
    code: new CodeCache(buffer, LAYOUT, TABLE, OPCODES, () => {}),
    ram: new Uint8Array(buffer, LAYOUT.ram, RAM),
  };
}

/** What a block is, wherever its records stand. */
function described(code: CodeCache, { header, start, end, secondPage, secondEnd, recordsEnd }: Block) {
  const records = [];
  for (let record = header + RECORD.size; record < recordsEnd; record += RECORD.size) {
    const { a, ...fields } = code.fields(record);
    const operation = code.operation(record);
    const named = operation === ENGINE_OPERATION.call || operation === ENGINE_OPERATION.system;
    records.push({
      operation,
      a: named ? code.systemOperations[a]!.name : a,
      ...fields,
      offset: code.offset(record),
      length: code.instructionLength(record),
      refund: code.refund(record),
    });
  }
  return { start, end, secondPage, secondEnd, instructions: code.instructionCount(header), records };
}

const COMMON = [
  0x0f, 0x48, 0x66, 0xf3, 0xf2, 0x41, 0x4c, 0x89, 0x8b, 0xc7, 0x83, 0xeb, 0x74, 0xe8, 0xff, 0x8d, 0x05,
];

describe('a block', () => {
  it('is the same whatever was decoded before, at any place in its page and in any mode', () => {
    const random = new Random(7);
    const used = cache();
    const modes = [
      MODE.code64,
      MODE.code64 | MODE.step,
      MODE.code64 | MODE.breakpoints,
      MODE.code64 | MODE.sseUnavailable | MODE.x87Unavailable,
      MODE.code32,
      MODE.code32 | MODE.otherStack,
      MODE.code16,
      MODE.code16 | MODE.nullFs,
      MODE.code32 | MODE.segments,
    ];
    // A stock of bytes, so that the same instructions come again at other places.
    const stock = Uint8Array.from({ length: 400 }, () =>
      random.below(2) === 0 ? COMMON[random.below(COMMON.length)]! : random.below(256),
    );
    for (let round = 0; round < 400; round++) {
      const mode = modes[random.below(modes.length)]!;
      const start = random.below(3) === 0 ? PAGE - 1 - random.below(20) : random.below(PAGE);
      const bytes = new Uint8Array(RAM);
      for (let at = start; at < RAM; ) {
        const from = random.below(stock.length);
        const piece = stock.subarray(from, from + 1 + random.below(24));
        bytes.set(piece.subarray(0, RAM - at), at);
        at += piece.length;
      }
      const blocks = [used, cache()].map(({ code, ram }) => {
        code.clear();
        ram.set(bytes);
        const second = () => ({ page: 1, bytes: ram.subarray(PAGE, PAGE + 15) });
        return described(code, code.build(start, mode, second)!);
      });
      expect(blocks[0]).toEqual(blocks[1]);
    }
  });
});
