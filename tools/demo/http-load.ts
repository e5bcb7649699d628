import { get } from 'node:http';

const EVERY_MS = 500;
const ANSWER_MS_MAX = 30_000;

/** Fetches the guest's page again and again, each time over a new connection. */
export class HttpLoad {
  readonly #port: number;
  readonly #expected: string;
  #answered = 0;
  #errors = 0;
  #firstError: string | undefined;
  #running: Promise<void> | undefined;
  readonly #abort = new AbortController();

  constructor(port: number, expected: string) {
    this.#port = port;
    this.#expected = expected;
  }

  get answered(): number {
    return this.#answered;
  }

  get errors(): number {
    return this.#errors;
  }

  get firstError(): string | undefined {
    return this.#firstError;
  }

  start(): void {
    this.#running = this.#run();
  }

  async stop(): Promise<void> {
    this.#abort.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    while (!this.#abort.signal.aborted) {
      const error = await this.#fetch();
      if (this.#abort.signal.aborted) return;
      if (error === undefined) this.#answered += 1;
      else {
        this.#errors += 1;
        this.#firstError ??= error;
      }
      await new Promise((resolve) => setTimeout(resolve, EVERY_MS));
    }
  }

  #fetch(): Promise<string | undefined> {
    return new Promise((resolve) => {
      const options = { host: '127.0.0.1', port: this.#port, agent: false, timeout: ANSWER_MS_MAX } as const;
      const request = get({ ...options, signal: this.#abort.signal }, (response) => {
        let body = '';
        response.setEncoding('utf8');
        response.on('data', (text: string) => {
          body += text;
        });
        response.on('error', (error) => resolve(error.message));
        response.on('end', () => {
          if (response.statusCode !== 200) resolve(`status ${response.statusCode}`);
          else resolve(body === this.#expected ? undefined : 'the page is not the one on the disk');
        });
      });
      request.on('timeout', () => request.destroy(new Error('no answer')));
      request.on('error', (error) => resolve(error.message));
    });
  }
}
