/** fallocate(2), which Node does not have. Its library is loaded at the first call: who clears nothing does without. */

type Fallocate = (fd: number, mode: number, offset: number, length: number) => Promise<number>;

const KEEP_SIZE = 0x01;
const PUNCH_HOLE = 0x02;
const ZERO_RANGE = 0x10;

let fallocate: Promise<Fallocate | undefined> | undefined;

/**
 * Zeroes in a range of a file without writing them; `allocated`: its blocks stay the file's. False: this file system or
 * host cannot, and nothing has changed that matters.
 */
export async function clearInFile(
  fd: number,
  offset: number,
  length: number,
  allocated: boolean,
): Promise<boolean> {
  fallocate ??= load();
  const call = await fallocate;
  if (call === undefined) return false;
  return (await call(fd, KEEP_SIZE | (allocated ? ZERO_RANGE : PUNCH_HOLE), offset, length)) === 0;
}

async function load(): Promise<Fallocate | undefined> {
  try {
    const { default: koffi } = await import('koffi');
    const native = koffi.load(null).func('int fallocate(int fd, int mode, int64_t offset, int64_t length)');
    return (...words) =>
      new Promise((resolve) => {
        // In a thread of the pool: a journal may take its time.
        native.async(...words, (error: unknown, result: number) => resolve(error === null ? result : -1));
      });
  } catch {
    return undefined;
  }
}
