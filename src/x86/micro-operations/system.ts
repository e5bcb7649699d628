import { microOperation, type Semantics } from '../semantics.ts';
import {
  CPL,
  CR0,
  CR4,
  FLAG,
  FLAGS_AUX,
  FLAGS_REST,
  FLAGS_RESULT,
  KERNEL_GS_BASE,
  RSP,
  SEGMENT,
  SEGMENT_BASE,
} from '../state.ts';

/** System instructions that are frequent, or that only check a privilege: no slow path, and no end of the block. */

const GP = 13;
const UD = 6;

/** Does `then` at privilege 0, and raises #GP(0) elsewhere. */
function privileged<V, B, X>(s: Semantics<V, B, X>, then: () => void): void {
  s.when(s.isZero(s.state(CPL, 4)), then, () => s.fault(GP, 0));
}

/** INVLPG, INVD, WBINVD: cached translations are always exact, and there is no cache to write back. */
export const REQUIRE_PRIVILEGE = microOperation('require-privilege', (s) => privileged(s, () => {}));

/** SLDT and STR are undefined in real mode. */
export const REQUIRE_PROTECTED = microOperation('require-protected', (s) =>
  s.when(s.isZero(s.and(s.state(CR0, 4), s.constant(1))), () => s.fault(UD)),
);

/** a = the control register at offset b. */
export const READ_CONTROL32 = microOperation('read-control32', (s) =>
  privileged(s, () => s.set('a', 4, s.get('b', 4))),
);
export const READ_CONTROL64 = microOperation('read-control64', (s) =>
  privileged(s, () => s.set('a', 8, s.get('b', 8))),
);

/** CLI: allowed up to IOPL [SDM 2A CLI]. It closes the interrupt window, so nobody need look. */
export const CLEAR_INTERRUPT = microOperation('clear-interrupt', (s) => {
  const flags = s.state(FLAGS_REST, 8);
  const ioPrivilege = s.and(s.shrU(flags, s.constant(12)), s.constant(3));
  // In real mode the privilege is 0.
  s.when(
    s.ltU(ioPrivilege, s.state(CPL, 4)),
    () => s.fault(GP, 0),
    () => s.setState(FLAGS_REST, 8, s.and(flags, s.constant(~BigInt(FLAG.if)))),
  );
});

/** SWAPGS [SDM 2B SWAPGS]. */
export const SWAP_GS = microOperation('swap-gs', (s) =>
  privileged(s, () => {
    const base = SEGMENT_BASE + SEGMENT.gs * 8;
    const current = s.state(base, 8);
    const other = s.state(KERNEL_GS_BASE, 8);
    s.setState(base, 8, other);
    s.setState(KERNEL_GS_BASE, 8, current);
  }),
);

const FSGSBASE = 0x1_0000;

/** RDFSBASE, RDGSBASE: a = the base at offset b. */
function readBase<V, B, X>(s: Semantics<V, B, X>, size: 4 | 8): void {
  s.when(
    s.isZero(s.and(s.state(CR4, 4), s.constant(FSGSBASE))),
    () => s.fault(UD),
    () => s.set('a', size, s.get('b', size)),
  );
}
export const READ_BASE32 = microOperation('read-base32', (s) => readBase(s, 4));
export const READ_BASE64 = microOperation('read-base64', (s) => readBase(s, 8));

/** WRFSBASE, WRGSBASE: the base at offset a = b, which must be canonical. */
function writeBase<V, B, X>(s: Semantics<V, B, X>, size: 4 | 8): void {
  s.when(
    s.isZero(s.and(s.state(CR4, 4), s.constant(FSGSBASE))),
    () => s.fault(UD),
    () => {
      const value = s.get('b', size);
      if (size === 4) {
        s.set('a', 8, value);
        return;
      }
      const upper = s.constant(16);
      s.when(
        s.eq(s.shrS(s.shl(value, upper), upper), value),
        () => s.set('a', 8, value),
        () => s.fault(GP, 0),
      );
    },
  );
}
export const WRITE_BASE32 = microOperation('write-base32', (s) => writeBase(s, 4));
export const WRITE_BASE64 = microOperation('write-base64', (s) => writeBase(s, 8));

/** RFLAGS, spelt out; RF and VM are never stored (system/flags.ts). */
function flagsOf<V, B, X>(s: Semantics<V, B, X>): V {
  const result = s.state(FLAGS_RESULT, 8);
  const aux = s.state(FLAGS_AUX, 8);
  const bit = (value: V, mask: number) => s.and(value, s.constant(mask));
  const low = bit(s.xor(result, s.shrU(aux, s.constant(8))), 0xff);
  const carry = s.shrU(aux, s.constant(63));
  const overflow = s.shl(s.xor(carry, bit(s.shrU(aux, s.constant(62)), 1)), s.constant(11));
  const parity = s.shl(bit(s.add(s.popcnt(low), s.constant(1)), 1), s.constant(2));
  const auxiliary = s.shl(bit(aux, 8), s.constant(1));
  const zero = s.shl(s.value(s.isZero(result)), s.constant(6));
  const sign = s.shl(s.xor(s.shrU(result, s.constant(63)), bit(aux, 1)), s.constant(7));
  const arithmetic = s.or(s.or(s.or(carry, overflow), s.or(parity, auxiliary)), s.or(zero, sign));
  return s.or(arithmetic, s.state(FLAGS_REST, 8));
}

/** PUSHFQ in 64-bit code. */
export const PUSH_FLAGS64 = microOperation('push-flags64', (s) => {
  const value = flagsOf(s);
  const top = s.sub(s.state(RSP, 8), s.constant(8));
  s.store(8, top, value);
  s.setState(RSP, 8, top);
});

export const SYSTEM_MICRO_OPERATIONS = [
  REQUIRE_PRIVILEGE,
  REQUIRE_PROTECTED,
  READ_CONTROL32,
  READ_CONTROL64,
  CLEAR_INTERRUPT,
  SWAP_GS,
  READ_BASE32,
  READ_BASE64,
  WRITE_BASE32,
  WRITE_BASE64,
  PUSH_FLAGS64,
];
