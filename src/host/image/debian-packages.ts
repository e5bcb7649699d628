import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { link, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { failed, ok, type Result } from '../../base/result.ts';
import { runCommand } from './command.ts';

/**
 * Debian packages without root: apt resolves and downloads (and checks signatures and hashes), `dpkg -x`
 * unpacks. Nothing is installed on the host.
 */

export interface DebianPackage {
  readonly name: string;
  readonly version: string;
  /** Name of the .deb file, unique for this version. */
  readonly file: string;
  /** Of the file, in hexadecimal, as the archive's signed index says. */
  readonly sha256: string;
}

/** Everything that apt prints addresses of is named with this hash. */
const HASH = ['-o', 'Acquire::ForceHash=SHA256'];

/** Packages that only matter to installing and configuring others; no image runs them. */
const INSTALLERS =
  /^(adduser|debconf|dpkg|tar|usrmerge|init-system-helpers|sysvinit-utils|lsb-base|passwd|gcc-12-base|perl.*|libperl.*|lib.*-perl|libgdbm.*|libdb5\.3|libpam.*|libaudit.*|libcap-ng0|libsemanage.*|libsepol2|libselinux1|libpcre2.*|libmd0|libacl1|libattr1)$/;

export class DebianArchive {
  readonly #folder: string;
  readonly #progress: (line: string) => void;
  readonly #foreign: string | undefined;
  #aptOptions: string[] = [];

  /** `folder` caches .deb files over all images; `foreign` is an architecture that is not the host's. */
  constructor(folder: string, progress: (line: string) => void, foreign?: string) {
    this.#folder = folder;
    this.#progress = progress;
    this.#foreign = foreign;
  }

  /** Makes sure that apt knows its archives, with lists of our own where the host's are empty. */
  async open(): Promise<Result<void>> {
    await mkdir(this.#folder, { recursive: true });
    if (this.#foreign !== undefined) return this.#openForeign(this.#foreign);
    const known = await runCommand('apt-cache', ['show', '--no-all-versions', 'busybox-static']);
    if (known.ok && known.value !== '') return ok(undefined);
    if (!known.ok && known.error.includes('not installed'))
      return failed('images are built from Debian packages and apt is not here: run on Debian 12 or newer');
    return this.#updateOwnLists();
  }

  /** The one package that a metapackage of the kernel stands for. */
  async kernelPackage(metapackage: string): Promise<Result<string>> {
    const depends = await runCommand('apt-cache', [...this.#aptOptions, 'depends', metapackage]);
    if (!depends.ok) return depends;
    const name = /Depends: (linux-image-\S+)/.exec(depends.value)?.[1];
    return name === undefined ? failed(`apt does not know ${metapackage}; run apt-get update`) : ok(name);
  }

  /** The packages and all they depend on, as apt would install them on an empty system; installers left out. */
  async closure(
    names: readonly string[],
    everything = false,
    without: readonly string[] = [],
  ): Promise<Result<DebianPackage[]>> {
    const emptyStatus = await this.#emptyStatus();
    // An archive cache of our own: apt prints no address for what already lies in its own.
    const archives = join(this.#folder, 'archives');
    await mkdir(join(archives, 'partial'), { recursive: true });
    const options = [
      ...this.#aptOptions,
      ...['-o', `Dir::State::status=${emptyStatus}`, '-o', `Dir::Cache::archives=${archives}`],
    ];
    const uris = await runCommand('apt-get', [
      ...options,
      ...[...HASH, '--no-install-recommends', '--print-uris', '--yes', '-qq', 'install', ...names],
    ]);
    if (!uris.ok) return uris;
    const packages = uris.value.split('\n').flatMap((line) => packageOfUri(line));
    const wanted = packages.filter(({ name }) => !without.includes(name));
    return ok(wanted.filter(({ name }) => everything || names.includes(name) || !INSTALLERS.test(name)));
  }

  /** The one package, without what it depends on. */
  async single(name: string): Promise<Result<DebianPackage>> {
    const print = [...HASH, '--print-uris', '-qq', 'download', name];
    const uri = await runCommand('apt-get', [...this.#aptOptions, ...print]);
    if (!uri.ok) return uri;
    const found = packageOfUri(uri.value.trim())[0];
    return found === undefined ? failed(`apt does not know ${name}; run apt-get update`) : ok(found);
  }

  /** Brings what the cache has not, or has with another content than the archive's index says. */
  async download(packages: readonly DebianPackage[]): Promise<Result<void>> {
    for (const { file, sha256 } of packages) {
      const path = join(this.#folder, file);
      if (existsSync(path) && (await sha256Of(path)) !== sha256) await rm(path);
    }
    const missing = packages.filter(({ file }) => !existsSync(join(this.#folder, file)));
    if (missing.length === 0) return ok(undefined);
    this.#progress(`downloading ${missing.length} Debian packages`);
    const args = ['-o', 'APT::Sandbox::User=root', '-qq', 'download'];
    const wanted = missing.map(({ name, version }) => `${name}=${version}`);
    const first = await runCommand('apt-get', [...this.#aptOptions, ...args, ...wanted], {
      cwd: this.#folder,
    });
    if (!first.ok) return first;
    const lost = missing.find(({ file }) => !existsSync(join(this.#folder, file)));
    return lost === undefined ? ok(undefined) : failed(`apt-get download did not bring ${lost.file}`);
  }

  /** The folder `into` gets these packages, which have been downloaded, under their names. */
  async link(packages: readonly DebianPackage[], into: string): Promise<void> {
    await mkdir(into, { recursive: true });
    for (const { file } of packages) await link(join(this.#folder, file), join(into, file));
  }

  /** The archives that the host's packages of Debian come from, one `deb` line for each. */
  async sources(): Promise<Result<readonly string[]>> {
    return this.#sourceLines('deb');
  }

  async #sourceLines(kind: 'deb' | 'deb-src'): Promise<Result<readonly string[]>> {
    const format = ['--format', `$(ORIGIN)|${kind} $(REPO_URI) $(RELEASE) $(COMPONENT)`];
    const targets = await runCommand('apt-get', [
      ...this.#aptOptions,
      ...['indextargets', ...format, 'Created-By: Packages'],
    ]);
    if (!targets.ok) return targets;
    const lines = targets.value.split('\n').filter((line) => line.startsWith('Debian|'));
    return lines.length === 0
      ? failed("apt has no archive of Debian's: run on Debian 12 or newer")
      : ok([...new Set(lines.map((line) => line.slice('Debian|'.length)))]);
  }

  /** The archive of upstream's source that this version of the package was built from. */
  async source(name: string, version: string): Promise<Result<string>> {
    // 1:3.0.22-1~deb12u2 was built from openssl_3.0.22.orig.tar.gz.
    const upstream = version.replace(/^\d+:/, '').replace(/-[^-]*$/, '');
    const start = `${name}_${upstream}.orig.tar.`;
    await mkdir(this.#folder, { recursive: true });
    const kept = async () => (await readdir(this.#folder)).find((file) => file.startsWith(start));
    const cached = await kept();
    if (cached !== undefined) return ok(join(this.#folder, cached));
    const options = await this.#sourceLists();
    if (!options.ok) return options;
    this.#progress(`downloading the source of ${name} ${version}`);
    const get = ['-qq', '--download-only', '--tar-only', 'source', `${name}=${version}`];
    const got = await runCommand('apt-get', [...options.value, ...get], { cwd: this.#folder });
    if (!got.ok) return got;
    const found = await kept();
    return found === undefined
      ? failed(`apt-get source did not bring ${start}*`)
      : ok(join(this.#folder, found));
  }

  /** Few hosts list source packages; these lists are kept here, of the same archives as the host's packages. */
  async #sourceLists(): Promise<Result<string[]>> {
    const state = join(this.#folder, 'apt-source');
    await mkdir(join(state, 'lists', 'partial'), { recursive: true });
    const lines = await this.#sourceLines('deb-src');
    if (!lines.ok) return lines;
    await writeFile(join(state, 'sources.list'), lines.value.map((line) => `${line}\n`).join(''));
    const options = [
      ...['-o', `Dir::State::lists=${join(state, 'lists')}`, '-o', `Dir::Cache=${state}`],
      ...[
        '-o',
        `Dir::Etc::sourcelist=${join(state, 'sources.list')}`,
        '-o',
        'Dir::Etc::sourceparts=/dev/null',
      ],
      ...['-o', 'APT::Sandbox::User=root', '-o', 'Debug::NoLocking=1'],
    ];
    this.#progress("fetching the list of Debian's source packages");
    const updated = await runCommand('apt-get', [...options, '-qq', 'update']);
    return updated.ok ? ok(options) : failed(`Debian's sources cannot be reached (${updated.error})`);
  }

  /** Unpacks packages over each other into one folder. */
  async unpack(packages: readonly DebianPackage[], folder: string): Promise<Result<void>> {
    await mkdir(folder, { recursive: true });
    for (const { file } of packages) {
      const unpacked = await runCommand('dpkg', ['-x', join(this.#folder, file), folder]);
      if (!unpacked.ok) return unpacked;
    }
    return ok(undefined);
  }

  /** Lists of another architecture are never the host's: they are kept here, beside each other. */
  async #openForeign(architecture: string): Promise<Result<void>> {
    const state = join(this.#folder, `apt-${architecture}`);
    await mkdir(join(state, 'lists', 'partial'), { recursive: true });
    this.#aptOptions = [
      ...['-o', `APT::Architecture=${architecture}`, '-o', `APT::Architectures=${architecture}`],
      ...['-o', `Dir::State::lists=${join(state, 'lists')}`, '-o', `Dir::Cache=${state}`],
      ...['-o', `Dir::State::status=${await this.#emptyStatus()}`],
    ];
    this.#progress(`fetching the list of Debian's ${architecture} packages`);
    const update = ['-o', 'APT::Sandbox::User=root', '-o', 'Debug::NoLocking=1', '-qq', 'update'];
    const updated = await runCommand('apt-get', [...this.#aptOptions, ...update]);
    // A mirror in the middle of its own update lacks one index of several; what is there decides.
    const known = await runCommand('apt-cache', [...this.#aptOptions, 'show', 'busybox-static']);
    if (known.ok && known.value !== '') return ok(undefined);
    return failed(
      `Debian's ${architecture} archive cannot be reached${updated.ok ? '' : ` (${updated.error})`}`,
    );
  }

  async #emptyStatus(): Promise<string> {
    const file = join(this.#folder, 'empty-status');
    await writeFile(file, '');
    return file;
  }

  /** A user who may not run `apt-get update` for the host still may keep lists of his own. */
  async #updateOwnLists(): Promise<Result<void>> {
    const state = join(this.#folder, 'apt');
    await mkdir(join(state, 'lists', 'partial'), { recursive: true });
    this.#aptOptions = ['-o', `Dir::State::lists=${join(state, 'lists')}`, '-o', `Dir::Cache=${state}`];
    this.#progress('fetching the list of Debian packages');
    const updated = await runCommand('apt-get', [
      ...this.#aptOptions,
      ...['-o', 'APT::Sandbox::User=root', '-o', 'Debug::NoLocking=1', '-qq', 'update'],
    ]);
    return updated.ok ? ok(undefined) : failed(`Debian's archive cannot be reached (${updated.error})`);
  }
}

/** `'URI' name_version_architecture.deb size SHA256:hash`, with the colon of an epoch written as %3a. */
function packageOfUri(line: string): DebianPackage[] {
  const match = /^'[^']+' (([^_\s]+)_([^_\s]+)_[^_\s]+\.deb) \d+ SHA256:([0-9a-f]{64})/.exec(line);
  if (match === null) return [];
  const [, file = '', name = '', version = '', sha256 = ''] = match;
  return [{ name, version: decodeURIComponent(version), file, sha256 }];
}

async function sha256Of(path: string): Promise<string> {
  return createHash('sha256')
    .update(await readFile(path))
    .digest('hex');
}
