import { jsonLines } from './json-lines.ts';

/** A key's value and the revision of the store that wrote it. */
export interface EtcdValue {
  readonly text: string;
  readonly revision: bigint;
  /** The lease that it goes with. */
  readonly lease?: string;
}

export interface EtcdEntry extends EtcdValue {
  readonly key: string;
}

export type EtcdWrite =
  | {
      readonly key: string;
      readonly text: string;
      /** The value goes when this lease ends. */
      readonly lease?: string;
    }
  | { readonly key: string; readonly remove: true };

/** At `revision` a key got a value, or was removed. */
export type EtcdChange =
  | { readonly kind: 'put'; readonly revision: bigint; readonly entry: EtcdEntry }
  | { readonly kind: 'removed'; readonly revision: bigint; readonly key: string };

class LongAnswerError extends Error {}

/** The changes that were asked for are no longer kept: all is to be read anew. */
export class EtcdCompactedError extends Error {}

type Json = Readonly<Record<string, unknown>>;

const ANSWER_BYTES_MAX = 1024 * 1024;
/** Of many keys at once. */
const LONG_ANSWER_BYTES_MAX = 64 * 1024 * 1024;
/** etcd counts the whole rest of a range for every page of it, so few pages are better than small ones. */
const PAGE_KEYS = 4_000;
/** etcd refuses what needs its leader, also on a stream, when it has none [etcd v3rpc, WithRequireLeader]. */
const LEADER_REQUIRED = { 'Grpc-Metadata-hasleader': 'true' };

/**
 * The few calls of etcd v3 that Lockstep needs, over its JSON gateway [etcd v3.4, *gRPC gateway*]: POST with JSON;
 * keys, values in base64, 64-bit numbers as text. What comes back is checked here.
 */
export class EtcdGateway {
  readonly #endpoints: string[];

  /** URLs such as http://10.0.0.1:2379. */
  constructor(endpoints: readonly string[]) {
    this.#endpoints = endpoints.map((url) => url.replace(/\/+$/, ''));
  }

  /** All of them at one revision; undefined for a key that is not there. */
  async read(keys: readonly string[], signal: AbortSignal): Promise<(EtcdValue | undefined)[]> {
    const success = keys.map((key) => ({ requestRange: { key: base64(key) } }));
    const { responses } = await this.#call('kv/txn', { success }, signal);
    return keys.map((_, index) => {
      const range = part(listOf(responses)[index], 'response_range');
      const [found] = listOf(range.kvs);
      return found === undefined ? undefined : entryOf(found);
    });
  }

  /** All keys that begin so, at one revision, in pages. */
  async readAll(
    prefix: string,
    signal: AbortSignal,
  ): Promise<{ readonly entries: EtcdEntry[]; readonly revision: bigint }> {
    const entries: EtcdEntry[] = [];
    let revision: bigint | undefined;
    let keys = PAGE_KEYS;
    for (let from = prefix, more = true; more; ) {
      const range = { key: base64(from), range_end: base64(endOf(prefix)), limit: String(keys) };
      const at = revision === undefined ? {} : { revision: String(revision) };
      const asked = this.#call('kv/range', { ...range, ...at }, signal, LONG_ANSWER_BYTES_MAX);
      const answer = await asked.catch((error: unknown) => {
        if (error instanceof LongAnswerError && keys > 1) return undefined;
        throw error;
      });
      if (answer === undefined) {
        keys = Math.ceil(keys / 8);
        continue;
      }
      revision ??= numberIn(objectOf(answer.header).revision);
      const page = listOf(answer.kvs).map(entryOf);
      entries.push(...page);
      more = answer.more === true && page.length > 0;
      // The next key there can be.
      from = `${page.at(-1)?.key}\0`;
    }
    return { entries, revision: revision! };
  }

