import { ByteWriter } from '../base/bytes.ts';
import { hash128 } from '../base/hash.ts';
import { PAGE } from '../engine/layout.ts';
import { encodeConfig, hexBytes, type MachineConfig } from './config.ts';
import type { Digest } from './door.ts';
import type { MachineState } from './machine-state.ts';
import { SNAPSHOT_FORMAT_VERSION, SNAPSHOT_MAGIC } from './snapshot-format.ts';

export interface SnapshotContent {
  readonly config: MachineConfig;
  readonly state: MachineState;
  readonly ram: Uint8Array;
  /** The pages of it that are written. */
  readonly pages: ArrayLike<number> & Iterable<number>;
  /** Of the whole machine: it tells a damaged snapshot from a sound one. */
  readonly digest: () => Digest;
  /** Goes behind the snapshot, in the same piece of memory. */
  readonly appendix: Uint8Array | undefined;
}

/** A machine as bytes: configuration and its hash, state, pages of RAM, digest. restore.ts makes a machine of them. */
export function writeSnapshot({ config, state, ram, pages, digest, appendix }: SnapshotContent): Uint8Array {
  const saved = new ByteWriter(16384);
  state.save(saved);
  const header = encodeConfig(config);
  // As large as it will be, and handed out as it is: copies of it would be a good part of what a guest costs.
  const size = 128 + header.length + saved.length + pages.length * (PAGE + 4) + (appendix?.length ?? 0);
  const writer = new ByteWriter(size);
  writer
    .u32(SNAPSHOT_MAGIC)
    .u32(SNAPSHOT_FORMAT_VERSION)
    .bytes(header)
    .raw(hexBytes(hash128(header)));
  writer.bytes(saved.finish());
  for (const page of pages) writer.u32(page).raw(ram.subarray(page * PAGE, (page + 1) * PAGE));
  writer.u32(0xffff_ffff).raw(hexBytes(digest()));
  if (appendix) writer.raw(appendix);
  return writer.take();
}
