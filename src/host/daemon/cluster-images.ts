import { failed, ok, type Result } from '../../base/result.ts';
import type { ImageView, VmDefinition } from '../api.ts';
import type { GuestFiles } from '../guest-files.ts';
import { downloadApi } from './api-client.ts';
import { type HostImages, type ImagePart, noSuchImage, parseImageReference } from './host-images.ts';
import type { Peer } from './peers.ts';

/** The images of this host, and those of the others where it lacks one. */
export class ClusterImages {
  readonly own: HostImages;
  readonly #peers: () => readonly Peer[];
  readonly #fetching = new Map<string, Promise<Result<ImageView>>>();

  constructor(own: HostImages, peers: () => readonly Peer[]) {
    this.own = own;
    this.#peers = peers;
  }

  /** The name with the digest of what it means at this moment: of all hosts' images the one that was added last. */
  async pinned(reference: string): Promise<Result<string>> {
    const own = await this.own.find(reference);
    const other = (await this.#elsewhere(reference))?.image;
    const image = own && (!other || own.addedAt >= other.addedAt) ? own : other;
    return image ? ok(`${image.name}@${image.digest}`) : failed(noSuchImage(reference));
  }

  /** Files to boot from. An image that this host lacks is fetched from one that has it, and kept. */
  async filesOf(boot: VmDefinition['boot']): Promise<Result<GuestFiles>> {
    if ('kernel' in boot) return ok({ ...boot, initrd: boot.initrd });
    const image = await this.get(boot.image);
    if (!image.ok) return image;
    const { digest, append } = image.value;
    return ok({
      kernel: this.own.file(digest, 'kernel') ?? '',
      initrd: this.own.file(digest, 'initrd'),
      append: boot.append ?? append,
    });
  }

  async get(reference: string): Promise<Result<ImageView>> {
    const own = await this.own.find(reference);
    if (own !== undefined) return ok(own);
    const under = this.#fetching.get(reference);
    if (under !== undefined) return under;
    const fetched = this.#fetch(reference).finally(() => this.#fetching.delete(reference));
    this.#fetching.set(reference, fetched);
    return fetched;
  }

  async #fetch(reference: string): Promise<Result<ImageView>> {
    const found = await this.#elsewhere(reference);
    if (found === undefined) return failed(noSuchImage(reference));
    const { peer, image } = found;
    return this.own.receive(image, async (part: ImagePart, to) => {
      if (part === 'initrd' && image.initrdBytes === 0) return ok(false);
      const bytes = part === 'kernel' ? image.kernelBytes : image.initrdBytes;
      const path = `/v1/images/${image.digest}/${part}`;
      const came = await downloadApi(peer.address, path, to, bytes);
      return came.ok ? ok(true) : came;
    });
  }

  async #elsewhere(reference: string): Promise<{ peer: Peer; image: ImageView } | undefined> {
    const wanted = parseImageReference(reference);
    if (wanted === undefined) return undefined;
    const fits = ({ name, digest }: ImageView) =>
      wanted.digest === undefined ? name === wanted.name : digest === wanted.digest;
    const asked = await Promise.all(
      this.#peers().map(async (peer) => {
        const listed = await peer.images();
        const image = listed.ok ? listed.value.find(fits) : undefined;
        return image ? [{ peer, image }] : [];
      }),
    );
    return asked.flat().sort((one, other) => other.image.addedAt - one.image.addedAt)[0];
  }
}
