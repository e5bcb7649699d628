import { randomBytes } from 'node:crypto';
import { expect, test } from 'vitest';
import { epoch, instanceId, vmId } from '../ft/identity.ts';
import type { Heartbeat } from '../ft/message.ts';
import { encodeHeartbeat } from '../ft/message-codec.ts';
import { HeartbeatSeal } from './heartbeat-seal.ts';
import type { HeartbeatKeys } from './secure-session.ts';

const vm = vmId('vm');
const generation = epoch(3);
const heartbeat: Heartbeat = { vm, generation, sender: instanceId('a'), received: 7n, replayed: 5n };

function session(): { client: HeartbeatKeys; server: HeartbeatKeys } {
  const [one, other] = [randomBytes(32), randomBytes(32)];
  return {
    client: { sending: one, receiving: other },
    server: { sending: other, receiving: one },
  };
}

function ends(keys = session()): { client: HeartbeatSeal; server: HeartbeatSeal } {
  const client = new HeartbeatSeal(vm, 'sealed');
  const server = new HeartbeatSeal(vm, 'sealed');
  client.useKeys(generation, keys.client, 'client');
  server.useKeys(generation, keys.server, 'server');
  return { client, server };
}

test('each end opens what the other one closed', () => {
  const { client, server } = ends();
  for (let times = 0; times < 3; times++) {
    expect(server.open(client.close(heartbeat)!)).toEqual(heartbeat);
    expect(client.open(server.close(heartbeat)!)).toEqual(heartbeat);
  }
});

test('a copy is not taken a second time, nor one that was overtaken, nor one sent back to its maker', () => {
  const { client, server } = ends();
  const [first, second, third] = [
    client.close(heartbeat)!,
    client.close(heartbeat)!,
    client.close(heartbeat)!,
  ];
  expect(server.open(second)).toEqual(heartbeat);
  expect(server.open(second)).toBeUndefined();
  expect(server.open(first)).toBeUndefined();
  expect(client.open(third)).toBeUndefined();
  expect(server.open(third)).toEqual(heartbeat);
});

test('one changed bit, a cut end, another session or no code at all: not taken', () => {
  const { client, server } = ends();
  const stranger = ends().client;
  const good = client.close(heartbeat)!;
  for (let bit = 0; bit < good.length * 8; bit++) {
    const bad = Uint8Array.from(good);
    bad[bit >> 3]! ^= 1 << (bit & 7);
    expect(server.open(bad)).toBeUndefined();
  }
  for (let length = 0; length < good.length; length++)
    expect(server.open(good.subarray(0, length))).toBeUndefined();
  expect(server.open(stranger.close(heartbeat)!)).toBeUndefined();
  expect(server.open(encodeHeartbeat(heartbeat))).toBeUndefined();
  expect(server.open(good)).toEqual(heartbeat);
});

test('without a key for its generation nothing is sent, and nothing is taken', () => {
  const { client } = ends();
  const unkeyed = new HeartbeatSeal(vm, 'sealed');
  expect(unkeyed.close(heartbeat)).toBeUndefined();
  expect(unkeyed.open(client.close(heartbeat)!)).toBeUndefined();
  expect(client.close({ ...heartbeat, generation: epoch(4) })).toBeUndefined();
});

test('over a resumption no heartbeat is lost, whichever end gets its new keys first', () => {
  const { client, server } = ends();
  expect(server.open(client.close(heartbeat)!)).toEqual(heartbeat);
  const onTheWay = client.close(heartbeat)!;
  const next = session();
  server.useKeys(generation, next.server, 'server');
  // The client does not know of them yet.
  expect(client.open(server.close(heartbeat)!)).toEqual(heartbeat);
  expect(server.open(onTheWay)).toEqual(heartbeat);
  client.useKeys(generation, next.client, 'client');
  expect(server.open(client.close(heartbeat)!)).toEqual(heartbeat);
  expect(client.open(server.close(heartbeat)!)).toEqual(heartbeat);
});

test('keys of many sessions and generations are forgotten, the oldest first', () => {
  const { client, server } = ends();
  for (let more = 0; more < 10; more++) server.useKeys(generation, session().server, 'server');
  expect(server.open(client.close(heartbeat)!)).toBeUndefined();
  const again = ends();
  for (let more = 4; more < 14; more++) again.server.useKeys(epoch(more), session().server, 'server');
  expect(again.server.open(again.client.close(heartbeat)!)).toBeUndefined();
});
