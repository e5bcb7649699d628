import { open, readFile, rename, rm } from 'node:fs/promises';
import { ByteReader, ByteWriter } from '../base/bytes.ts';
import { failed, ok, type Result } from '../base/result.ts';
import { decodeText, encodeText } from '../base/text.ts';
import { instructionCount } from '../base/units.ts';
import type { MachineSnapshot } from '../ft/event.ts';
import { fileProblem } from './guest-files.ts';

/** "LSVM". */
const MAGIC = 0x4d56_534c;
const VERSION = 1;

/** Writes a guest's state as a whole or not at all. It holds the guest's memory: only its owner may read it. */
export async function writeSnapshotFile(path: string, snapshot: MachineSnapshot): Promise<Result<undefined>> {
  const { machine, count, position, digest } = snapshot;
  const header = new ByteWriter()
    .u32(MAGIC)
    .u32(VERSION)
    .u64(count)
    .u64(position.outputs)
    .bytes(encodeText(digest))
    .finish();
  const temporary = `${path}.new`;
  try {
    const file = await open(temporary, 'w', 0o600);
    try {
      await file.writeFile(header);
      await file.writeFile(machine);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
    return ok(undefined);
  } catch (error) {
    await rm(temporary, { force: true });
    return failed(`snapshot ${path} ${fileProblem(error as NodeJS.ErrnoException)}`);
  }
}

/** Whether the machine's bytes are whole shows at their restoration: the digest has to be the same. */
export async function readSnapshotFile(path: string): Promise<Result<MachineSnapshot>> {
  let bytes: Uint8Array;
  try {
    bytes = await readFile(path);
  } catch (error) {
    return failed(`snapshot ${path} ${fileProblem(error as NodeJS.ErrnoException)}`);
  }
  try {
    const reader = new ByteReader(bytes);
    if (reader.u32() !== MAGIC) return failed(`${path} is no snapshot of a Lockstep guest`);
    const version = reader.u32();
    if (version !== VERSION) return failed(`snapshot ${path} has version ${version}, this is ${VERSION}`);
    const count = instructionCount(reader.u64());
    const position = { outputs: reader.u64() };
    const digest = decodeText(reader.bytes());
    return ok({ machine: reader.raw(reader.remaining), count, position, digest });
  } catch {
    return failed(`snapshot ${path} is truncated`);
  }
}
