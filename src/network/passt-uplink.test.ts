import { existsSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { afterEach, describe, expect, test } from 'vitest';
import { freePort } from '../../tools/free-ports.ts';
import { epoch, vmId } from '../ft/identity.ts';
import { DEFAULT_PASST_OPTIONS, PasstUplink } from './passt-uplink.ts';
import { SwitchNetworkPort } from './switch-port.ts';
import { SwitchServer } from './switch-server.ts';

const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

function arpRequest(): Buffer {
  const frame = Buffer.alloc(42);
  frame.fill(0xff, 0, 6);
  Buffer.from('020000000015' + '0806' + '0001' + '0800' + '06' + '04' + '0001', 'hex').copy(frame, 6);
  Buffer.from('020000000015' + '0a00020f' + '000000000000' + '0a000202', 'hex').copy(frame, 22);
  return frame;
}

const installed = existsSync('/usr/bin/passt');

describe.skipIf(!installed)('passt uplink (needs passt)', () => {
  test('the guest reaches the gateway, and a forwarded port reaches the guest', async () => {
    const hostPort = await freePort();
    const server = await SwitchServer.start({ port: 0 });
    if (!server.ok) throw new Error(server.error);
    closing.push(() => server.value.close());
    const forwards = [{ protocol: 'tcp', hostPort, guestPort: 80 }] as const;
    const uplink = await PasstUplink.start({ ...DEFAULT_PASST_OPTIONS, forwards });
    if (!uplink.ok) throw new Error(uplink.error);
    closing.push(() => uplink.value.close());
    server.value.attachUplink(uplink.value.socket);

    const guest = new SwitchNetworkPort({
      vm: vmId('vm'),
      nics: 1,
      host: '127.0.0.1',
      port: server.value.port,
    });
    closing.push(() => guest.close());
    let arpAnswered: () => void = () => undefined;
    let synArrived: () => void = () => undefined;
    const [arp, syn] = [
      new Promise<void>((resolve) => (arpAnswered = resolve)),
      new Promise<void>((resolve) => (synArrived = resolve)),
    ];
    guest.listen({
      frame: (_, packet) => {
        const frame = Buffer.from(packet.frame);
        if (frame.readUInt16BE(12) === 0x0806 && frame.readUInt16BE(20) === 2) arpAnswered();
        const isTcp = frame.readUInt16BE(12) === 0x0800 && frame.readUInt8(23) === 6;
        if (isTcp && frame.readUInt16BE(36) === 80 && (frame.readUInt8(47) & 2) !== 0) synArrived();
      },
    });
    guest.open(epoch(1));
    guest.send(0, { frame: arpRequest() }, 1n);
    await arp;
    const client = connect(hostPort, '127.0.0.1');
    client.on('error', () => undefined);
    closing.push(() => client.destroy());
    await syn;
  });

  test('a forwarded port in use is one line', async () => {
    const taken = createServer();
    await new Promise<void>((resolve) => taken.listen(0, '127.0.0.1', resolve));
    closing.push(() => new Promise((resolve) => taken.close(resolve)));
    const { port } = taken.address() as { port: number };
    const forwards = [{ protocol: 'tcp', hostPort: port, guestPort: 80 }] as const;
    const uplink = await PasstUplink.start({ ...DEFAULT_PASST_OPTIONS, forwards });
    expect(uplink.ok ? 'started' : uplink.error).toMatch(/^port \d+ is in use/);
  });
});
