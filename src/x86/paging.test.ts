import { describe, expect, it } from 'vitest';
import {
  ACCESS_EXECUTE,
  ACCESS_READ,
  ACCESS_WRITE,
  type AccessKind,
  ALLOW,
  type PhysicalMemory,
  WalkResult,
  walk,
} from './paging.ts';
import { CpuState, CR0, CR3, CR4, EFER, STATE_SIZE } from './state.ts';

const P = 1n;
const W = 2n;
const U = 4n;
const A = 0x20n;
const D = 0x40n;
const PS = 0x80n;
const NX = 1n << 63n;

class Tables implements PhysicalMemory {
  readonly state = new CpuState(new ArrayBuffer(STATE_SIZE), 0);
  readonly result = new WalkResult();
  readonly writes: number[] = [];
  readonly #view = new DataView(new ArrayBuffer(0x2_0000));

  read32(address: number): number {
    return address < 0x2_0000 ? this.#view.getUint32(address, true) : 0xffff_ffff;
  }

  write32(address: number, value: number): void {
    this.writes.push(address);
    this.#view.setUint32(address, value, true);
  }

  set(address: number, value: bigint): void {
    this.#view.setBigUint64(address, value, true);
  }

  get(address: number): bigint {
    return this.#view.getBigUint64(address, true);
  }

  walk(linear: bigint, access: AccessKind = ACCESS_READ, user = false): boolean {
    const low = Number(linear & 0xffff_ffffn);
    return walk(this, this.state, low, Number(linear >> 32n), access, user, this.result);
  }
}

/** 4-level paging with one mapped page: linear 0x7f_8765_4321_0xx is not easy to get right by accident. */
const LINEAR = 0x0000_7abc_def1_2345n;
const INDEX = [39n, 30n, 21n, 12n].map((shift) => Number((LINEAR >> shift) & 0x1ffn) * 8);
const ENTRY = INDEX.map((offset, level) => 0x1000 * (level + 1) + offset);

function long(leaf = 0x9a_bcde_f000n | P | W | U, nxe = true): Tables {
  const tables = new Tables();
  tables.state.set64(CR0, 0x8001_0001n);
  tables.state.set64(CR3, 0x1000n);
  tables.state.set64(CR4, 0x20n);
  tables.state.set64(EFER, nxe ? 0xd00n : 0x500n);
  tables.set(ENTRY[0]!, 0x2000n | P | W | U);
  tables.set(ENTRY[1]!, 0x3000n | P | W | U);
  tables.set(ENTRY[2]!, 0x4000n | P | W | U);
  tables.set(ENTRY[3]!, leaf);
  return tables;
}

