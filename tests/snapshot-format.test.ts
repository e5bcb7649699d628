import { expect, test } from 'vitest';
import { ByteWriter } from '../src/base/bytes.ts';
import { hash128 } from '../src/base/hash.ts';
import { encodeText } from '../src/base/text.ts';
import { guestNanoseconds, instructionCount } from '../src/base/units.ts';
import { OperationQueue } from '../src/device/virtio/block/operation-queue.ts';
import type { MachineConfig } from '../src/machine/config.ts';
import { createMachine, type LockstepMachine } from '../src/machine/machine.ts';
import { OrderedMachine } from '../src/machine/ordered-machine.ts';
import { SNAPSHOT_FORMAT_VERSION } from '../src/machine/snapshot-format.ts';
import * as registers from '../src/x86/state.ts';
import { assembledGuest } from './assembled-guest.ts';

/**
 * A guest moves between builds that say the same snapshot format. So its number is raised whenever a snapshot is
 * written in another shape: other fields, other widths, another order of the parts. When this test fails, raise
 * SNAPSHOT_FORMAT_VERSION and write the new shape here. (Two fields of the same kind that change places, or one that
 * changes its meaning, have the same shape: docs/HACKING.md.)
 */
const SHAPES: Readonly<Record<number, string>> = {
  2: 'fc028f83b56ecd9bdc735fbe041e87c3',
  // The same fields; disk operations that clear are new kinds, and disks tell that they can.
  3: 'fc028f83b56ecd9bdc735fbe041e87c3',
  // The same fields; frames that wait may have an offload, and the network card offers more.
  4: 'fc028f83b56ecd9bdc735fbe041e87c3',
};

const CONFIG: MachineConfig = {
  memoryBytes: 16 * 2 ** 20,
  disks: [
    { capacity: 1024 * 1024, readOnly: false, serial: 'a' },
    { capacity: 4096, readOnly: true, serial: 'b' },
  ],
  nics: [{ mac: '525400123456' }],
  startEpochSeconds: 1_700_000_000,
  seed: '07'.repeat(32),
  debugExit: true,
};

/** Writes as ever, and notes with which calls. */
class Shape extends ByteWriter {
  calls: string[] = [];
  #within = false;

  #note(call: string, write: () => unknown): this {
    const outermost = !this.#within;
    this.#within = true;
    if (outermost) this.calls.push(call);
    write();
    if (outermost) this.#within = false;
    return this;
  }

  override u8(value: number): this {
    return this.#note('u8', () => super.u8(value));
  }
  override bool(value: boolean): this {
    return this.#note('bool', () => super.bool(value));
  }
  override u16(value: number): this {
    return this.#note('u16', () => super.u16(value));
  }
  override u32(value: number): this {
    return this.#note('u32', () => super.u32(value));
  }
  override uint(value: number): this {
    return this.#note('uint', () => super.uint(value));
  }
  override u64(value: bigint): this {
    return this.#note('u64', () => super.u64(value));
  }
  override varint(value: bigint): this {
    return this.#note('varint', () => super.varint(value));
  }
  override raw(bytes: Uint8Array): this {
    return this.#note(`raw ${bytes.length}`, () => super.raw(bytes));
  }
  override bytes(bytes: Uint8Array): this {
    return this.#note('bytes', () => super.bytes(bytes));
  }
}

/** A guest that has run for a while. */
async function running(): Promise<LockstepMachine> {
  const image = { kernel: await assembledGuest('journal'), initrd: undefined, commandLine: 'x' };
  const made = createMachine(CONFIG, image, { output() {} }, { engine: 'interpreter' });
  if (!made.ok) throw new Error(made.error);
  const machine = made.value;
  for (let time = 0n; time < 100_000_000n; time += 4_000_000n) {
    const cap = guestNanoseconds(time + 4_000_000n);
    machine.apply({ kind: 'clock', guestTime: guestNanoseconds(time), rate: 20n << 32n, cap });
    machine.runUntil(instructionCount(machine.count + 200_000n));
  }
  return machine;
}

/** Disk operations that are under way: a guest without a driver has none. */
function operations(): OperationQueue {
  const queue = new OperationQueue(() => {});
  const operation = { offset: 512, through: false, answer: undefined, request: 0 };
  queue.add({ ...operation, kind: 'write', length: 2, data: Uint8Array.of(1, 2) });
  queue.add({ ...operation, kind: 'read', length: 512, data: new Uint8Array(0) });
  return queue;
}

test('the shape of a snapshot is that of its format', async () => {
  const machine = await running();
  const shape = new Shape();
  const lines: string[] = [];
  const ends = (part: string): void => {
    lines.push(`${part}: ${shape.calls.join(' ')}`);
    shape.calls = [];
  };
  machine.saveState(shape, ends);
  operations().save(shape);
  ends('disk operations');
  // Where each register lies in the one piece that they are saved as.
  for (const [name, offset] of Object.entries(registers).sort())
    if (typeof offset === 'number' && offset < registers.ARCHITECTURAL_END) lines.push(`${name} ${offset}`);
  const text = lines.join('\n');
  expect({ [SNAPSHOT_FORMAT_VERSION]: hash128(encodeText(text)) }, text).toEqual({
    [SNAPSHOT_FORMAT_VERSION]: SHAPES[SNAPSHOT_FORMAT_VERSION],
  });
}, 60_000);

test('a snapshot of another format is refused in one line that names both', async () => {
  const machine = await running();
  const bytes = machine.snapshot();
  new DataView(bytes.buffer, bytes.byteOffset).setUint32(4, SNAPSHOT_FORMAT_VERSION + 1, true);
  const restored = OrderedMachine.restore(bytes, { output() {} });
  const { error } = restored as { error: string };
  expect(error).toBe(
    `the snapshot has format ${SNAPSHOT_FORMAT_VERSION + 1}, this build reads ${SNAPSHOT_FORMAT_VERSION}`,
  );
});
