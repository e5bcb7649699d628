/** Feature bits of the network device [virtio 5.1.3]. */
export const NET_FEATURE = {
  checksum: 1n << 0n,
  guestChecksum: 1n << 1n,
  mtu: 1n << 3n,
  mac: 1n << 5n,
  guestTso4: 1n << 7n,
  guestTso6: 1n << 8n,
  guestEcn: 1n << 9n,
  hostTso4: 1n << 11n,
  hostTso6: 1n << 12n,
  hostEcn: 1n << 13n,
  mergedBuffers: 1n << 15n,
  status: 1n << 16n,
} as const;

const {
  checksum,
  guestChecksum,
  guestTso4,
  guestTso6,
  guestEcn,
  hostTso4,
  hostTso6,
  hostEcn,
  mergedBuffers,
} = NET_FEATURE;

/** What is offered always: the other side can use all of it, or somebody on the way does it (src/base/packet). */
export const OFFLOAD_FEATURES =
  checksum | guestChecksum | guestTso4 | guestTso6 | guestEcn | hostTso4 | hostTso6 | hostEcn | mergedBuffers;

/** A feature, and of which others one has to be there as well [virtio 5.1.3.1]. */
const NEEDS: readonly (readonly [feature: bigint, oneOf: bigint])[] = [
  [guestTso4, guestChecksum],
  [guestTso6, guestChecksum],
  [guestEcn, guestTso4 | guestTso6],
  [hostTso4, checksum],
  [hostTso6, checksum],
  [hostEcn, hostTso4 | hostTso6],
];

export function fitTogether(features: bigint): boolean {
  return NEEDS.every(([feature, oneOf]) => (features & feature) === 0n || (features & oneOf) !== 0n);
}
