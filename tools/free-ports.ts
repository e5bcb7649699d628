import { createSocket } from 'node:dgram';
import { createServer } from 'node:net';

/**
 * Ports of the loopback address for servers that are started later, or stopped and started again. Below the range
 * from which Linux takes the ports of outgoing connections (ip(7), `ip_local_port_range`: 32768 and up): there,
 * any connection of any process could take a port between two lives of its server.
 */
const FIRST = 12_000;
const COUNT = 20_000;
/** Processes that run beside each other begin this far apart, so that they seldom look at the same port. */
const STRIDE = 64;

let next = (process.pid * STRIDE) % COUNT;

/** Free for TCP and for UDP, and given to nobody else by this process. */
export async function freePorts(count: number): Promise<number[]> {
  const ports: number[] = [];
  for (let tries = 0; ports.length < count; tries++) {
    if (tries === COUNT) throw new Error(`no free port between ${FIRST} and ${FIRST + COUNT}`);
    const port = FIRST + next;
    next = (next + 1) % COUNT;
    if (await isFree(port)) ports.push(port);
  }
  return ports;
}

export async function freePort(): Promise<number> {
  const [port = 0] = await freePorts(1);
  return port;
}

async function isFree(port: number): Promise<boolean> {
  const server = createServer();
  const tcp = await new Promise<boolean>((resolve) => {
    server.once('error', () => resolve(false));
    server.listen(port, '127.0.0.1', () => resolve(true));
  });
  if (!tcp) return false;
  await new Promise((resolve) => server.close(resolve));
  const socket = createSocket('udp4');
  const udp = await new Promise<boolean>((resolve) => {
    socket.once('error', () => resolve(false));
    socket.bind(port, '127.0.0.1', () => resolve(true));
  });
  await new Promise<void>((resolve) => socket.close(() => resolve()));
  return udp;
}