describe('4-level paging [SDM 3A 4.5]', () => {
  it('translates through four tables and tells which entries it read', () => {
    const t = long();
    expect(t.walk(LINEAR)).toBe(true);
    expect(t.result.address).toBe(0x9a_bcde_f345);
    expect(t.result.page).toBe(0x9a_bcde_f000);
    expect([...t.result.entries.subarray(0, t.result.entryCount)]).toEqual(ENTRY);
  });

  it('refuses an address that is not canonical with #GP(0)', () => {
    const t = long();
    expect(t.walk(0x0000_8000_0000_0000n)).toBe(false);
    expect([t.result.vector, t.result.errorCode]).toEqual([13, 0]);
    expect(t.walk(0xffff_7fff_ffff_ffffn)).toBe(false);
    expect(t.result.vector).toBe(13);
    expect(t.walk(0xffff_8000_0000_0000n)).toBe(false);
    expect(t.result.vector).toBe(14);
  });

  it('reports P, W/R, U/S, RSVD and I/D in the error code [SDM 3A 4.7]', () => {
    const code = (t: Tables, access: AccessKind, user: boolean) =>
      t.walk(LINEAR, access, user) ? 'no fault' : t.result.errorCode;
    expect(code(long(0n), ACCESS_READ, false)).toBe(0);
    expect(code(long(0n), ACCESS_WRITE, true)).toBe(6);
    expect(code(long(0x5000n | P | U), ACCESS_WRITE, true)).toBe(7);
    expect(code(long(0x5000n | P | W), ACCESS_READ, true)).toBe(5);
    expect(code(long(0x5000n | P | W | U | NX), ACCESS_EXECUTE, true)).toBe(0x15);
    expect(code(long(0x5000n | P | W | U | NX), ACCESS_EXECUTE, false)).toBe(0x11);
    // Without EFER.NXE bit 63 is reserved, and a fetch is not reported as one.
    expect(code(long(0x5000n | P | W | U | NX, false), ACCESS_EXECUTE, false)).toBe(9);
    // Beyond the 40 bits of the physical address.
    expect(code(long(0x100_0000_5000n | P | W | U), ACCESS_READ, false)).toBe(9);
  });

  it('combines the rights of all levels', () => {
    const t = long();
    t.set(ENTRY[1]!, 0x3000n | P | U);
    expect(t.walk(LINEAR, ACCESS_WRITE)).toBe(false);
    t.set(ENTRY[1]!, 0x3000n | P | W);
    expect(t.walk(LINEAR, ACCESS_READ, true)).toBe(false);
    t.set(ENTRY[1]!, 0x3000n | P | W | U | NX);
    expect(t.walk(LINEAR, ACCESS_EXECUTE)).toBe(false);
  });

  it('lets the supervisor write read-only pages when CR0.WP is clear [SDM 3A 4.6]', () => {
    const t = long(0x5000n | P | U);
    t.state.set64(CR0, 0x8000_0001n);
    expect(t.walk(LINEAR, ACCESS_WRITE, false)).toBe(true);
    expect(t.result.allowed & ALLOW.userWrite).toBe(0);
    expect(t.walk(LINEAR, ACCESS_WRITE, true)).toBe(false);
  });

  it('sets accessed flags from the root down, and the dirty flag only for a write', () => {
    const t = long();
    t.walk(LINEAR);
    expect(t.writes).toEqual(ENTRY);
    for (const entry of ENTRY) expect(t.get(entry) & (A | D)).toBe(A);
    t.walk(LINEAR, ACCESS_WRITE);
    expect(t.writes.slice(4)).toEqual([ENTRY[3]]);
    expect(t.get(ENTRY[3]!) & D).toBe(D);
    expect(t.get(ENTRY[2]!) & D).toBe(0n);
    t.walk(LINEAR, ACCESS_WRITE);
    expect(t.writes.length).toBe(5);
  });

  it('changes nothing when the access faults', () => {
    const t = long(0x5000n | P | U);
    expect(t.walk(LINEAR, ACCESS_WRITE)).toBe(false);
    expect(t.writes).toEqual([]);
  });

  it('allows writing without another walk only when the page is dirty', () => {
    const t = long();
    t.walk(LINEAR);
    expect(t.result.allowed).toBe(
      ALLOW.supervisorRead | ALLOW.supervisorExecute | ALLOW.userRead | ALLOW.userExecute,
    );
    t.walk(LINEAR, ACCESS_WRITE);
    expect(t.result.allowed).toBe(0x3f);
  });

  it('maps 2 MiB and 1 GiB pages, whose unused address bits are reserved', () => {
    const t = long();
    t.set(ENTRY[2]!, 0x12_3460_0000n | P | W | PS);
    expect(t.walk(LINEAR)).toBe(true);
    expect(t.result.address).toBe(0x12_3460_0000 + Number(LINEAR & 0x1f_ffffn));
    expect(t.result.sizeBits).toBe(21);
    t.set(ENTRY[2]!, 0x12_3460_2000n | P | W | PS);
    expect(t.walk(LINEAR)).toBe(false);
    expect(t.result.errorCode).toBe(9);
    t.set(ENTRY[1]!, 0x12_c000_0000n | P | W | PS);
    expect(t.walk(LINEAR, ACCESS_WRITE)).toBe(true);
    expect(t.result.address).toBe(0x12_c000_0000 + Number(LINEAR & 0x3fff_ffffn));
    expect(t.result.sizeBits).toBe(30);
    t.set(ENTRY[1]!, 0x12_c020_0000n | P | W | PS);
    expect(t.walk(LINEAR)).toBe(false);
    t.set(ENTRY[0]!, 0x2000n | P | W | U | PS);
    expect(t.walk(LINEAR)).toBe(false);
    expect(t.result.errorCode).toBe(9);
  });

  it('reads tables and pages above 2 GiB as positive addresses', () => {
    const t = long(0xff_ffff_f000n | P | W);
    expect(t.walk(LINEAR)).toBe(true);
    expect(t.result.page).toBe(0xff_ffff_f000);
    t.state.set64(CR3, 0x8000_0000n);
    // All ones where there is no RAM: reserved bits.
    expect(t.walk(LINEAR)).toBe(false);
    expect(t.result.entries[0]).toBe(0x8000_0000 + INDEX[0]!);
    expect(t.result.errorCode).toBe(9);
  });
});

