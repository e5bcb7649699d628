import { ByteReader } from '../base/bytes.ts';
import { failed, ok, type Result } from '../base/result.ts';

/** Of what a machine's snapshot begins with, and of everything behind it (docs/HACKING.md: when it is raised). */
export const SNAPSHOT_FORMAT_VERSION = 4;

export const SNAPSHOT_MAGIC = 0x4b4c_534c;

const HEAD_BYTES = 8;

/** Whether these bytes can be a snapshot that this build reads. */
export function checkSnapshotHead(snapshot: Uint8Array): Result<undefined> {
  if (snapshot.length < HEAD_BYTES) return failed('the snapshot is damaged: it ends within its head');
  const head = new ByteReader(snapshot);
  if (head.u32() !== SNAPSHOT_MAGIC) return failed('this is no snapshot of a Lockstep machine');
  const version = head.u32();
  if (version === SNAPSHOT_FORMAT_VERSION) return ok(undefined);
  return failed(`the snapshot has format ${version}, this build reads ${SNAPSHOT_FORMAT_VERSION}`);
}
