import { ByteReader } from '../base/bytes.ts';
import { hash128 } from '../base/hash.ts';
import { failed, ok, type Result } from '../base/result.ts';
import { decodeConfig, type EngineOptions, hexBytes } from './config.ts';
import type { CopiedPages } from './copied-pages.ts';
import type { OutputSink } from './door.ts';
import { LockstepMachine } from './machine.ts';
import { checkSnapshotHead } from './snapshot-format.ts';

const DIGEST_BYTES = 16;

/**
 * A machine in exactly the state of a snapshot. Damaged bytes give an error. `staged`: what had come of a copy before
 * the snapshot, which is its end.
 */
export function restoreMachine(
  snapshot: Uint8Array,
  sink: OutputSink,
  options?: EngineOptions,
  staged?: CopiedPages,
): Result<LockstepMachine> {
  try {
    const known = checkSnapshotHead(snapshot);
    if (!known.ok) return known;
    const reader = new ByteReader(snapshot);
    reader.u64();
    const configBytes = reader.bytes();
    if (!equalBytes(reader.raw(DIGEST_BYTES), hexBytes(hash128(configBytes))))
      return failed('the snapshot is damaged: its configuration does not have its hash');
    const config = decodeConfig(configBytes);
    if (!config.ok) return config;
    const prepared = staged?.machineFor?.(configBytes, sink);
    const machine = prepared ?? new LockstepMachine(config.value, sink, options);
    const restored = machine.restore(reader, prepared ? undefined : staged);
    if (!restored.ok) return restored;
    const digest = reader.raw(DIGEST_BYTES);
    if (reader.remaining > 0) return failed('the snapshot is damaged: there is more behind its end');
    if (!equalBytes(digest, hexBytes(machine.digest())))
      return failed('the snapshot is damaged: the machine in it does not have its digest');
    return ok(machine);
  } catch (error) {
    return failed(`the snapshot is damaged: ${error instanceof Error ? error.message : String(error)}`);
  }
}

function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, index) => byte === b[index]);
}
