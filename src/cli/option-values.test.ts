import { describe, expect, test } from 'vitest';
import { parseDisk } from '../host/disk-option.ts';
import {
  parseAddress,
  parseForward,
  parseMemory,
  parseNetwork,
  parseNetworks,
  parsePort,
  parseServedDisk,
} from './option-values.ts';

const value = <Value>(result: { ok: true; value: Value } | { ok: false; error: string }) =>
  result.ok ? result.value : result.error;

describe('option values', () => {
  test('a disk is a file or an NBD URL, and readonly when that is behind it', () => {
    expect(value(parseDisk('a,b.img'))).toEqual({ kind: 'file', path: 'a,b.img', readOnly: false });
    expect(value(parseDisk('a.img,readonly'))).toEqual({ kind: 'file', path: 'a.img', readOnly: true });
    const at = (host: string, port: number, disk: string) => ({ host, port, disk });
    expect(value(parseDisk('nbd://h:1/x%20y,readonly'))).toEqual({
      kind: 'nbd',
      address: at('h', 1, 'x y'),
      readOnly: true,
    });
    expect(value(parseDisk('nbd://[::1]'))).toMatchObject({ address: at('::1', 10809, '') });
    expect(value(parseDisk('nbd+unix:///x?socket=/run/a.sock'))).toMatchObject({
      address: { socket: '/run/a.sock', disk: 'x' },
    });
    for (const wrong of [
      'nbds://h/x',
      'nbd+unix:///x',
      'nbd+unix://h/x?socket=/s',
      'nbd://u:p@h/x',
      'nbd:',
      'nbd://h/%ff',
    ])
      expect(value(parseDisk(wrong))).toMatch(/^--disk .+: write nbd:\/\/host:port\/export, or nbd\+unix/);
    expect(value(parseDisk(',readonly'))).toMatch(/needs a file/);
  });

  test('memory has a unit, MiB when there is none', () => {
    expect(value(parseMemory('512M'))).toBe(512 * 2 ** 20);
    expect(value(parseMemory('2G'))).toBe(2 ** 31);
    expect(value(parseMemory('1.5G'))).toBe(1.5 * 2 ** 30);
    expect(value(parseMemory('256'))).toBe(256 * 2 ** 20);
    expect(value(parseMemory('262144K'))).toBe(256 * 2 ** 20);
  });

  test('too much, too little and no memory are one line each', () => {
    expect(value(parseMemory('4G'))).toMatch(/at most 3584M/);
    expect(value(parseMemory('0'))).toMatch(/too little/);
    expect(value(parseMemory('1025K'))).toMatch(/whole number of MiB/);
    for (const text of ['', 'much', '-1M', '1T', '0x100M'])
      expect(value(parseMemory(text))).toMatch(/is no size/);
  });

  test('forwards name protocol, host port and guest port', () => {
    expect(value(parseForward('tcp:8080:80'))).toEqual({ protocol: 'tcp', hostPort: 8080, guestPort: 80 });
    for (const text of ['8080:80', 'tcp:8080', 'tcp:0:80', 'tcp:80:65536', 'icmp:1:1'])
      expect(value(parseForward(text))).toMatch(/write it like tcp:8080:80/);
  });

  test('ports, addresses and networks are checked', () => {
    expect(value(parsePort('0'))).toBe(0);
    for (const text of ['65536', '-1', 'http', '']) expect(value(parsePort(text))).toMatch(/no port number/);
    expect(value(parseAddress('10.0.2.15/24'))).toEqual({ address: '10.0.2.15', prefixLength: 24 });
    for (const text of ['10.0.2.15', '10.0.2.256/24', '10.0.2.15/31'])
      expect(value(parseAddress(text))).toMatch(/write it/);
    expect(value(parseNetwork('user'))).toBe('user');
    expect(value(parseNetwork('tap:eth9'))).toEqual({ tap: 'eth9' });
    for (const text of ['tap:', 'tap:a/b', 'tap:a b', 'tap:..', 'tap:tap%d', 'tap:t\u00e4p'])
      expect(value(parseNetwork(text))).toMatch(/--net tap:.* is no name for a TAP/);
    expect(value(parseNetwork('tap:a-name-too-long-'))).toMatch(/too long: 15 characters at most/);
    expect(value(parseNetwork('bridge'))).toMatch(/is unknown/);
  });

  test('every --net is an interface; none said is one where ports are forwarded', () => {
    expect(value(parseNetworks([], false))).toEqual([]);
    expect(value(parseNetworks([], true))).toEqual(['user']);
    expect(value(parseNetworks(['none'], false))).toEqual([]);
    expect(value(parseNetworks(['tap:a', 'user', 'tap:b'], false))).toEqual([
      { tap: 'a' },
      'user',
      { tap: 'b' },
    ]);
    expect(value(parseNetworks(['user', 'none'], false))).toMatch(/none stands alone/);
    expect(value(parseNetworks(['tap:a', 'tap:a'], false))).toMatch(/a TAP of its own/);
    expect(value(parseNetworks(new Array(9).fill('user'), false))).toMatch(/8 interfaces at most/);
    expect(value(parseNetworks(['user', 'bridge'], false))).toMatch(/is unknown/);
  });

  test('served disks are named by the user or in order', () => {
    expect(parseServedDisk('a.img', 0)).toEqual({ name: 'vda', path: 'a.img' });
    expect(parseServedDisk('b.img', 1)).toEqual({ name: 'vdb', path: 'b.img' });
    expect(parseServedDisk('data=/x/y=z.img', 1)).toEqual({ name: 'data', path: '/x/y=z.img' });
  });
});
