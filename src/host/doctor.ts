import { constants, existsSync } from 'node:fs';
import { access } from 'node:fs/promises';
import { totalmem } from 'node:os';
import { delimiter, join } from 'node:path';
import { sharedMemory } from '../wasm/webassembly.ts';

export interface Finding {
  readonly what: string;
  readonly found: boolean;
  /** Without it nothing works; otherwise only what `remedy` says is lost. */
  readonly required: boolean;
  readonly remedy: string;
}

/** What this host has of what Lockstep uses. */
export async function examineHost(): Promise<Finding[]> {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  const findings: Finding[] = [
    {
      what: `Node ${process.versions.node}`,
      found: major > 20 || (major === 20 && minor >= 19),
      required: true,
      remedy: 'install Node 20.19 or newer',
    },
    {
      what: 'shared WebAssembly memory',
      found: hasSharedMemory(),
      required: true,
      remedy: 'use a Node built with WebAssembly threads',
    },
    {
      what: `${Math.round(totalmem() / 2 ** 20)} MiB of memory`,
      found: totalmem() >= 2 ** 30,
      required: true,
      remedy: 'two copies of a 256 MiB guest need about 1 GiB',
    },
  ];
  const programs = [
    ['passt', 'no --net user: apt-get install passt'],
    ['apt-get', 'no guest images are built: use Debian 12, or bring a kernel and an initrd'],
    ['dpkg', 'no guest images are built: use Debian 12, or bring a kernel and an initrd'],
    ['mke2fs', 'no image with a disk is built: apt-get install e2fsprogs'],
    ['fakeroot', 'images with a disk are built by root alone: apt-get install fakeroot'],
    ['mmdebstrap', 'no image of an installed Debian is built: apt-get install mmdebstrap uidmap'],
    ['cloud-localds', 'no seed for cloud-init is made: apt-get install cloud-image-utils'],
    ['qemu-system-x86_64', 'benchmarks have no peer: apt-get install qemu-system-x86'],
  ] as const;
  for (const [program, remedy] of programs)
    findings.push({ what: program, found: isInstalled(program), required: false, remedy });
  findings.push({
    what: '/dev/net/tun',
    found: await mayUse('/dev/net/tun'),
    required: false,
    remedy: 'no --net tap:NAME: modprobe tun, and let this user read and write /dev/net/tun',
  });
  const kvm = await mayUse('/dev/kvm');
  findings.push({
    what: kvm ? '/dev/kvm (not used: the hypervisor is software)' : 'no /dev/kvm, and none is needed',
    found: true,
    required: false,
    remedy: '',
  });
  return findings;
}

function mayUse(device: string): Promise<boolean> {
  return access(device, constants.R_OK | constants.W_OK).then(
    () => true,
    () => false,
  );
}

function isInstalled(program: string): boolean {
  const folders = [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin', '/sbin'];
  return folders.some((folder) => folder !== '' && existsSync(join(folder, program)));
}

function hasSharedMemory(): boolean {
  try {
    return sharedMemory(1).buffer instanceof SharedArrayBuffer;
  } catch {
    return false;
  }
}
