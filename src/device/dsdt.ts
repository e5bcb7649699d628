import { GPE0_PORT, PM1_EVENT_PORT, SLEEP_TYPE_OFF } from './acpi-power.ts';
import {
  type Aml,
  concatenate,
  device,
  eisaId,
  integer,
  ioPorts,
  irqLine,
  name,
  packageOf,
  producedRange,
  RANGE_BUS,
  RANGE_IO,
  RANGE_MEMORY,
  resources,
  scope,
} from './aml.ts';
import { PCI_SLOTS, pciIrq } from './pci.ts';
import { PCI_WINDOW_FIRST, PCI_WINDOW_LAST } from './pci-function.ts';
import { PM_TIMER_PORT } from './pm-timer.ts';
import { SERIAL_IRQ, SERIAL_PORT } from './serial.ts';

const PINS = [0, 1, 2, 3] as const;

/** Each slot's four pins on their global interrupts, which are the IRQ numbers [ACPI 6.2.13]. */
function interruptRouting(): Aml {
  const entries: Aml[] = [];
  for (let slot = 0; slot < PCI_SLOTS; slot++) {
    for (const pin of PINS) {
      const address = slot * 0x10000 + 0xffff;
      entries.push(packageOf(integer(address), integer(pin), integer(0), integer(pciIrq(slot, pin))));
    }
  }
  return packageOf(...entries);
}

function pciRoot(): Aml {
  return device(
    'PCI0',
    name('_HID', eisaId('PNP0A03')),
    name('_UID', integer(0)),
    name('_BBN', integer(0)),
    name(
      '_CRS',
      resources(
        producedRange(2, RANGE_BUS, 0, 0xff),
        ioPorts(0xcf8, 8),
        producedRange(2, RANGE_IO, 0, 0xcf7),
        producedRange(2, RANGE_IO, 0xd00, 0xffff),
        producedRange(4, RANGE_MEMORY, PCI_WINDOW_FIRST, PCI_WINDOW_LAST),
      ),
    ),
    name('_PRT', interruptRouting()),
  );
}

/** The body of the DSDT: what a system cannot find out by asking the hardware. */
export function dsdtBody(): Aml {
  return concatenate(
    name('\\_S5', packageOf(integer(SLEEP_TYPE_OFF), integer(0), integer(0), integer(0))),
    scope(
      '\\_SB',
      pciRoot(),
      device(
        'COM1',
        name('_HID', eisaId('PNP0501')),
        name('_UID', integer(1)),
        name('_CRS', resources(ioPorts(SERIAL_PORT, 8), irqLine(SERIAL_IRQ))),
      ),
      device('RTC', name('_HID', eisaId('PNP0B00')), name('_CRS', resources(ioPorts(0x70, 2), irqLine(8)))),
      device(
        'MBRD', // ports that are taken, so that nobody puts something else there
        name('_HID', eisaId('PNP0C02')),
        name('_UID', integer(0)),
        name(
          '_CRS',
          resources(
            ioPorts(0x92, 1),
            ioPorts(0x4d0, 2),
            ioPorts(PM1_EVENT_PORT, 6),
            ioPorts(PM_TIMER_PORT, 4),
            ioPorts(GPE0_PORT, 4),
          ),
        ),
      ),
    ),
  );
}
