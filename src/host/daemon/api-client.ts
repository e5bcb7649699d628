import { createWriteStream } from 'node:fs';
import { request as httpRequest, type IncomingMessage, type RequestOptions } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { StringDecoder } from 'node:string_decoder';
import { failed, ok, type Result } from '../../base/result.ts';

/** Where a daemon's API is, and what it takes to be let in. */
export type ApiAddress =
  | { readonly socket: string }
  | {
      readonly host: string;
      readonly port: number;
      readonly token: string;
      /** The one certificate that this daemon proves itself with (PEM). */
      readonly certificate: string;
    };

const ANSWER_BYTES_MAX = 16 * 1024 * 1024;
const ANSWER_MS_MAX = 120_000;
const DOWNLOAD_MS_MAX = 600_000;

/** One call of a daemon's API: what it answered, or one line of why not. */
export async function callApi<Answer>(
  address: ApiAddress,
  method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE',
  path: string,
  body?: object,
  timeoutMs: number = ANSWER_MS_MAX,
): Promise<Result<Answer>> {
  const text = body === undefined ? undefined : JSON.stringify(body);
  let response: IncomingMessage;
  let content: string;
  try {
    response = await send(address, method, path, text, AbortSignal.timeout(timeoutMs));
    content = await limitedText(response);
  } catch (error) {
    return failed(unreachable(address, error as NodeJS.ErrnoException));
  }
  let json: unknown;
  try {
    json = content === '' ? undefined : JSON.parse(content);
  } catch {
    return failed(`${nameOf(address)} does not answer as a Lockstep host does`);
  }
  const status = response.statusCode ?? 0;
  if (status >= 200 && status < 300) return ok(json as Answer);
  const { error } = (json ?? {}) as { error?: unknown };
  return failed(typeof error === 'string' ? error : `${nameOf(address)} answered ${status}`);
}

/** An answer that goes on: hands out the text as it comes; resolves at its end. */
export async function followApi(
  address: ApiAddress,
  path: string,
  chunk: (text: string) => void,
  signal: AbortSignal,
): Promise<Result<void>> {
  const decoder = new StringDecoder('utf8');
  return followBytes(address, path, (bytes) => chunk(decoder.write(bytes)), signal);
}

/** An answer of so many bytes, into a file. */
export async function downloadApi(
  address: ApiAddress,
  path: string,
  file: string,
  bytes: number,
): Promise<Result<void>> {
  let came = 0;
  const counted = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      came += chunk.length;
      done(came > bytes ? new Error('more came than was told') : null, chunk);
    },
  });
  try {
    const response = await send(address, 'GET', path, undefined, AbortSignal.timeout(DOWNLOAD_MS_MAX));
    if (response.statusCode !== 200) {
      response.resume();
      return failed(`${nameOf(address)} answered ${response.statusCode} for ${path}`);
    }
    await pipeline(response, counted, createWriteStream(file, { mode: 0o600 }));
  } catch (error) {
    return failed(unreachable(address, error as NodeJS.ErrnoException));
  }
  return came === bytes ? ok(undefined) : failed(`${nameOf(address)} sent ${came} of ${bytes} bytes`);
}

/** An answer that goes on until this side leaves or the other ends, of bytes that are no text. */
export async function followBytes(
  address: ApiAddress,
  path: string,
  chunk: (bytes: Buffer) => void,
  signal: AbortSignal,
): Promise<Result<void>> {
  try {
    const response = await send(address, 'GET', path, undefined, signal);
    if (response.statusCode !== 200) {
      const { error } = JSON.parse(await limitedText(response)) as { error?: unknown };
      return failed(String(error));
    }
    for await (const bytes of response) chunk(bytes as Buffer);
    return ok(undefined);
  } catch (error) {
    return signal.aborted ? ok(undefined) : failed(unreachable(address, error as NodeJS.ErrnoException));
  }
}

function send(
  address: ApiAddress,
  method: string,
  path: string,
  text: string | undefined,
  signal: AbortSignal,
): Promise<IncomingMessage> {
  const options: RequestOptions = {
    method,
    path,
    signal,
    headers: {
      ...(text !== undefined && {
        'content-type': 'application/json',
        'content-length': Buffer.byteLength(text),
      }),
      ...('token' in address && { authorization: `Bearer ${address.token}` }),
    },
  };
  return new Promise((resolve, reject) => {
    const request =
      'socket' in address
        ? httpRequest({ ...options, socketPath: address.socket })
        : httpsRequest({
            ...options,
            host: address.host,
            port: address.port,
            agent: false,
            // This certificate and no other: its name says nothing, so names are not compared.
            ca: address.certificate,
            checkServerIdentity: () => undefined,
            minVersion: 'TLSv1.3',
          });
    request.on('response', resolve);
    request.on('error', reject);
    request.end(text);
  });
}

async function limitedText(response: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of response) {
    length += (chunk as Buffer).length;
    if (length > ANSWER_BYTES_MAX) throw new Error('its answer is too long');
    chunks.push(chunk as Buffer);
  }
  return Buffer.concat(chunks).toString('utf8');
}

function nameOf(address: ApiAddress): string {
  return 'socket' in address ? address.socket : `${address.host}:${address.port}`;
}

function unreachable(address: ApiAddress, error: NodeJS.ErrnoException): string {
  const name = nameOf(address);
  if ('socket' in address && (error.code === 'ENOENT' || error.code === 'ECONNREFUSED'))
    return `no host daemon answers at ${name}: start one with lockstep host start`;
  if (error.code === 'EACCES')
    return `${name} belongs to somebody else: use the account that started the host`;
  if (error.name === 'TimeoutError') return `${name} did not answer in time`;
  if (/CERT|SELF_SIGNED/.test(error.code ?? ''))
    return `${name} proves itself with another certificate than the one given`;
  return `${name} cannot be reached: ${error.code ?? error.message}`;
}
