/**
 * What a host daemon's API speaks of: JSON, in the words of the command line. Types only, so that clients import
 * nothing that runs. Sizes are bytes, times are milliseconds, addresses are "host:port".
 */

export interface VmDefinition {
  readonly name: string;
  readonly memoryBytes: number;
  readonly boot: BootDefinition;
  /** The VM's disks: on a disk server, or elsewhere. */
  readonly storage?: StorageDefinition | undefined;
  /** The user switch at an address, or TAPs of these names on every host. */
  readonly network?: NetworkDefinition | undefined;
  readonly arbiter?: ArbiterDefinition | undefined;
  readonly faultTolerance: 'on' | 'off';
  /** Started again from its disks when every host that ran it is lost. */
  readonly restart: boolean;
  readonly antiAffinity: readonly string[];
  readonly channel: { readonly compress: boolean };
  readonly timing: Readonly<Record<string, number>>;
  readonly limits: Readonly<Record<string, number>>;
}

export type BootDefinition =
  /** Files of the host that starts the VM; each host that may start it has them under the same paths. */
  | { readonly kernel: string; readonly initrd?: string | undefined; readonly append: string }
  /** `NAME@DIGEST` of an image of the cluster's hosts; `append` instead of the image's own. */
  | { readonly image: string; readonly append?: string | undefined };

/** A boot image that a host owns. The digest is of its name and all its content. */
export interface ImageView {
  readonly name: string;
  readonly digest: string;
  readonly append: string;
  /** Milliseconds since 1970: a name without a digest means the image that was added last. */
  readonly addedAt: number;
  readonly kernelBytes: number;
  /** 0: there is none. */
  readonly initrdBytes: number;
}

/** A name alone is that of a disk on `server`. Only what is fenced, or only read, can be another host's after this one. */
export interface StorageDefinition {
  readonly server?: string | undefined;
  readonly disks?: readonly DiskDefinition[] | undefined;
  /** `non-shared`: each host has copies of its own, `files`, raw images; `{host}` in a path is its name. */
  readonly mode?: 'shared' | 'non-shared' | undefined;
  readonly files?: readonly string[] | undefined;
  /** `backup`: the log refers to what was read, and the backup reads it itself. */
  readonly reads?: 'log' | 'backup' | undefined;
  /** Foreign NBD servers are written under the arbiter's lease, with these assumptions in milliseconds. */
  readonly fencing?: 'lease' | undefined;
  readonly driftMs?: number | undefined;
  readonly lateMs?: number | undefined;
}

export type DiskDefinition =
  | string
  | { readonly name: string; readonly readonly?: boolean | undefined }
  | { readonly nbd: string; readonly readonly?: boolean | undefined }
  | { readonly file: string; readonly readonly?: boolean | undefined };

export type NetworkDefinition =
  | { readonly switch: string; readonly macs: readonly string[] }
  | { readonly taps: readonly string[]; readonly macs: readonly string[] };

export type ArbiterDefinition =
  | { readonly kind: 'etcd'; readonly endpoints: readonly string[] }
  | { readonly kind: 'directory'; readonly path: string };

/** So long a snapshot may take: a large disk on a slow one. Who asks for it waits longer than the daemon. */
export const SNAPSHOT_MS_MAX = 3_600_000;

/** A guest at one instant, in a folder of a host. */
export interface SnapshotView {
  readonly folder: string;
  readonly host: string;
  /** Of its memory, without pages of zeroes. */
  readonly bytes: number;
}

/** One VM process on one host. */
export interface InstanceView {
  readonly id: string;
  readonly vm: string;
  readonly host: string;
  readonly role: 'primary' | 'backup';
  readonly state: string;
  readonly detail: string;
  readonly pid: number;
  readonly address: string | undefined;
}

export interface VmView {
  readonly name: string;
  readonly power: 'on' | 'off';
  readonly faultTolerance: 'on' | 'off' | 'suspended';
  /** vSphere's words, and one line that says why. */
  readonly protection: string;
  readonly reason: string;
  readonly primaryHost: string | undefined;
  readonly secondaryHost: string | undefined;
  readonly memoryBytes: number;
  readonly instances: readonly ToldInstance[];
}

/** A VM process as the cluster's store has it; of a host that is not present, its last word. */
export interface ToldInstance {
  readonly vm: string;
  readonly host: string;
  readonly id: string;
  readonly role: 'primary' | 'backup';
  readonly state: string;
  readonly address: string | undefined;
  readonly present: boolean;
}

export interface HostView {
  readonly name: string;
  readonly present: boolean;
  readonly maintenance: boolean;
  readonly api: string | undefined;
  readonly build: string | undefined;
  readonly memoryBytes: number;
  readonly memoryUsedBytes: number;
  readonly cores: number;
  readonly instances: number;
}

export interface ClusterView {
  readonly store: string;
  /** Undefined while the store answers; otherwise why it does not. */
  readonly storeTrouble: string | undefined;
  readonly hosts: readonly HostView[];
  readonly vms: readonly VmView[];
}

/** What a daemon tells of itself. */
export interface HealthView {
  readonly host: string;
  readonly version: string;
  readonly build: string;
  readonly pid: number;
  readonly instances: number;
  readonly storeTrouble: string | undefined;
}

/** One line of the event stream. */
export interface ApiEvent {
  readonly time: string;
  readonly host: string;
  readonly vm?: string | undefined;
  readonly kind: string;
  readonly detail: string;
}

/** Every answer that is no success. */
export interface ApiError {
  readonly error: string;
}

/** Orders that the primary of a VM takes as they are (design 10, `lockstep vm`). */
export const POWER_VERBS = ['stop', 'power-off', 'reset', 'pause', 'resume'] as const;
export type PowerVerb = (typeof POWER_VERBS)[number];

export const FT_VERBS = [
  'on',
  'off',
  'suspend',
  'resume',
  'test-failover',
  'test-restart-secondary',
  'migrate-secondary',
] as const;
export type FtVerb = (typeof FT_VERBS)[number];
