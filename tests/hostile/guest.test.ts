import { describe, expect, it } from 'vitest';
import { expectAgreement } from '../engine/agreement.ts';
import { type Assembler, REG } from '../engine/assembler.ts';
import {
  A,
  APIC,
  D,
  DATA,
  DIRECTORY,
  GDT,
  guestWith,
  IDT,
  KERNEL_SS,
  P,
  PDPT,
  PML4,
  TICKS,
  W,
  WINDOW,
} from '../engine/small-guest.ts';

/**
 * What a guest does to itself by its own tables: the machine goes on, counts, and gives the guest what the manual says,
 * the same in every engine and however the run is cut.
 */

const { rax, rbx } = REG;
const COUNTS = 400;
const TRIPLE_FAULT = [{ kind: 'power', state: 'triple-fault', value: 0 }];
const NOT_CANONICAL = 0x8000_0000_0000n;

/** LIDT or LGDT of a limit and a base, which stand at DATA. */
function loadTable(out: Assembler, which: 'gdt' | 'idt', limit: number, base: bigint): void {
  out.set(rbx, DATA).storeImmediate({ base: rbx, displacement: 0 }, limit, 4);
  out.set(rax, base).store({ base: rbx, displacement: 2 }, rax);
  out.raw(0x0f, 0x01, which === 'gdt' ? 0x13 : 0x1b);
}

function outcomeOf(
  write: (out: Assembler) => void,
  prepare?: (image: ReturnType<typeof guestWith>['image']) => void,
) {
  const { image } = guestWith((out) => {
    write(out);
    out.label('resume').inc({ displacement: TICKS }).hlt();
  });
  prepare?.(image);
  const machine = expectAgreement(image, COUNTS);
  return {
    outputs: machine.outputs,
    faults: machine.log.map(({ vector, errorCode }) => [vector, errorCode]),
    wentOn: machine.read64(TICKS) > 0n,
    count: machine.count,
  };
}

describe('page tables in MMIO', () => {
  it('a root there: nothing can be fetched, and no handler either', () => {
    const { outputs } = outcomeOf((out) => out.set(rax, APIC).raw(0x0f, 0x22, 0xd8).nop()); // mov cr3, rax
    expect(outputs).toEqual(TRIPLE_FAULT);
  });

  it.each([
    ['the last table', DIRECTORY + 8, 14],
    ['a table above it', PDPT + 8, 14],
  ])('%s there: a page fault, and the guest goes on', (_, entry, vector) => {
    const address = entry === PDPT + 8 ? 1 << 30 : WINDOW;
    const { faults, wentOn, outputs } = outcomeOf(
      (out) => out.set(rbx, address).load(rax, { base: rbx }),
      (image) => image.view.setBigUint64(entry, BigInt(APIC) | P | W, true),
    );
    expect(faults.map(([seen]) => seen)).toEqual([vector]);
    expect([wentOn, outputs]).toEqual([true, []]);
  });

  it('accessed and dirty flags are never stored there', () => {
    const { outputs, wentOn } = outcomeOf(
      (out) => out.set(rbx, WINDOW).store({ base: rbx }, rax).load(rax, { base: rbx }),
      (image) => image.window(0, APIC, P | W | A | D),
    );
    expect([outputs, wentOn]).toEqual([[], true]);
  });
});

describe('descriptor tables out of range', () => {
  it.each([
    ['an interrupt table of no length', 0, BigInt(IDT)],
    ['one where nothing is mapped', 0xfff, 0x4000_0000n],
    ['one beyond RAM', 0xfff, BigInt(APIC) + 0x20_0000n],
    ['one in a device', 0xfff, BigInt(APIC)],
  ])('%s: the first exception is the last', (_, limit, base) => {
    const { outputs, faults } = outcomeOf((out) => {
      loadTable(out, 'idt', limit, base);
      out.raw(0x0f, 0x0b); // ud2
    });
    expect(outputs).toEqual(TRIPLE_FAULT);
    expect(faults).toEqual([]);
  });

  it('an interrupt table that ends before a vector: #GP names the gate', () => {
    const { faults, wentOn } = outcomeOf((out) => {
      loadTable(out, 'idt', 32 * 16 - 1, BigInt(IDT));
      out.raw(0xcd, 0x55); // int 55h
    });
    expect(faults).toEqual([[13, 0x55 * 8 + 2]]);
    expect(wentOn).toBe(true);
  });

  it('a global table that ends before a selector: #GP names it, and once more for each return to it', () => {
    const { faults, wentOn, count } = outcomeOf((out) => {
      // The handlers' own segment stays within; the stack's does not.
      loadTable(out, 'gdt', 0x0f, BigInt(GDT));
      out.set(rax, KERNEL_SS).raw(0x8e, 0xd8); // mov ds, eax
    });
    expect(faults.length).toBeGreaterThan(5);
    expect(new Set(faults.map(String))).toEqual(new Set([`13,${KERNEL_SS}`]));
    expect([wentOn, count]).toEqual([false, BigInt(COUNTS)]);
  });

  it('a global table where nothing is mapped: no handler can be entered', () => {
    const { outputs } = outcomeOf((out) => {
      loadTable(out, 'gdt', 0xffff, 0x4000_0000n);
      out.raw(0x0f, 0x0b);
    });
    expect(outputs).toEqual(TRIPLE_FAULT);
  });

  it.each(['gdt', 'idt'] as const)('an address of the %s that is not canonical is refused', (which) => {
    const { faults, wentOn } = outcomeOf((out) => loadTable(out, which, 0xfff, NOT_CANONICAL));
    expect([faults, wentOn]).toEqual([[[13, 0]], true]);
  });
});

describe('exceptions without end', () => {
  it('a handler that cannot run raises the same again for ever, and the count goes on', () => {
    const { image } = guestWith((out) => {
      out.raw(0x0f, 0x0b);
    });
    // #UD leads to an instruction that is undefined.
    image.gate(6, 0xf000);
    image.put(0xf000, Uint8Array.of(0x0f, 0x0b));
    const machine = expectAgreement(image, COUNTS);
    expect(machine.count).toBe(BigInt(COUNTS));
    expect(machine.outputs).toEqual([]);
  });

  it('a root that maps nothing is a triple fault', () => {
    const { outputs } = outcomeOf((out) => {
      out.set(rax, 0).store({ displacement: PML4 }, rax);
      out.raw(0x0f, 0x20, 0xd8, 0x0f, 0x22, 0xd8).nop(); // mov rax, cr3; mov cr3, rax
    });
    expect(outputs).toEqual(TRIPLE_FAULT);
  });
});
