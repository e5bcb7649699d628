import { failed, ok, type Result } from '../base/result.ts';
import {
  compareInstances,
  compareNames,
  type FaultTolerance,
  type HostPresence,
  type Instance,
  isName,
  type Vm,
} from '../cluster/content.ts';
import type {
  ClusterReading,
  DamagedRecord,
  HostRecord,
  Json,
  RecordVersion,
  Versioned,
  VmDocument,
} from './cluster-store.ts';

/** Records as a store keeps them: JSON texts in four kinds, each by a host's or a VM's name. */
export const RECORD_KINDS = ['hosts', 'presence', 'vms', 'instances'] as const;
export type RecordKind = (typeof RECORD_KINDS)[number];

export interface RawRecord {
  readonly text: string;
  readonly version: RecordVersion;
}

export type RawRecords = Readonly<Record<RecordKind, ReadonlyMap<string, RawRecord>>>;

/** Far below what etcd takes in one request, and a page of such records is below what its client reads at once. */
const TEXT_MAX = 256 * 1024;
const INSTANCES_MAX = 10_000;
const GROUPS_MAX = 100;
/** An address, a build. */
const WORD_MAX = 300;
/** A PEM text with one certificate. */
const CERTIFICATE_MAX = 4096;
/** Lines of printable characters, at least one. */
const LINES = /^[\x20-\x7e\r\n]+$/;

export function encodeHost({ name, memoryBytes, cores, maintenance }: HostRecord): string {
  return JSON.stringify({ name, memoryBytes, cores, maintenance });
}

export function encodeVm({ vm, definition, secrets }: VmDocument): string {
  return JSON.stringify({ vm, definition, secrets });
}

export function encodePresence({ api, certificate, build, logFormat, snapshotFormat }: HostPresence): string {
  return JSON.stringify({ api, certificate, build, logFormat, snapshotFormat });
}

/** The host stands in the key. */
export function encodeInstances(instances: readonly Instance[]): string {
  return JSON.stringify(instances.map(({ host: _, ...rest }) => rest));
}

/** Makes readings of raw records. It remembers what it has parsed, since most records are as they were. */
export class ReadingMaker {
  readonly #parsed = new Map<string, { readonly text: string; readonly result: Result<unknown> }>();

  make(raw: RawRecords): ClusterReading {
    const damaged: DamagedRecord[] = [];
    const read = <Value>(kind: RecordKind, decode: (json: unknown, name: string) => Result<Value>) => {
      const values = new Map<string, Versioned<Value>>();
      for (const name of [...raw[kind].keys()].sort(compareNames)) {
        const { text, version } = raw[kind].get(name)!;
        const result = this.#parse(kind, name, text, decode);
        if (result.ok) values.set(name, { value: result.value, version });
        else damaged.push({ key: `${kind}/${name}`, reason: result.error, version });
      }
      return values;
    };
    const hosts = read('hosts', decodeHost);
    const presence = read('presence', decodePresence);
    const vms = read('vms', decodeVm);
    const instances = read('instances', decodeInstances);
    this.#forget(raw);
    return {
      content: {
        hosts: [...hosts.values()].map(({ value }) => ({
          ...value,
          presence: presence.get(value.name)?.value,
        })),
        vms: [...vms.values()].map(({ value }) => value.vm),
        instances: [...instances.values()].flatMap(({ value }) => value).sort(compareInstances),
      },
      hosts,
      vms,
      damaged,
    };
  }

  #parse<Value>(
    kind: RecordKind,
    name: string,
    text: string,
    decode: (json: unknown, name: string) => Result<Value>,
  ): Result<Value> {
    const key = `${kind}/${name}`;
    const known = this.#parsed.get(key);
    if (known?.text === text) return known.result as Result<Value>;
    const json = isName(name) ? parse(text) : failed('its name is none');
    const result = json.ok ? decode(json.value, name) : json;
    this.#parsed.set(key, { text, result });
    return result;
  }

  #forget(raw: RawRecords): void {
    const count = RECORD_KINDS.reduce((sum, kind) => sum + raw[kind].size, 0);
    if (this.#parsed.size <= count) return;
    for (const key of this.#parsed.keys()) {
      const [kind, name] = [key.slice(0, key.indexOf('/')), key.slice(key.indexOf('/') + 1)];
      if (!raw[kind as RecordKind].has(name)) this.#parsed.delete(key);
    }
  }
}

// ------------------------------------------------------------------------------- what comes back is hostile

function parse(text: string): Result<unknown> {
  if (text.length > TEXT_MAX) return failed(`it has more than ${TEXT_MAX} characters`);
  try {
    return ok(JSON.parse(text));
  } catch {
    return failed('it is no JSON');
  }
}

type Fields = Readonly<Record<string, unknown>>;

function fieldsOf(json: unknown): Fields {
  return typeof json === 'object' && json !== null && !Array.isArray(json) ? (json as Fields) : {};
}