  /** Writes all of it if every key still has this revision (0: is not there), otherwise nothing. */
  async writeIf(
    conditions: readonly { readonly key: string; readonly revision: bigint }[],
    writes: readonly EtcdWrite[],
    signal: AbortSignal,
  ): Promise<boolean> {
    return (await this.writeAt(conditions, writes, signal)) !== undefined;
  }

  /** As `writeIf`; gives the revision of what was written, undefined when nothing was. */
  async writeAt(
    conditions: readonly { readonly key: string; readonly revision: bigint }[],
    writes: readonly EtcdWrite[],
    signal: AbortSignal,
  ): Promise<bigint | undefined> {
    const compare = conditions.map(({ key, revision }) => ({
      key: base64(key),
      target: 'MOD',
      result: 'EQUAL',
      modRevision: String(revision),
    }));
    const success = writes.map((write) =>
      'remove' in write
        ? { requestDeleteRange: { key: base64(write.key) } }
        : {
            requestPut: {
              key: base64(write.key),
              value: base64(write.text),
              ...(write.lease !== undefined && { lease: write.lease }),
            },
          },
    );
    const { succeeded, header } = await this.#call('kv/txn', { compare, success }, signal);
    // False is left out.
    if (succeeded !== undefined && typeof succeeded !== 'boolean') throw new Error('it answers rubbish');
    return succeeded === true ? numberIn(objectOf(header).revision) : undefined;
  }

  /** The id of a lease that ends by itself unless it is renewed; etcd may make it longer. */
  async grantLease(seconds: number, signal: AbortSignal): Promise<string> {
    const { ID: id } = await this.#call('lease/grant', { TTL: String(seconds) }, signal);
    return String(numberIn(id));
  }

  /** False when the lease has ended. */
  async renewLease(lease: string, signal: AbortSignal): Promise<boolean> {
    // A stream of one question and one answer.
    const { result } = await this.#call('lease/keepalive', { ID: lease }, signal);
    const { TTL: seconds } = objectOf(result);
    return seconds !== undefined && numberIn(seconds) > 0n;
  }

  /** Whatever goes with the lease goes now. */
  async endLease(lease: string, signal: AbortSignal): Promise<void> {
    await this.#call('lease/revoke', { ID: lease }, signal);
  }

  /**
   * The changes after revision `after` of all keys that begin so, until `signal` ends it or the member does; begins
   * with no changes when the member listens. Throws EtcdCompactedError when they are no longer kept.
   */
  async *changes(prefix: string, after: bigint, signal: AbortSignal): AsyncGenerator<readonly EtcdChange[]> {
    const [endpoint = ''] = this.#endpoints;
    const range = { key: base64(prefix), range_end: base64(endOf(prefix)) };
    const body = { create_request: { ...range, start_revision: String(after + 1n) } };
    const response = await request(`${endpoint}/v3/watch`, body, signal, LEADER_REQUIRED);
    for await (const line of jsonLines(piecesOf(response, signal), LONG_ANSWER_BYTES_MAX)) {
      const { result, error } = objectOf(line);
      if (error !== undefined) throw new Error(`${new URL(endpoint).host}: ${messageIn(error)}`);
      const { canceled, compact_revision, cancel_reason, events } = objectOf(result);
      if (compact_revision !== undefined) throw new EtcdCompactedError('the changes are no longer kept');
      if (canceled === true) throw new Error(`${new URL(endpoint).host}: ${String(cancel_reason)}`);
      yield listOf(events).map(changeOf);
    }
  }

  /** The member that answered last is asked first; one that let the time run out is asked last the next time. */
  async #call(path: string, body: object, signal: AbortSignal, bytesMax = ANSWER_BYTES_MAX): Promise<Json> {
    let reason: unknown = new Error('there is no endpoint');
    for (let left = this.#endpoints.length; left > 0; left--) {
      const [endpoint = ''] = this.#endpoints;
      try {
        return await post(`${endpoint}/v3/${path}`, body, signal, bytesMax);
      } catch (error) {
        this.#endpoints.push(this.#endpoints.shift() ?? endpoint);
        if (signal.aborted) throw signal.reason;
        reason = error;
      }
    }
    throw reason;
  }
}

