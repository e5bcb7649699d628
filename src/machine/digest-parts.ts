import { ByteReader, ByteWriter } from '../base/bytes.ts';
import { hash128 } from '../base/hash.ts';
import { PAGE } from '../engine/layout.ts';

/** One part of a machine's state, as it is saved. */
export interface StatePart {
  readonly name: string;
  readonly bytes: Uint8Array;
}

/** RAM as two sums over all pages: of their hashes, and of their hashes times the number of the page. */
export interface RamSums {
  readonly sum: bigint;
  readonly places: bigint;
}

const MASK = 0xffff_ffff_ffff_ffffn;

/** A hash of each part, so that two machines with different digests can tell where they differ: about 100 bytes. */
export function encodeParts(parts: readonly StatePart[], ram: RamSums): Uint8Array {
  const writer = new ByteWriter(16 + parts.length * 4);
  writer.u64(ram.sum).u64(ram.places);
  for (const { bytes } of parts) writer.u32(Number.parseInt(hash128(bytes).slice(0, 8), 16));
  return writer.finish();
}

/**
 * What differs, the first part first: the parts in the order of `parts`, then RAM. When exactly one page differs the
 * two sums name it: their differences have the page's number as ratio. Undefined: nothing that the parts would show.
 */
export function differingParts(
  parts: readonly StatePart[],
  ram: RamSums,
  theirs: Uint8Array,
  pages: number,
): string | undefined {
  if (theirs.length !== 16 + parts.length * 4) return undefined;
  const own = new ByteReader(encodeParts(parts, ram));
  const other = new ByteReader(theirs);
  const sum = (own.u64() - other.u64()) & MASK;
  const places = (own.u64() - other.u64()) & MASK;
  const differing = parts.filter(() => own.u32() !== other.u32()).map(({ name }) => name);
  if (sum !== 0n || places !== 0n) differing.push(ramPlace(sum, places, pages));
  return differing.length === 0 ? undefined : differing.join(', ');
}

function ramPlace(sum: bigint, places: bigint, pages: number): string {
  for (let page = 0; sum !== 0n && page < pages; page++) {
    // A page counts with its number plus one, so that the first one counts at all.
    if (((sum * BigInt(page + 1)) & MASK) === places)
      return `RAM page ${page} (at 0x${(page * PAGE).toString(16)})`;
  }
  return 'several RAM pages';
}
