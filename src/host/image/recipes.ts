/** What each guest image is made of, as data; src/host/image/build-image.ts makes it. */

export interface PlacedFile {
  readonly from: string;
  readonly to: string;
  readonly mode: number;
}

export interface PlacedText {
  readonly to: string;
  readonly mode: number;
  readonly text: string;
}

/** Programs of another architecture, in a folder of the disk that they see as their root. */
export interface ForeignRoot {
  readonly architecture: 'i386';
  readonly folder: string;
  readonly packages: readonly string[];
}

export interface Recipe {
  readonly name: string;
  readonly summary: string;
  /** Metapackage of the kernel, KERNEL_METAPACKAGE by default. */
  readonly kernel?: string;
  /** Modules that this kernel needs beside BOOT_MODULES, loaded after them in this order. */
  readonly modules?: readonly string[];
  /** Keeps what INSTALLERS of debian-packages.ts names: perl and its libraries are programs too. */
  readonly everything?: boolean;
  readonly foreign?: ForeignRoot;
  /** Packages that others depend on and whose absence they bear. */
  readonly without?: readonly string[];
  /** Debian packages, each with all it depends on. */
  readonly packages: readonly string[];
  /** Where the packages go: into the initramfs, or onto an ext4 disk of this size beside it. */
  readonly diskMegabytes: number | undefined;
  /** /init of the initramfs. */
  readonly init: string;
  /** Files from src/host/image/guest/ for the place where the packages go. */
  readonly files: readonly PlacedFile[];
  /** Files whose content is the recipe's own. */
  readonly texts?: readonly PlacedText[];
  /**
   * The packages are installed, maintainer scripts and all, as a Debian of its own on the disk; this script of
   * src/host/image/guest/ has the last word. Otherwise they are only unpacked, and busybox is their init.
   */
  readonly installed?: string;
  readonly folders: readonly string[];
  readonly symlinks: readonly { readonly path: string; readonly target: string }[];
  readonly commandLine: string;
}

export const KERNEL_METAPACKAGE = 'linux-image-cloud-amd64';
export const GENERIC_KERNEL_METAPACKAGE = 'linux-image-amd64';

/** Loaded by every boot, in this order: each needs only those before it. */
export const BOOT_MODULES = [
  'virtio_ring',
  'virtio',
  'virtio_pci_modern_dev',
  'virtio_pci_legacy_dev',
  'virtio_pci',
  'virtio_blk',
  'failover',
  'net_failover',
  'virtio_net',
] as const;

/** There for lockstep.modules= on the kernel's command line. */
export const FURTHER_MODULES = ['virtio_console', 'virtio-rng'] as const;

/** Files that packages bring and no program of the images reads. */
export const PRUNED = [
  'usr/share/doc',
  'usr/share/man',
  'usr/share/locale',
  'usr/share/lintian',
  'usr/share/info',
  'usr/share/bash-completion',
  'usr/share/bug',
  'usr/share/gcc',
  'usr/share/gdb',
  'usr/share/initramfs-tools',
  'usr/lib/x86_64-linux-gnu/gconv',
  'usr/lib/x86_64-linux-gnu/engines-3',
  'usr/lib/tmpfiles.d',
  'lib/systemd',
  'etc/init.d',
  'etc/default',
] as const;

const ROOT_FOLDERS = ['dev', 'proc', 'sys', 'run', 'tmp', 'root', 'mnt'];
/** PostgreSQL's compiler of queries, 120 MB with what it needs, is loaded only when it is used. */
const WITHOUT_QUERY_COMPILER = ['libllvm14', 'libz3-4', 'locales', 'libc-l10n'];
/** The program that `npm run bench -- paper` compiles. */
const PAPER_PARTS = ['paper.h', 'main.c', 'match.c', 'number.c', 'pack.c', 'sort.c', 'table.c'];
const CHECKS = ['busybox.sh', 'python.sh', 'python-check.py', 'redis.sh'];

