/** A key's value and the revision of the store that wrote it. */
export interface EtcdValue {
  readonly text: string;
  readonly revision: bigint;
}

export interface EtcdWrite {
  readonly key: string;
  readonly text: string;
  /** The value goes when this lease ends. */
  readonly lease?: string;
}

type Json = Readonly<Record<string, unknown>>;

const ANSWER_BYTES_MAX = 1024 * 1024;

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
      if (found === undefined) return undefined;
      const { value, mod_revision: revision } = objectOf(found);
      if (typeof revision !== 'string' || !/^\d{1,19}$/.test(revision)) throw new Error('it answers rubbish');
      const text = typeof value === 'string' ? Buffer.from(value, 'base64').toString('utf8') : '';
      return { text, revision: BigInt(revision) };
    });
  }

  /** Writes all of it if every key still has this revision (0: is not there), otherwise nothing. */
  async writeIf(
    conditions: readonly { readonly key: string; readonly revision: bigint }[],
    writes: readonly EtcdWrite[],
    signal: AbortSignal,
  ): Promise<boolean> {
    const compare = conditions.map(({ key, revision }) => ({
      key: base64(key),
      target: 'MOD',
      result: 'EQUAL',
      modRevision: String(revision),
    }));
    const success = writes.map(({ key, text, lease }) => ({
      requestPut: { key: base64(key), value: base64(text), ...(lease !== undefined && { lease }) },
    }));
    const { succeeded } = await this.#call('kv/txn', { compare, success }, signal);
    // False is left out.
    if (succeeded !== undefined && typeof succeeded !== 'boolean') throw new Error('it answers rubbish');
    return succeeded === true;
  }

  /** The id of a lease that ends by itself unless it is renewed; etcd may make it longer. */
  async grantLease(seconds: number, signal: AbortSignal): Promise<string> {
    const { ID: id } = await this.#call('lease/grant', { TTL: String(seconds) }, signal);
    if (typeof id !== 'string' || !/^\d{1,19}$/.test(id)) throw new Error('it answers rubbish');
    return id;
  }

  /** The member that answered last is asked first; one that let the time run out is asked last the next time. */
  async #call(path: string, body: object, signal: AbortSignal): Promise<Json> {
    let reason: unknown = new Error('there is no endpoint');
    for (let left = this.#endpoints.length; left > 0; left--) {
      const [endpoint = ''] = this.#endpoints;
      try {
        return await post(`${endpoint}/v3/${path}`, body, signal);
      } catch (error) {
        this.#endpoints.push(this.#endpoints.shift() ?? endpoint);
        if (signal.aborted) throw signal.reason;
        reason = error;
      }
    }
    throw reason;
  }
}

async function post(url: string, body: object, signal: AbortSignal): Promise<Json> {
  let response: Response;
  try {
    response = await fetch(url, { method: 'POST', body: JSON.stringify(body), signal, redirect: 'error' });
  } catch (error) {
    const { cause } = error as { cause?: { code?: unknown } };
    throw signal.aborted
      ? error
      : new Error(`${new URL(url).host}: ${String(cause?.code ?? 'no connection')}`);
  }
  const text = await limitedText(response);
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    throw new Error(`${new URL(url).host} does not answer as etcd does`);
  }
  const answer = objectOf(json);
  if (!response.ok) throw new Error(`${new URL(url).host}: ${String(answer.error ?? response.status)}`);
  return answer;
}

async function limitedText(response: Response): Promise<string> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of response.body ?? []) {
    length += chunk.length;
    if (length > ANSWER_BYTES_MAX) throw new Error('its answer is too long');
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
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
