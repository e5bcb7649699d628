/**
 * The rooms of the source and what each may import: design section 9, as data. tools/layout.test.ts holds it.
 * Imports go only downwards; a room always may import itself.
 */
export interface Room {
  readonly imports: readonly string[];
  /** Pure rooms use no Node API, no clock, no randomness, no promise and no package. */
  readonly pure: boolean;
  /** Single files of other rooms that this one may import besides. */
  readonly files?: readonly string[];
}

const PURE_ROOMS = [
  'base',
  'wasm',
  'x86',
  'engine',
  'device',
  'machine',
  'replay',
  'ft',
  'cluster',
  'hypervisor',
] as const;

/** Real ports see the ports' interface and the types that it speaks of, nothing else of the VM. */
const PORTS = [
  'src/hypervisor/ports.ts',
  'src/machine/door.ts',
  'src/ft/identity.ts',
  'src/ft/arbiter.ts',
  'src/ft/extent.ts',
  'src/ft/copy-name.ts',
  'src/replay/log-entry.ts',
  'src/replay/numbered-output.ts',
];

const CHANNEL = ['src/ft/link.ts', 'src/ft/message.ts', 'src/ft/message-codec.ts', 'src/replay/frame.ts'];

export const ROOMS: Readonly<Record<string, Room>> = {
  base: { imports: [], pure: true },
  wasm: { imports: ['base'], pure: true },
  x86: { imports: ['base'], pure: true },
  // The engine owns guest RAM, so it is what devices see as GuestMemory: an interface, nothing that runs.
  engine: { imports: ['base', 'wasm', 'x86'], files: ['src/device/device.ts'], pure: true },
  device: { imports: ['base'], pure: true },
  // wasm/ declares the WebAssembly types, and the machine makes the memory that all engines share.
  machine: { imports: ['base', 'x86', 'engine', 'device'], files: ['src/wasm/webassembly.ts'], pure: true },
  replay: { imports: ['base', 'machine'], pure: true },
  // Replay's log entry, numbered output and their codecs: the channel carries what a recording holds.
  ft: { imports: ['base', 'replay'], files: ['src/machine/door.ts'], pure: true },
  cluster: { imports: ['base', 'ft'], pure: true },
  hypervisor: { imports: PURE_ROOMS.filter((room) => room !== 'hypervisor'), pure: true },
  // The cluster's store holds what decisions read.
  storage: { imports: ['base'], files: [...PORTS, 'src/cluster/content.ts'], pure: false },
  network: { imports: ['base'], files: PORTS, pure: false },
  // The logging channel carries the protocol's messages in the log's frames: it knows both codecs, and no rule.
  transport: { imports: ['base'], files: [...PORTS, ...CHANNEL], pure: false },
  host: { imports: [...PURE_ROOMS, 'storage', 'network', 'transport'], pure: false },
  // Clients of the host. Until there is a daemon, the foreground verbs call the host's composition root.
  cli: { imports: ['base', 'host'], pure: false },
  console: { imports: ['base'], files: ['src/host/api.ts'], pure: false },
};

/** The way from the compiler's types to WebAssembly, which it has none of: the one exception to tools/pure-source.ts. */
export const EXCEPTION_IN_PURE_CODE = {
  path: 'src/wasm/webassembly.ts',
  text: '(globalThis as unknown as { WebAssembly: WebAssemblyApi }).WebAssembly',
} as const;