export const RECIPES: readonly Recipe[] = [
  {
    name: 'boot',
    summary: 'kernel and busybox; says LOCKSTEP-BOOT-READY and powers off',
    packages: ['busybox-static'],
    diskMegabytes: undefined,
    init: 'boot-init.sh',
    files: [],
    folders: [],
    symlinks: [],
    commandLine: 'console=ttyS0',
  },
  {
    name: 'check',
    summary: 'busybox, python3 and redis check themselves; says LOCKSTEP-CHECK all ok and powers off',
    packages: ['busybox-static', 'python3-minimal', 'redis-server', 'redis-tools'],
    diskMegabytes: undefined,
    init: 'check-init.sh',
    files: CHECKS.map((name) => ({ from: `checks/${name}`, to: `checks/${name}`, mode: 0o644 })),
    folders: [],
    symlinks: [],
    commandLine: 'console=ttyS0',
  },
  {
    name: 'demo',
    summary: 'redis and a web server on an ext4 disk; says LOCKSTEP-GUEST-READY',
    packages: ['busybox-static', 'redis-server', 'redis-tools'],
    diskMegabytes: 96,
    init: 'demo-init.sh',
    files: [
      { from: 'demo-rc.sh', to: 'etc/rc', mode: 0o755 },
      { from: 'demo-inittab', to: 'etc/inittab', mode: 0o644 },
      { from: 'demo-redis.conf', to: 'etc/redis.conf', mode: 0o644 },
      { from: 'demo-index.html', to: 'srv/www/index.html', mode: 0o644 },
    ],
    folders: ['dev', 'proc', 'sys', 'run', 'tmp', 'root', 'var/lib/redis', 'mnt'],
    symlinks: [{ path: 'sbin/init', target: '../bin/busybox' }],
    commandLine: 'console=ttyS0',
  },
  {
    name: 'programs',
    summary: 'a Debian userland with compilers and test suites on an ext4 disk; runs a list of programs',
    packages: [
      ...[
        'busybox-static',
        'bash',
        'coreutils',
        'mawk',
        'iproute2',
        'procps',
        'tar',
        'gzip',
        'bzip2',
        'xz-utils',
      ],
      ...['python3-minimal', 'python3.11', 'libpython3.11-testsuite', 'perl', 'sqlite3', 'bc', 'jq'],
      ...['openssl', 'nginx-light', 'curl', 'dropbear-bin', 'redis-server', 'redis-tools'],
      ...['gcc', 'gcc-multilib', 'libc6-dev', 'binutils', 'libmpfr6'],
      ...['libssl-dev', 'postgresql-15'],
    ],
    everything: true,
    without: WITHOUT_QUERY_COMPILER,
    foreign: {
      architecture: 'i386',
      folder: 'i386',
      packages: [
        ...['busybox-static', 'python3-minimal', 'python3.11', 'libpython3.11-testsuite', 'perl', 'sqlite3'],
        ...['bc', 'openssl'],
      ],
    },
    diskMegabytes: 1100,
    init: 'programs-init.sh',
    files: [
      { from: 'programs-passwd', to: 'etc/passwd', mode: 0o644 },
      { from: 'programs-group', to: 'etc/group', mode: 0o644 },
    ],
    folders: [
      ...ROOT_FOLDERS,
      'var/log/nginx',
      'var/lib/nginx',
      'programs',
      'i386/proc',
      'i386/dev',
      'i386/tmp',
    ],
    symlinks: [],
    commandLine: 'console=ttyS0 quiet',
  },
  {
    name: 'generic',
    summary: "Debian's generic kernel (XZ; drivers and ext4 as modules); runs the disk of 'programs'",
    kernel: GENERIC_KERNEL_METAPACKAGE,
    modules: ['crc16', 'crc32c_generic', 'mbcache', 'jbd2', 'ext4'],
    packages: ['busybox-static'],
    diskMegabytes: undefined,
    init: 'programs-init.sh',
    files: [],
    folders: [],
    symlinks: [],
    commandLine: 'console=ttyS0',
  },
  {
    name: 'paper',
    summary:
      'a compiler, PostgreSQL and a python server, for `npm run bench -- paper`; says LOCKSTEP-GUEST-READY',
    packages: [
      ...['busybox-static', 'gcc', 'libc6-dev', 'binutils'],
      ...['postgresql-15', 'python3-minimal', 'python3.11'],
    ],
    everything: true,
    without: WITHOUT_QUERY_COMPILER,
    diskMegabytes: 640,
    init: 'demo-init.sh',
    files: [
      { from: 'paper/rc.sh', to: 'etc/rc', mode: 0o755 },
      { from: 'demo-inittab', to: 'etc/inittab', mode: 0o644 },
      { from: 'programs-passwd', to: 'etc/passwd', mode: 0o644 },
      { from: 'programs-group', to: 'etc/group', mode: 0o644 },
      ...['work.sh', 'server.py', ...PAPER_PARTS.map((name) => `parts/${name}`)].map((name) => ({
        from: `paper/${name}`,
        to: `paper/${name}`,
        mode: 0o644,
      })),
    ],
    folders: [...ROOT_FOLDERS, 'var/pg'],
    symlinks: [{ path: 'sbin/init', target: '../bin/busybox' }],
    commandLine: 'console=ttyS0 cryptomgr.notests',
  },
  {
    name: 'server',
    summary: 'a Debian server: systemd, ssh, network by DHCP, cloud-init for a seed; ends with a login',
    packages: [
      ...[
        'systemd-sysv',
        'systemd-resolved',
        'libpam-systemd',
        'dbus',
        'udev',
        'kmod',
        'e2fsprogs',
        'tzdata',
      ],
      ...['openssh-server', 'cloud-init', 'iproute2', 'iputils-ping', 'procps', 'less', 'vim-tiny', 'sudo'],
      ...['ca-certificates'],
    ],
    diskMegabytes: 2048,
    init: 'server-init.sh',
    installed: 'server/customize.sh',
    files: [
      { from: 'server/fstab', to: 'etc/fstab', mode: 0o644 },
      { from: 'server/80-dhcp.network', to: 'etc/systemd/network/80-dhcp.network', mode: 0o644 },
      { from: 'server/ssh-host-key.service', to: 'etc/systemd/system/ssh-host-key.service', mode: 0o644 },
      { from: 'server/sshd.conf', to: 'etc/ssh/sshd_config.d/lockstep.conf', mode: 0o644 },
      { from: 'server/cloud.cfg', to: 'etc/cloud/cloud.cfg.d/90-lockstep.cfg', mode: 0o644 },
      {
        from: 'server/wait-online.conf',
        to: 'etc/systemd/system/systemd-networkd-wait-online.service.d/lockstep.conf',
        mode: 0o644,
      },
    ],
    texts: [{ to: 'etc/hostname', mode: 0o644, text: 'server\n' }],
    folders: [],
    symlinks: [],
    // The crypto manager's tests of itself are most of a boot.
    commandLine: 'console=ttyS0 net.ifnames=0 cryptomgr.notests',
  },
];

export function recipeNamed(name: string): Recipe | undefined {
  return RECIPES.find((recipe) => recipe.name === name);
}