describe('PAE paging [SDM 3A 4.4]', () => {
  function pae(): Tables {
    const t = new Tables();
    t.state.set64(CR0, 0x8001_0001n);
    t.state.set64(CR3, 0x1020n);
    t.state.set64(CR4, 0x20n);
    t.set(0x1020 + 3 * 8, 0x2000n | P);
    t.set(0x2000 + 1 * 8, 0x3000n | P | W | U);
    t.set(0x3000 + 2 * 8, 0x12_3456_7000n | P | W | U);
    return t;
  }
  const linear = 0xc020_2abcn;

  it('takes the root from bits 31:5 of CR3, and page-directory pointers have no accessed flag', () => {
    const t = pae();
    expect(t.walk(linear, ACCESS_WRITE, true)).toBe(true);
    expect(t.result.address).toBe(0x12_3456_7abc);
    expect(t.writes).toEqual([0x2008, 0x3010]);
  });

  it('sets flags of a large page without touching the pointer', () => {
    const t = pae();
    t.set(0x2008, 0x40_0000n | P | W | PS);
    expect(t.walk(linear, ACCESS_WRITE)).toBe(true);
    expect(t.result.address).toBe(0x40_2abc);
    expect(t.writes).toEqual([0x2008]);
  });

  it('checks the reserved bits of the pointers', () => {
    const t = pae();
    t.set(0x1020 + 3 * 8, 0x2000n | P | W);
    expect(t.walk(linear)).toBe(false);
    expect(t.result.errorCode).toBe(9);
  });
});

describe('32-bit paging [SDM 3A 4.3]', () => {
  function legacy(): Tables {
    const t = new Tables();
    t.state.set64(CR0, 0x8001_0001n);
    t.state.set64(CR3, 0x1000n);
    t.state.set64(CR4, 0x10n);
    t.write32(0x1000 + 0x301 * 4, 0x2007);
    t.write32(0x2000 + 5 * 4, 0x9000_0007);
    t.writes.length = 0;
    return t;
  }
  const linear = 0xc040_5123n;

  it('translates through two tables', () => {
    const t = legacy();
    expect(t.walk(linear, ACCESS_WRITE, true)).toBe(true);
    expect(t.result.address).toBe(0x9000_0123);
    expect(t.writes).toEqual([0x1c04, 0x2014]);
    expect(t.read32(0x2014)).toBe(0x9000_0067);
  });

  it('maps 4 MiB pages, with PSE-36 above 4 GiB', () => {
    const t = legacy();
    t.write32(0x1c04, 0x0080_6083);
    expect(t.walk(linear)).toBe(true);
    expect(t.result.address).toBe(0x3_0080_5123);
    expect(t.result.sizeBits).toBe(22);
    // Without CR4.PSE bit 7 is ignored: a table, here outside RAM.
    t.state.set64(CR4, 0n);
    expect(t.walk(linear)).toBe(true);
    expect(t.result.sizeBits).toBe(12);
  });
});

it('without paging a linear address is physical, and everything is allowed', () => {
  const t = new Tables();
  expect(t.walk(0xffff_fff0n, ACCESS_WRITE, true)).toBe(true);
  expect(t.result.page).toBe(0xffff_f000);
  expect(t.result.address).toBe(0xffff_fff0);
  expect(t.result.allowed).toBe(0x3f);
});
