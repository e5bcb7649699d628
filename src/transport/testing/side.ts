import type { Epoch } from '../../ft/identity.ts';
import type { Link } from '../../ft/link.ts';
import type { Message } from '../../ft/message.ts';
import { TcpChannel, type TcpChannelOptions } from '../tcp-channel.ts';

/** One side that keeps what it is told. */
export class Side {
  readonly channel: TcpChannel;
  readonly heartbeatKeys: Epoch[] = [];
  readonly messages: Message[] = [];
  readonly links: Link[] = [];
  broken: string[] = [];
  #waiting: (() => void)[] = [];
  onMessages: (link: Link, messages: readonly Message[]) => void = () => {};

  constructor(options: Omit<TcpChannelOptions, 'onHeartbeatKeys'>) {
    this.channel = new TcpChannel({
      ...options,
      onHeartbeatKeys: (generation) => this.heartbeatKeys.push(generation),
    });
    this.channel.listen({
      connected: (link) => {
        this.links.push(link);
        this.#wake();
      },
      received: (link, messages) => {
        if (!this.links.includes(link)) this.links.push(link);
        this.messages.push(...messages);
        this.onMessages(link, messages);
        this.#wake();
      },
      broken: (_link, reason) => {
        this.broken.push(reason);
        this.#wake();
      },
    });
  }

  accept(): Promise<number> {
    return new Promise((resolve, reject) =>
      this.channel.accept({ host: '127.0.0.1', port: 0 }, resolve, reject),
    );
  }

  async until(condition: () => boolean): Promise<void> {
    while (!condition()) await new Promise<void>((resolve) => this.#waiting.push(resolve));
  }

  #wake(): void {
    for (const resolve of this.#waiting.splice(0)) resolve();
  }
}
