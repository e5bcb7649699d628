import { expect, it } from 'vitest';
import type { CompiledModule, ModuleCompiler } from '../../src/engine/jit/module-compiler.ts';
import { compile } from '../../src/wasm/webassembly.ts';
import { lateModules } from './late-modules.ts';
import { GuestMachine, guestWith } from './small-guest.ts';

const LOOPS = 400;
const TURNS = 40;
const AT = 0x5_0000;
const COUNTS = 1 + LOOPS * (2 + 2 * TURNS);

/** Loops one after the other, each hot at once. */
function loops(value: number) {
  const { image } = guestWith((out) => out.raw(0xe9).u32(AT - out.here - 4));
  for (let loop = 0, at = AT; loop < LOOPS; loop++, at += 13) {
    // mov ecx, TURNS; l: add al, value; dec ecx; jnz l; jmp to the next
    image.put(at, Uint8Array.of(0xb9, TURNS, 0, 0, 0, 0x04, value, 0xff, 0xc9, 0x75, 0xfa, 0xeb, 0x00));
  }
  image.put(AT + LOOPS * 13, Uint8Array.of(0xf4));
  return image;
}

/** Runs the loops and ends while modules are under way. */
function expectAlike(late: GuestMachine, value: number): void {
  const plain = new GuestMachine({ engine: 'interpreter' });
  late.load(loops(value));
  plain.load(loops(value));
  for (let count = 50; count < COUNTS / 2; count += 50) late.runTo(count);
  plain.runTo(Number(late.count));
  expect(late.digest()).toBe(plain.digest());
}

it('modules that are ready when the guest is another one are of no use to it', () => {
  const modules = lateModules(7);
  const late = new GuestMachine({ engine: 'jit', jit: { threshold: 2, patience: 0, batch: 2, modules } });
  for (const value of [3, 5, 7]) {
    expectAlike(late, value);
  }
  expect(late.machine.jitStatistics!.regions).toBeGreaterThan(50);
});

it('machines that follow each other have one compiler, and take only what is theirs', () => {
  const modules = lateModules(5);
  for (const value of [3, 5, 7]) {
    const late = new GuestMachine({ engine: 'jit', jit: { threshold: 2, patience: 0, batch: 2, modules } });
    expectAlike(late, value);
    expect(late.machine.jitStatistics!.regions).toBeGreaterThan(10);
  }
});

/** Tells nothing before it is released. */
class HeldModules implements ModuleCompiler {
  readonly full = false;
  released = false;
  readonly #ready: CompiledModule[] = [];
  #last = 0;

  get count(): number {
    return this.#ready.length;
  }

  compile(bytes: Uint8Array<ArrayBuffer>): number {
    this.#ready.push({ number: ++this.#last, module: compile(bytes) });
    return this.#last;
  }

  take(): CompiledModule | undefined {
    return this.released ? this.#ready.shift() : undefined;
  }
}

it('a region whose code has changed while it was compiled is not entered', () => {
  const TURNS = 60;
  const CALLED = AT + 0x100;
  const { image } = guestWith((out) => out.raw(0xe9).u32(AT - out.here - 4));
  // mov edx, 3; again: mov ecx, TURNS; l: call CALLED; dec ecx; jnz l
  const code = [
    0xba,
    3,
    0,
    0,
    0,
    0xb9,
    TURNS,
    0,
    0,
    0,
    0xe8,
    ...offset(CALLED - (AT + 15)),
    0xff,
    0xc9,
    0x75,
    0xf7,
  ];
  // add byte [rip + what CALLED adds], 5; dec edx; jnz again; hlt
  code.push(
    0x80,
    0x05,
    ...offset(CALLED + 1 - (AT + 26)),
    5,
    0xff,
    0xca,
    0x75,
    again(code.length + 11),
    0xf4,
  );
  image.put(AT, Uint8Array.from(code));
  // add al, 1; ret
  image.put(CALLED, Uint8Array.of(0x04, 1, 0xc3));
  const counts = 1 + 1 + 3 * (1 + TURNS * 5 + 3);

  const plain = new GuestMachine({ engine: 'interpreter' });
  const modules = new HeldModules();
  const late = new GuestMachine({ engine: 'jit', jit: { threshold: 2, patience: 0, batch: 1, modules } });
  for (const machine of [plain, late]) machine.load(image);
  // Over the first change; the loop is the same block as before.
  late.runTo(10 + TURNS * 5);
  expect(modules.count).toBeGreaterThan(0);
  modules.released = true;
  for (let count = 11 + TURNS * 5; count < counts; count += 7) late.runTo(count);
  for (const machine of [plain, late]) machine.runTo(counts);
  expect(late.count).toBe(plain.count);
  expect(late.digest()).toBe(plain.digest());
  expect(late.machine.jitStatistics!.regions).toBeGreaterThan(0);
});

function offset(value: number): number[] {
  return [value & 0xff, (value >> 8) & 0xff, (value >> 16) & 0xff, (value >> 24) & 0xff];
}

/** The jump back to `again`, 5 bytes into the code, from where the code is so long. */
function again(length: number): number {
  return (5 - length) & 0xff;
}
