import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { copyFile, mkdir, readFile, rename, rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Result } from '../../src/base/result.ts';
import { buildImage, type GuestImage } from '../../src/host/image/build-image.ts';
import { runCommand } from '../../src/host/image/command.ts';
import { DebianArchive } from '../../src/host/image/debian-packages.ts';
import { addFolder, newInitramfs } from '../../src/host/image/initramfs.ts';
import { PRUNED } from '../../src/host/image/recipes.ts';
import { cacheFolder } from '../../src/host/image/repository.ts';

/** Raise when the same sources give another guest. */
const BUILDER_VERSION = 2;
const PACKAGES = ['busybox-static', 'sqlite3'];
const DISK_BYTES = 64 * 2 ** 20;

const INIT = `#!/bin/sh
. /init-common.sh
mkdir -p /data
mount -t ext4 /dev/vda /data
sqlite3 -batch /data/load.db 'create table if not exists t(n integer primary key, x text);'
sync
echo LOCKSTEP-GUEST-READY
exec setsid cttyhack sh
`;

/**
 * One transaction after the other, and the number of each on the console once it is committed: an acknowledgement.
 * EXTRA, because a rollback journal that comes back after a power loss takes its transaction with it [SQLite, pragma
 * synchronous]. Beside it files come and go.
 */
const LOAD = `#!/bin/sh
i=0
while :; do i=$((i + 1)); head -c $((i % 40 * 4096)) /dev/urandom >/data/f$((i % 16)); rm -f /data/f$((i * 7 % 16)); sleep 0.05; done &
i=$(sqlite3 -batch /data/load.db 'select coalesce(max(n), 0) from t;')
echo "LOAD FROM $i"
{ echo 'pragma synchronous=EXTRA;'
  while :; do i=$((i + 1)); echo "insert into t values($i, hex(randomblob(500)) || ' $i');"; echo "select 'ACK $i.';"; done
} | sqlite3 -batch /data/load.db
`;

function must<Value>(result: Result<Value>): Value {
  if (!result.ok) throw new Error(result.error);
  return result.value;
}

/** Debian's cloud kernel with busybox and sqlite in memory, and an ext4 disk for the database. */
export async function crashGuest(): Promise<GuestImage> {
  const progress = () => {};
  const base = must(await buildImage('boot', { progress }));
  const words = JSON.stringify([BUILDER_VERSION, PACKAGES, INIT, LOAD, base.initrd]);
  const name = `crash-${createHash('sha256').update(words).digest('hex').slice(0, 12)}`;
  const folder = join(cacheFolder(), 'images', name);
  const image: GuestImage = {
    name: 'crash',
    kernel: join(folder, 'vmlinuz'),
    initrd: join(folder, 'initrd.img'),
    disk: join(folder, 'disk.img'),
    commandLine: 'console=ttyS0',
    packages: [],
  };
  if (existsSync(folder)) return image;
  const work = `${folder}.partial-${process.pid}`;
  const root = join(work, 'root');
  await mkdir(root, { recursive: true });
  try {
    const archive = new DebianArchive(join(cacheFolder(), 'packages'), progress);
    must(await archive.open());
    const packages = must(await archive.closure(PACKAGES));
    must(await archive.download(packages));
    must(await archive.unpack(packages, root));
    for (const path of PRUNED) await rm(join(root, path), { recursive: true, force: true });
    const more = newInitramfs();
    await addFolder(more, root);
    more.file('init', 0o755, Buffer.from(INIT)).file('load', 0o755, Buffer.from(LOAD));
    const initrd = Buffer.concat([await readFile(base.initrd), more.finish()]);
    await writeFile(join(work, 'initrd.img'), initrd);
    await copyFile(base.kernel, join(work, 'vmlinuz'));
    await writeFile(join(work, 'disk.img'), '');
    await truncate(join(work, 'disk.img'), DISK_BYTES);
    must(await runCommand('mke2fs', ['-q', '-t', 'ext4', '-F', join(work, 'disk.img')]));
    await rm(root, { recursive: true });
    await rename(work, folder);
  } finally {
    await rm(work, { recursive: true, force: true });
  }
  return image;
}