async function request(
  url: string,
  body: object,
  signal: AbortSignal,
  headers: Readonly<Record<string, string>> = {},
): Promise<Response> {
  try {
    const content = { method: 'POST', body: JSON.stringify(body), headers };
    return await fetch(url, { ...content, signal, redirect: 'error' });
  } catch (error) {
    const { cause } = error as { cause?: { code?: unknown } };
    throw signal.aborted
      ? error
      : new Error(`${new URL(url).host}: ${String(cause?.code ?? 'no connection')}`);
  }
}

async function post(url: string, body: object, signal: AbortSignal, bytesMax: number): Promise<Json> {
  const response = await request(url, body, signal);
  const text = await limitedText(piecesOf(response, signal), bytesMax);
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    throw new Error(`${new URL(url).host} does not answer as etcd does`);
  }
  const answer = objectOf(json);
  if (!response.ok || answer.error !== undefined)
    throw new Error(`${new URL(url).host}: ${messageIn(answer.error ?? response.status)}`);
  return answer;
}

async function limitedText(pieces: AsyncIterable<Uint8Array>, bytesMax: number): Promise<string> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of pieces) {
    length += chunk.length;
    if (length > bytesMax) throw new LongAnswerError('its answer is too long');
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

/**
 * The body as it comes, until `signal`. That fetch itself would end a body that is being read is not to be relied on: it
 * remembers weakly whom to tell, and forgets it with the next garbage collection [undici 6, Node 20].
 */
async function* piecesOf({ body }: Response, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  if (body === null) return;
  const reader = body.getReader();
  const stop = () => void reader.cancel().catch(() => undefined);
  signal.addEventListener('abort', stop);
  if (signal.aborted) stop();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      signal.throwIfAborted();
      if (done) return;
      yield value;
    }
  } finally {
    signal.removeEventListener('abort', stop);
    stop();
  }
}

/** A text, or an object that has one: etcd has both. */
function messageIn(error: unknown): string {
  const message =
    typeof error === 'object' && error !== null ? (error as { message?: unknown }).message : error;
  return String(message ?? 'an error without a name');
}

function entryOf(found: unknown): EtcdEntry {
  const { key, value, mod_revision: revision, lease } = objectOf(found);
  return {
    key: textIn(key),
    text: textIn(value),
    revision: numberIn(revision),
    ...(lease !== undefined && { lease: String(numberIn(lease)) }),
  };
}

function changeOf(event: unknown): EtcdChange {
  const { type, kv } = objectOf(event);
  const { key, mod_revision } = objectOf(kv);
  const revision = numberIn(mod_revision);
  // PUT is the one that is left out.
  if (type === 'DELETE') return { kind: 'removed', revision, key: textIn(key) };
  return { kind: 'put', revision, entry: entryOf(kv) };
}

function textIn(value: unknown): string {
  return typeof value === 'string' ? Buffer.from(value, 'base64').toString('utf8') : '';
}

function numberIn(value: unknown): bigint {
  if (typeof value !== 'string' || !/^\d{1,19}$/.test(value)) throw new Error('it answers rubbish');
  return BigInt(value);
}

/** The end of a range: the first key that does not begin with `prefix`, which is plain text. */
function endOf(prefix: string): string {
  return prefix.slice(0, -1) + String.fromCharCode(prefix.charCodeAt(prefix.length - 1) + 1);
}

function base64(text: string): string {
  return Buffer.from(text).toString('base64');
}

function objectOf(value: unknown): Json {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new Error('it answers rubbish');
  return value as Json;
}

/** Absent is empty, as everywhere in this encoding. */
function listOf(value: unknown): readonly unknown[] {
  if (value === undefined || value === null) return [];
  if (!Array.isArray(value)) throw new Error('it answers rubbish');
  return value;
}

function part(value: unknown, name: string): Json {
  return objectOf(objectOf(value)[name]);
}
