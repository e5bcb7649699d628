import { countedOperation, type MicroOperation, microOperation, type Semantics } from '../semantics.ts';
import {
  CLOCK_BASE,
  CLOCK_CAP,
  CLOCK_END,
  CLOCK_KNOWN,
  CLOCK_RATE,
  CPL,
  CR0,
  CR4,
  EFER,
  FLAG,
  FLAGS_AUX,
  FLAGS_REST,
  FLAGS_RESULT,
  GDTR_BASE,
  GDTR_LIMIT,
  KERNEL_GS_BASE,
  LSTAR,
  NMI_BLOCKED,
  PARTNER_TLB,
  QUIET,
  R11,
  RAX,
  RCX,
  RDX,
  RSP,
  SEGMENT,
  SEGMENT_ACCESS,
  SEGMENT_BASE,
  SEGMENT_LIMIT,
  SEGMENT_SELECTOR,
  SFMASK,
  STAR,
  TSC_AUX,
  TSC_OFFSET,
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

/**
 * STI where nothing is pending that the window would let in: interrupts need not be looked at behind the next
 * instruction. That instruction has to be of the same block, or a run could end between the two and would have to
 * leave INTERRUPT_SHADOW behind.
 */
export const QUICK_SET_INTERRUPT = countedOperation('quick-set-interrupt', (s) => {
  const flags = s.state(FLAGS_REST, 8);
  const ioPrivilege = s.and(s.shrU(flags, s.constant(12)), s.constant(3));
  const allowed = s.not(s.ltU(ioPrivilege, s.state(CPL, 4)));
  const followed = s.not(s.isZero(s.number('c')));
  s.when(s.bothOf(s.bothOf(allowed, followed), quiet(s)), () => {
    s.setState(FLAGS_REST, 8, s.or(flags, s.constant(FLAG.if)));
    s.skipNext();
  });
});

function quiet<V, B, X>(s: Semantics<V, B, X>): B {
  return s.not(s.isZero(s.state(QUIET, 4)));
}

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

/** The two words of the arithmetic flags from RFLAGS (system/flags.ts says how). */
function setArithmeticFlags<V, B, X>(s: Semantics<V, B, X>, flags: V): void {
  const bit = (position: number) => s.and(s.shrU(flags, s.constant(position)), s.constant(1));
  const zero = bit(6);
  const carry = bit(0);
  const odd = s.shl(s.xor(bit(2), zero), s.constant(8));
  const auxiliary = s.shl(bit(4), s.constant(3));
  const carries = s.or(s.shl(carry, s.constant(63)), s.shl(s.xor(carry, bit(11)), s.constant(62)));
  s.setFlags(s.xor(zero, s.constant(1)), s.or(s.or(bit(7), auxiliary), s.or(odd, carries)));
}

const ALWAYS_CHANGED = FLAG.df | FLAG.nt | FLAG.id;

/** Flat segments as SYSCALL and SYSRET make them (system/fast-call.ts): CS and SS stand side by side. */
function setFlatSegments<V, B, X>(s: Semantics<V, B, X>, code: V, stack: V, access: bigint): void {
  const half = s.constant(32);
  s.setState(SEGMENT_SELECTOR + SEGMENT.cs * 4, 8, s.or(code, s.shl(stack, half)));
  s.setState(SEGMENT_LIMIT + SEGMENT.cs * 4, 8, s.constant(-1));
  s.setState(SEGMENT_ACCESS + SEGMENT.cs * 4, 8, s.constant(access));
  s.setState(SEGMENT_BASE + SEGMENT.cs * 8, 8, s.constant(0));
  s.setState(SEGMENT_BASE + SEGMENT.ss * 8, 8, s.constant(0));
}

/** Access words of CS and SS, 64-bit code and data, at privilege 0 and 3. */
const KERNEL_ACCESS = 0xc093_0000_a09bn;
const USER_ACCESS = 0xc0f3_0000_a0fbn;
/** RFLAGS that FLAGS_REST holds (system/flags.ts). */
const REST = 0x3c_7700;
const SCE = 1;

/** System calls are enabled, the privilege is `from`, and that of the other one's translations are at hand. */
function mayCross<V, B, X>(s: Semantics<V, B, X>, from: 0 | 3): B {
  const enabled = s.not(s.isZero(s.and(s.state(EFER, 4), s.constant(SCE))));
  const here = s.eq(s.state(CPL, 4), s.constant(from));
  return s.bothOf(s.bothOf(enabled, here), s.not(s.isZero(s.state(PARTNER_TLB, 4))));
}

/**
 * SYSCALL from privilege 3 in 64-bit code, to privilege 0. The immediate is the next instruction's offset. It can only
 * clear flags, so no interrupt gets in; alignment checks have no partner.
 */
export const QUICK_SYSCALL = countedOperation('quick-syscall', (s) => {
  const flags = flagsOf(s);
  const notStepping = s.isZero(s.and(flags, s.constant(FLAG.tf)));
  s.when(s.bothOf(mayCross(s, 3), notStepping), () => {
    const next = s.and(flags, s.xor(s.state(SFMASK, 4), s.constant(-1)));
    const code = s.and(s.shrU(s.state(STAR, 8), s.constant(32)), s.constant(0xfffc));
    const target = s.state(LSTAR, 8);
    s.setState(RCX, 8, s.pc(s.immediate()));
    s.setState(R11, 8, flags);
    s.setState(FLAGS_REST, 8, s.or(s.and(next, s.constant(REST)), s.constant(2)));
    setArithmeticFlags(s, next);
    setFlatSegments(s, code, s.add(code, s.constant(8)), KERNEL_ACCESS);
    // With INTERRUPT_SHADOW behind it, which is 0 while instructions run.
    s.setState(CPL, 8, s.constant(0));
    s.switchContext();
    s.branchTo(target);
  });
});

/** SYSRET from privilege 0 to 64-bit code. */
export const QUICK_SYSRET = countedOperation('quick-sysret', (s) => {
  const target = s.state(RCX, 8);
  const flags = s.state(R11, 4);
  const upper = s.constant(16);
  const canonical = s.eq(s.shrS(s.shl(target, upper), upper), target);
  const plain = s.isZero(s.and(flags, s.constant(FLAG.tf | FLAG.ac)));
  const closed = s.xor(s.state(FLAGS_REST, 8), s.constant(-1));
  const opening = s.and(s.and(flags, closed), s.constant(FLAG.if));
  const quietly = s.eitherOf(s.isZero(opening), quiet(s));
  s.when(s.bothOf(s.bothOf(mayCross(s, 0), canonical), s.bothOf(plain, quietly)), () => {
    const base = s.shrU(s.state(STAR, 8), s.constant(48));
    const selector = (offset: number) =>
      s.or(s.and(s.add(base, s.constant(offset)), s.constant(0xffff)), s.constant(3));
    setFlatSegments(s, selector(16), selector(8), USER_ACCESS);
    s.setState(FLAGS_REST, 8, s.or(s.and(flags, s.constant(REST)), s.constant(2)));
    setArithmeticFlags(s, flags);
    s.setState(CPL, 8, s.constant(3));
    s.switchContext();
    s.branchTo(target);
  });
});

const RETURNED = FLAG.df | FLAG.nt | FLAG.id | FLAG.ac | FLAG.if | FLAG.iopl | FLAG.tf;
/** Bits of a descriptor's upper half: AVL apart from L and D, and the access byte without readable or writable. */
const CODE64_BITS = 0x60_fd00;
const CODE64 = 0x20_9900;
const DATA_BITS = 0x9b00;
const DATA = 0x9300;

/** Does `then` with the descriptor of the GDT that the selector names, when it is not null and lies within. */
function withDescriptor<V, B, X>(s: Semantics<V, B, X>, selector: V, then: (descriptor: V) => void): void {
  const offset = s.and(selector, s.constant(0xfff8));
  const global = s.isZero(s.and(selector, s.constant(4)));
  const within = s.ltU(s.add(offset, s.constant(7)), s.add(s.state(GDTR_LIMIT, 4), s.constant(1)));
  const named = s.not(s.isZero(s.and(selector, s.constant(0xfffc))));
  s.when(s.bothOf(s.bothOf(global, within), named), () =>
    then(s.load(8, s.add(s.state(GDTR_BASE, 8), offset))),
  );
}

/** Limit in bytes, access word and base, as descriptors.ts reads them. */
function descriptorParts<V, B, X>(s: Semantics<V, B, X>, descriptor: V): { limit: V; access: V; base: V } {
  const bits = (shift: number, mask: number) =>
    s.and(s.shrU(descriptor, s.constant(shift)), s.constant(mask));
  const raw = s.or(bits(0, 0xffff), bits(32, 0xf_0000));
  const pages = s.or(s.shl(raw, s.constant(12)), s.constant(0xfff));
  return {
    limit: s.select(s.isZero(bits(55, 1)), raw, pages),
    access: bits(40, 0xf0ff),
    base: s.or(bits(16, 0xff_ffff), bits(32, 0xff00_0000)),
  };
}

/**
 * IRETQ at privilege 0, to 64-bit code at privilege 0 or 3, by the global table, where no segment register has to be
 * made null. The reads of memory are those of the slow way, in its order (system/far-transfer.ts), and each is made
 * only where the slow way gets to it, so that they fault alike.
 */
export const QUICK_INTERRUPT_RETURN = countedOperation('quick-interrupt-return', (s) => {
  const rest = s.state(FLAGS_REST, 8);
  const nested = s.and(rest, s.constant(FLAG.nt));
  const blocked = s.state(NMI_BLOCKED, 4);
  s.when(s.isZero(s.or(s.or(nested, blocked), s.state(CPL, 4))), () => {
    const from = s.state(RSP, 8);
    const slot = (index: number) => s.load(8, s.add(from, s.constant(index * 8)));
    const target = slot(0);
    const codeSelector = s.and(slot(1), s.constant(0xffff));
    const flags = slot(2);
    const pointer = slot(3);
    const stackSelector = s.and(slot(4), s.constant(0xffff));
    const privilege = s.and(codeSelector, s.constant(3));
    const outward = s.not(s.isZero(privilege));
    const level = s.shl(privilege, s.constant(13));
    const upper = s.constant(16);
    const canonical = s.eq(s.shrS(s.shl(target, upper), upper), target);
    const opening = s.and(s.and(flags, s.xor(rest, s.constant(-1))), s.constant(FLAG.if));
    const quietly = s.eitherOf(s.isZero(opening), quiet(s));
    const plain = s.isZero(s.and(flags, s.constant(FLAG.tf | FLAG.ac)));
    const sameStack = s.eq(s.and(stackSelector, s.constant(3)), privilege);
    const wanted = s.bothOf(s.bothOf(canonical, sameStack), s.bothOf(plain, quietly));
    const kept = s.eitherOf(s.not(outward), s.bothOf(keepsSegments(s), s.eq(privilege, s.constant(3))));
    const reached = s.eitherOf(s.not(outward), s.not(s.isZero(s.state(PARTNER_TLB, 4))));
    s.when(s.bothOf(wanted, s.bothOf(kept, reached)), () => {
      const finish = (
        code: typeof target,
        stack: { limit: typeof target; access: typeof target; base: typeof target },
      ) => {
        const half = s.constant(32);
        const parts = descriptorParts(s, code);
        s.setState(SEGMENT_SELECTOR + SEGMENT.cs * 4, 8, s.or(codeSelector, s.shl(stackSelector, half)));
        s.setState(SEGMENT_LIMIT + SEGMENT.cs * 4, 8, s.or(parts.limit, s.shl(stack.limit, half)));
        s.setState(SEGMENT_ACCESS + SEGMENT.cs * 4, 8, s.or(parts.access, s.shl(stack.access, half)));
        s.setState(SEGMENT_BASE + SEGMENT.cs * 8, 8, s.constant(0));
        s.setState(SEGMENT_BASE + SEGMENT.ss * 8, 8, stack.base);
        s.setState(RSP, 8, pointer);
        const changed = s.constant(RETURNED);
        s.setState(FLAGS_REST, 8, s.or(s.and(rest, s.xor(changed, s.constant(-1))), s.and(flags, changed)));
        setArithmeticFlags(s, flags);
        // With INTERRUPT_SHADOW behind it, which is 0 while instructions run.
        s.setState(CPL, 8, privilege);
        s.when(outward, () => s.switchContext());
        s.branchTo(target);
      };
      withDescriptor(s, codeSelector, (code) => {
        const codeBits = s.and(s.shrU(code, s.constant(32)), s.constant(CODE64_BITS));
        s.when(s.eq(codeBits, s.or(level, s.constant(CODE64))), () => {
          const zero = s.constant(0);
          const none = s.isZero(s.and(stackSelector, s.constant(0xfffc)));
          s.when(s.bothOf(none, s.not(outward)), () =>
            finish(code, { limit: zero, access: zero, base: zero }),
          );
          withDescriptor(s, stackSelector, (stack) => {
            const stackBits = s.and(s.shrU(stack, s.constant(32)), s.constant(DATA_BITS | 0x6000));
            s.when(s.eq(stackBits, s.or(level, s.constant(DATA))), () =>
              finish(code, descriptorParts(s, stack)),
            );
          });
        });
      });
    });
  });
});

/** No data segment would be unusable at privilege 3: each is null, or of that privilege. */
function keepsSegments<V, B, X>(s: Semantics<V, B, X>): B {
  const one = (segment: number): B => {
    const access = s.state(SEGMENT_ACCESS + segment * 4, 4);
    const absent = s.isZero(s.and(access, s.constant(0x80)));
    return s.eitherOf(absent, s.eq(s.and(access, s.constant(0x60)), s.constant(0x60)));
  };
  return s.bothOf(s.bothOf(one(SEGMENT.es), one(SEGMENT.ds)), s.bothOf(one(SEGMENT.fs), one(SEGMENT.gs)));
}

/** The bits of FLAGS_REST that POPF leaves: RF and VM are never stored. */
const STORED = 0x3f_7fd7 & ~0x8d5 & ~0x3_0000;

/** POPFQ in 64-bit code that neither starts single steps, nor alignment checks, nor lets an interrupt in. */
export const QUICK_POP_FLAGS64 = countedOperation('quick-pop-flags64', (s) => {
  const top = s.state(RSP, 8);
  const value = s.load(8, top);
  const rest = s.state(FLAGS_REST, 8);
  const privilege = s.state(CPL, 4);
  const none = s.constant(0);
  const ioPrivilege = s.and(s.shrU(rest, s.constant(12)), s.constant(3));
  const changed = s.or(
    s.constant(ALWAYS_CHANGED),
    s.or(
      s.select(s.ltU(ioPrivilege, privilege), none, s.constant(FLAG.if)),
      s.select(s.isZero(privilege), s.constant(FLAG.iopl), none),
    ),
  );
  const next = s.or(s.and(rest, s.xor(changed, s.constant(-1))), s.and(value, changed));
  const stepping = s.and(s.or(rest, value), s.constant(FLAG.tf));
  const checking = s.and(s.xor(rest, value), s.constant(FLAG.ac));
  const opening = s.and(s.and(next, s.xor(rest, s.constant(-1))), s.constant(FLAG.if));
  const plain = s.isZero(s.or(stepping, checking));
  s.when(s.bothOf(plain, s.eitherOf(s.isZero(opening), quiet(s))), () => {
    s.setState(RSP, 8, s.add(top, s.constant(8)));
    // As everything that stores RFLAGS does (state.ts): what is reserved reads as it is defined.
    s.setState(FLAGS_REST, 8, s.or(s.and(next, s.constant(STORED)), s.constant(2)));
    setArithmeticFlags(s, value);
    s.skipNext();
  });
});

const TSD = 4;

/** RDTSC, RDTSCP as GuestTime computes it: base + (count * rate >> 32), up to the cap. */
function quickTimestamp(name: string, withAux: boolean): MicroOperation {
  return countedOperation(name, (s) => {
    const refused = s.bothOf(
      s.not(s.isZero(s.and(s.state(CR4, 4), s.constant(TSD)))),
      s.not(s.isZero(s.state(CPL, 4))),
    );
    const known = s.not(s.isZero(s.state(CLOCK_KNOWN, 4)));
    s.when(s.bothOf(known, s.not(refused)), () => {
      // This instruction and those behind it are charged and have not retired.
      const left = s.add(s.add(s.remaining(), s.number('c')), s.constant(1));
      const count = s.sub(s.state(CLOCK_END, 8), left);
      const rate = s.state(CLOCK_RATE, 8);
      const half = s.constant(32);
      const fraction = s.shrU(s.mul(count, s.zeroExtend(rate, 4)), half);
      const gone = s.add(s.mul(count, s.shrU(rate, half)), fraction);
      const time = s.add(s.state(CLOCK_BASE, 8), gone);
      const cap = s.state(CLOCK_CAP, 8);
      const stamp = s.add(s.select(s.ltU(time, cap), time, cap), s.state(TSC_OFFSET, 8));
      s.setState(RAX, 8, s.zeroExtend(stamp, 4));
      s.setState(RDX, 8, s.shrU(stamp, half));
      if (withAux) s.setState(RCX, 4, s.state(TSC_AUX, 4));
      s.skipNext();
    });
  });
}
export const QUICK_TIMESTAMP = quickTimestamp('quick-timestamp', false);
export const QUICK_TIMESTAMP_AUX = quickTimestamp('quick-timestamp-aux', true);

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
  QUICK_SET_INTERRUPT,
  QUICK_SYSCALL,
  QUICK_SYSRET,
  QUICK_INTERRUPT_RETURN,
  QUICK_POP_FLAGS64,
  QUICK_TIMESTAMP,
  QUICK_TIMESTAMP_AUX,
];
