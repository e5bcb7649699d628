/** ACPI Machine Language, as much as a small board needs [ACPI 20]. Each function gives the bytes of one term. */
export type Aml = Uint8Array;

export function concatenate(...parts: readonly Aml[]): Aml {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

function ascii(text: string): Aml {
  return Uint8Array.from(text, (character) => character.charCodeAt(0));
}

function little(value: number, size: number): Aml {
  const bytes = new Uint8Array(size);
  for (let at = 0; at < size; at++) bytes[at] = Math.floor(value / 256 ** at) % 256;
  return bytes;
}

function segment(name: string): Aml {
  if (!/^[A-Z_][A-Z0-9_]{0,3}$/.test(name)) throw new RangeError(`"${name}" is no AML name`);
  return ascii(name.padEnd(4, '_'));
}

/** A name such as `_HID`, `\_SB` or `\_SB.PCI0` [ACPI 20.2.2]. */
export function namePath(path: string): Aml {
  const root = path.startsWith('\\');
  const names = (root ? path.slice(1) : path).split('.').map(segment);
  const prefix = names.length === 1 ? [] : names.length === 2 ? [0x2e] : [0x2f, names.length];
  return concatenate(ascii(root ? '\\' : ''), Uint8Array.from(prefix), ...names);
}

/** The length of a package counts itself, in one to four bytes [ACPI 20.2.4]. */
function withLength(content: Aml): Aml {
  if (content.length < 0x3f) return concatenate(Uint8Array.of(content.length + 1), content);
  for (let extra = 1; extra <= 3; extra++) {
    const length = content.length + extra + 1;
    if (length >= 2 ** (4 + 8 * extra)) continue;
    const head = Uint8Array.of((extra << 6) | (length & 0xf));
    return concatenate(head, little(Math.floor(length / 16), extra), content);
  }
  throw new RangeError('an AML package is too long');
}

export function integer(value: number): Aml {
  if (value === 0 || value === 1) return Uint8Array.of(value);
  if (value <= 0xff) return Uint8Array.of(0x0a, value);
  if (value <= 0xffff) return concatenate(Uint8Array.of(0x0b), little(value, 2));
  if (value <= 0xffffffff) return concatenate(Uint8Array.of(0x0c), little(value, 4));
  return concatenate(Uint8Array.of(0x0e), little(value, 8));
}

export function text(value: string): Aml {
  return concatenate(Uint8Array.of(0x0d), ascii(value), Uint8Array.of(0));
}

export function name(path: string, value: Aml): Aml {
  return concatenate(Uint8Array.of(0x08), namePath(path), value);
}

export function scope(path: string, ...terms: readonly Aml[]): Aml {
  return concatenate(Uint8Array.of(0x10), withLength(concatenate(namePath(path), ...terms)));
}

export function device(path: string, ...terms: readonly Aml[]): Aml {
  return concatenate(Uint8Array.of(0x5b, 0x82), withLength(concatenate(namePath(path), ...terms)));
}

export function packageOf(...elements: readonly Aml[]): Aml {
  const content = concatenate(Uint8Array.of(elements.length), ...elements);
  return concatenate(Uint8Array.of(0x12), withLength(content));
}

export function buffer(bytes: Aml): Aml {
  return concatenate(Uint8Array.of(0x11), withLength(concatenate(integer(bytes.length), bytes)));
}

/** A compressed EISA ID such as PNP0A03 [ACPI 19.6.36]: three letters of 5 bits, then four hex digits. */
export function eisaId(id: string): Aml {
  const letters = [0, 1, 2].map((at) => id.charCodeAt(at) - 0x40);
  const product = Number.parseInt(id.slice(3), 16);
  const value = (letters[0]! << 26) | (letters[1]! << 21) | (letters[2]! << 16) | product;
  const bytes = little(value >>> 0, 4).reverse();
  return concatenate(Uint8Array.of(0x0c), bytes);
}

/** A buffer of resource descriptors; the end tag's zero checksum means "not checked" [ACPI 6.4.2.9]. */
export function resources(...descriptors: readonly Aml[]): Aml {
  return buffer(concatenate(...descriptors, Uint8Array.of(0x79, 0x00)));
}

/** Ports at a fixed address, all 16 bits decoded [ACPI 6.4.2.5]. */
export function ioPorts(first: number, length: number): Aml {
  return concatenate(Uint8Array.of(0x47, 1), little(first, 2), little(first, 2), Uint8Array.of(1, length));
}

/** An edge-triggered, active-high, unshared ISA interrupt [ACPI 6.4.2.1]. */
export function irqLine(irq: number): Aml {
  return concatenate(Uint8Array.of(0x22), little(1 << irq, 2));
}

export const RANGE_MEMORY = 0;
export const RANGE_IO = 1;
export const RANGE_BUS = 2;

/** A range that a bridge passes on, as a word or doubleword address space descriptor [ACPI 6.4.3.5]. */
export function producedRange(size: 2 | 4, kind: number, first: number, last: number): Aml {
  // Positively decoded by a producer, both ends fixed. Memory is read-write and uncached; ports are all.
  const general = 0x0c;
  const specific = kind === RANGE_MEMORY ? 0x01 : kind === RANGE_IO ? 0x03 : 0x00;
  const body = concatenate(
    Uint8Array.of(kind, general, specific),
    ...[0, first, last, 0, last - first + 1].map((value) => little(value, size)),
  );
  return concatenate(Uint8Array.of(size === 2 ? 0x88 : 0x87), little(body.length, 2), body);
}
