import koffi from 'koffi';

/**
 * What a TAP needs of Linux and Node does not offer [tuntap.rst, netdevice(7)]. Loading this file loads native code: whoever
 * has no TAP does without.
 */

const libc = koffi.load(null);
const ioctl = libc.func('int ioctl(int fd, unsigned long request, void *argument)');
const ioctlNumber = libc.func('int ioctl(int fd, unsigned long request, unsigned long argument)');
const socket = libc.func('int socket(int domain, int type, int protocol)');
const eventfd = libc.func('int eventfd(unsigned int initial, int flags)');
const poll = libc.func('int poll(void *fds, unsigned long count, int timeout)');
const read = libc.func('long read(int fd, void *data, size_t length)');
const write = libc.func('long write(int fd, const void *data, size_t length)');

export const ERRNO = { EPERM: 1, EINTR: 4, EIO: 5, EAGAIN: 11, EBUSY: 16, EINVAL: 22, EBADFD: 77 } as const;

/** The calls' own numbers, as on x86-64 and arm64. */
const REQUEST = {
  TUNSETIFF: 0x400454ca,
  TUNSETOFFLOAD: 0x400454d0,
  TUNSETCARRIER: 0x400454e2,
  SIOCGIFFLAGS: 0x8913,
  SIOCSIFFLAGS: 0x8914,
  SIOCGIFMTU: 0x8921,
} as const;

const IFF_TAP = 0x0002;
const IFF_NO_PI = 0x1000;
/** Ten bytes in front of every frame, both ways, say what is left to do to it [linux/virtio_net.h]. */
const IFF_VNET_HDR = 0x4000;
/** From Linux 6.3 on; older kernels take no notice. */
const IFF_NO_CARRIER = 0x0040;

export const INTERFACE_UP = 0x1;
/** Up, with a carrier, and the kernel has told everybody so. */
export const INTERFACE_RUNNING = 0x40;

/** What may come unfinished: checksums, and TCP not cut into segments. */
const OFFLOADS = { checksum: 1, tso4: 2, tso6: 4, ecn: 8 } as const;

const IFREQ_BYTES = 40;
const IFREQ_VALUE = 16;

const AF_INET = 2;
const SOCK_DGRAM = 2;
const CLOSE_ON_EXEC = 0o2000000;

const POLLIN = 1;
const POLLERR = 8;
const POLLFD_BYTES = 8;

/** The number of the error, or 0. */
export type Errno = number;

/** Makes an opened /dev/net/tun the other end of the TAP of this name, which is made when there is none; no carrier yet. */
export function attachTap(fd: number, name: string): Errno {
  const request = interfaceRequest(name);
  request.writeUInt16LE(IFF_TAP | IFF_NO_PI | IFF_NO_CARRIER | IFF_VNET_HDR, IFREQ_VALUE);
  const errno = control(fd, REQUEST.TUNSETIFF, request);
  if (errno !== 0) return errno;
  const { checksum, tso4, tso6, ecn } = OFFLOADS;
  // A kernel that refuses gives finished frames alone, and takes the others all the same.
  ioctlNumber(fd, REQUEST.TUNSETOFFLOAD, checksum | tso4 | tso6 | ecn);
  return setCarrier(fd, false);
}

/** Plugs the cable in or out, as a bridge sees it [Linux 4.20]. */
export function setCarrier(fd: number, on: boolean): Errno {
  const value = Buffer.alloc(4);
  value.writeInt32LE(on ? 1 : 0);
  return control(fd, REQUEST.TUNSETCARRIER, value);
}

/** A socket to ask about interfaces with. */
export function controlSocket(): number {
  return socket(AF_INET, SOCK_DGRAM | CLOSE_ON_EXEC, 0);
}

/** INTERFACE_UP and others; undefined when there is no such interface. */
export function interfaceFlags(socket: number, name: string): number | undefined {
  const request = interfaceRequest(name);
  return control(socket, REQUEST.SIOCGIFFLAGS, request) === 0 ? request.readUInt16LE(IFREQ_VALUE) : undefined;
}

export function setInterfaceFlags(socket: number, name: string, flags: number): Errno {
  const request = interfaceRequest(name);
  request.writeUInt16LE(flags, IFREQ_VALUE);
  return control(socket, REQUEST.SIOCSIFFLAGS, request);
}

/** Bytes behind the Ethernet header; undefined when there is no such interface. */
export function interfaceMtu(socket: number, name: string): number | undefined {
  const request = interfaceRequest(name);
  return control(socket, REQUEST.SIOCGIFMTU, request) === 0 ? request.readInt32LE(IFREQ_VALUE) : undefined;
}

/** A bell that `waitFor` hears: eight bytes written to it ring it. */
export function bell(): number {
  return eventfd(0, CLOSE_ON_EXEC);
}

/** Stands still until one of these has something to read or is gone: whether each has. `timeoutMs` -1 is for ever. */
export function waitFor(fds: readonly number[], timeoutMs: number): boolean[] {
  const entries = Buffer.alloc(fds.length * POLLFD_BYTES);
  fds.forEach((fd, index) => {
    entries.writeInt32LE(fd, index * POLLFD_BYTES);
    entries.writeInt16LE(POLLIN, index * POLLFD_BYTES + 4);
  });
  poll(entries, fds.length, timeoutMs);
  return fds.map((_, index) => (entries.readInt16LE(index * POLLFD_BYTES + 6) & (POLLIN | POLLERR)) !== 0);
}

/** Bytes read into `into`, or the negative errno. */
export function readInto(fd: number, into: Uint8Array): number {
  const length = read(fd, into, into.length) as number;
  return length < 0 ? -koffi.errno() : length;
}

/** The errno, or 0: a TAP takes a frame whole or not at all. */
export function writeFrom(fd: number, from: Uint8Array): Errno {
  return (write(fd, from, from.length) as number) < 0 ? koffi.errno() : 0;
}

function interfaceRequest(name: string): Buffer {
  const request = Buffer.alloc(IFREQ_BYTES);
  request.write(name, 'latin1');
  return request;
}

function control(fd: number, request: number, argument: Buffer): Errno {
  return ioctl(fd, request, argument) === 0 ? 0 : koffi.errno();
}