function isAmount(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
}

function isWord(value: unknown): value is string {
  return typeof value === 'string' && value.length > 0 && value.length <= WORD_MAX;
}

export function decodeHost(json: unknown, key: string): Result<HostRecord> {
  const { name, memoryBytes, cores, maintenance } = fieldsOf(json);
  if (name !== key) return failed('its "name" is not that of its key');
  if (!isAmount(memoryBytes)) return failed('its "memoryBytes" is no number of bytes');
  if (!isAmount(cores) || cores === 0) return failed('its "cores" is no number from 1');
  if (typeof maintenance !== 'boolean') return failed('its "maintenance" is neither true nor false');
  return ok({ name: key, memoryBytes, cores, maintenance });
}

export function decodePresence(json: unknown): Result<HostPresence> {
  const { api, certificate, build, logFormat, snapshotFormat } = fieldsOf(json);
  if (!isWord(api)) return failed('its "api" is no address');
  if (typeof certificate !== 'string' || certificate.length > CERTIFICATE_MAX || !LINES.test(certificate))
    return failed('its "certificate" is none');
  if (!isWord(build)) return failed('its "build" is none');
  if (!isAmount(logFormat)) return failed('its "logFormat" is no number');
  if (!isAmount(snapshotFormat)) return failed('its "snapshotFormat" is no number');
  return ok({ api, certificate, build, logFormat, snapshotFormat });
}

/** Undefined when it is none. */
export function presenceIn(text: string): HostPresence | undefined {
  try {
    const presence = decodePresence(JSON.parse(text));
    return presence.ok ? presence.value : undefined;
  } catch {
    return undefined;
  }
}

function isFaultTolerance(value: unknown): value is FaultTolerance {
  return value === 'on' || value === 'off' || value === 'suspended';
}

export function decodeVm(json: unknown, key: string): Result<VmDocument> {
  const { vm: own, definition, secrets } = fieldsOf(json);
  const { name, memoryBytes, power, faultTolerance, restart, antiAffinity } = fieldsOf(own);
  if (name !== key) return failed('its "name" is not that of its key');
  if (!isAmount(memoryBytes)) return failed('its "memoryBytes" is no number of bytes');
  if (power !== 'on' && power !== 'off') return failed('its "power" is neither on nor off');
  if (!isFaultTolerance(faultTolerance)) return failed('its "faultTolerance" is not on, off or suspended');
  if (typeof restart !== 'boolean') return failed('its "restart" is neither true nor false');
  if (!Array.isArray(antiAffinity) || antiAffinity.length > GROUPS_MAX || !antiAffinity.every(isWord))
    return failed('its "antiAffinity" is no list of names');
  const vm: Vm = { name: key, memoryBytes, power, faultTolerance, restart, antiAffinity };
  return ok({ vm, definition: jsonOf(definition), secrets: jsonOf(secrets) });
}

/** It came out of JSON.parse. */
function jsonOf(value: unknown): Json {
  return (value ?? null) as Json;
}

export function decodeInstances(json: unknown, host: string): Result<Instance[]> {
  if (!Array.isArray(json) || json.length > INSTANCES_MAX) return failed('it is no list of instances');
  const instances: Instance[] = [];
  for (const [index, one] of json.entries()) {
    const { vm, id, role, state, memoryBytes, address } = fieldsOf(one);
    if (
      !isName(vm) ||
      !isName(id) ||
      (role !== 'primary' && role !== 'backup') ||
      !isWord(state) ||
      !isAmount(memoryBytes) ||
      (address !== undefined && !isWord(address))
    )
      return failed(`instance ${index} of it is none`);
    instances.push({ vm, host, id, role, state, memoryBytes, address });
  }
  return ok(instances);
}

// ------------------------------------------------------------- what is written must be readable again

export function hostRefusal(host: HostRecord): Result<never> | undefined {
  return refusal('hosts', host.name, decodeHost(JSON.parse(encodeHost(host)), host.name));
}

export function vmRefusal(document: VmDocument): Result<never> | undefined {
  const { name } = document.vm;
  const json = parse(encodeVm(document));
  return refusal('vms', name, json.ok ? decodeVm(json.value, name) : json);
}

export function instancesRefusal(host: string, instances: readonly Instance[]): Result<never> | undefined {
  const foreign = instances.find((instance) => instance.host !== host);
  const decoded = decodeInstances(JSON.parse(encodeInstances(instances)), host);
  return refusal('instances', host, foreign ? failed(`${foreign.id} is of ${foreign.host}`) : decoded);
}

function refusal(kind: RecordKind, name: string, decoded: Result<unknown>): Result<never> | undefined {
  if (!isName(name)) return failed(`"${name}" is no name: letters, digits, ".", "_" and "-", at most 63`);
  return decoded.ok ? undefined : failed(`${kind}/${name} cannot be stored: ${decoded.error}`);
}
