import { expect, it } from 'vitest';
import { expectAgreement } from './agreement.ts';
import { CONDITION, REG } from './assembler.ts';
import { APIC, CODE, GuestImage, HANDLERS } from './small-guest.ts';

/** Non-maskable interrupts [SDM 3A 6.7.1]. */

const { rax, rcx } = REG;
const NMI = 2;
const DEPTH = 0x2_0000;
const POINTER = 0x2_0008;
const DEPTHS = 0x2_0100;
/** To itself, by shorthand [SDM 3A 10.6.1]. */
const SEND_NMI = 0x4_4400;
const ICR = 0x300;

it('an NMI during the handler of another waits for its IRET', () => {
  const image = new GuestImage();
  image.loggingHandlers();
  image.view.setUint32(POINTER, DEPTHS, true);
  const handler = HANDLERS + 0x800;
  image.gate(NMI, handler);
  image.code(handler, (out) => {
    out.inc({ displacement: DEPTH });
    out.load(rax, { displacement: DEPTH }).load(rcx, { displacement: POINTER });
    out.store({ base: rcx }, rax).aluImmediate(0, rcx, 8).store({ displacement: POINTER }, rcx);
    // Three in all.
    out
      .set(rax, DEPTHS + 24)
      .op([0x39], rax, rcx)
      .jumpIf(CONDITION.ae, 'enough');
    out.set(rax, APIC).storeImmediate({ base: rax, displacement: ICR }, SEND_NMI, 4).nop();
    out.label('enough').load(rax, { displacement: DEPTH }).aluImmediate(5, rax, 1);
    out.store({ displacement: DEPTH }, rax).iretq();
  });
  image.code(CODE, (out) => {
    out.set(rax, APIC).storeImmediate({ base: rax, displacement: ICR }, SEND_NMI, 4).nop().nop().hlt();
  });
  const machine = expectAgreement(image, 150);
  const depths = new DataView(machine.machine.memory.read(DEPTHS, 32)!.slice().buffer);
  expect([0, 8, 16, 24].map((at) => Number(depths.getBigUint64(at, true)))).toEqual([1, 1, 1, 0]);
});
