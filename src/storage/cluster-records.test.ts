import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Result } from '../base/result.ts';
import {
  decodeHost,
  decodeInstances,
  decodePresence,
  decodeVm,
  type RawRecords,
  RECORD_KINDS,
  ReadingMaker,
} from './cluster-records.ts';
import type { RecordVersion } from './cluster-store.ts';

const version = '1' as RecordVersion;
const host = { name: 'a', memoryBytes: 1, cores: 1, maintenance: false };
const presence = { api: 'a:1', certificate: 'c', build: 'b', logFormat: 2, snapshotFormat: 2 };
const vm = {
  ...{ name: 'a', memoryBytes: 1, power: 'on', faultTolerance: 'on', restart: true, antiAffinity: ['x'] },
};
const instance = { vm: 'vm1', id: 'i1', role: 'backup', state: 'WAIT', memoryBytes: 1, address: 'a:1' };

describe('records that are read back', () => {
  const cases: [string, (json: unknown) => Result<unknown>, object][] = [
    ['host', (json) => decodeHost(json, 'a'), host],
    ['presence', decodePresence, presence],
    ['vm', (json) => decodeVm({ vm: json, definition: {}, secrets: {} }, 'a'), vm],
    ['instance', (json) => decodeInstances([json], 'a'), instance],
  ];

  test.each(cases)('%s: every field is looked at', (_, decode, good) => {
    expect(decode(good).ok).toBe(true);
    for (const field of Object.keys(good)) {
      for (const wrong of [undefined, null, -1, 1.5, 1e300, '', {}, [0], '\u0000'.repeat(400)]) {
        // An instance need not have an address.
        if (field === 'address' && wrong === undefined) continue;
        if (field === 'antiAffinity' && Array.isArray(wrong) && wrong.length === 0) continue;
        expect(decode({ ...good, [field]: wrong }).ok, `${field}: ${JSON.stringify(wrong)}`).toBe(false);
      }
    }
  });

  test('whatever stands there, a reading is made, and what is wrong is told by its key', () => {
    const text = fc.oneof(
      fc.string(),
      fc.json(),
      fc.constantFrom(...[host, vm, presence, [instance]].map((v) => JSON.stringify(v))),
    );
    const records = fc.dictionary(
      fc.oneof(fc.constantFrom('a', 'b', '..', 'x/y', '__proto__'), fc.string()),
      text,
    );
    const maker = new ReadingMaker();
    fc.assert(
      fc.property(
        fc.record({ hosts: records, presence: records, vms: records, instances: records }),
        (all) => {
          const raw = Object.fromEntries(
            RECORD_KINDS.map((kind) => [
              kind,
              new Map(Object.entries(all[kind]).map(([name, content]) => [name, { text: content, version }])),
            ]),
          ) as unknown as RawRecords;
          const { content, damaged, hosts, vms } = maker.make(raw);
          expect(content.hosts).toHaveLength(hosts.size);
          const bad = (kind: string) => damaged.filter(({ key }) => key.startsWith(`${kind}/`)).length;
          expect(hosts.size + bad('hosts')).toBe(raw.hosts.size);
          expect(vms.size + bad('vms')).toBe(raw.vms.size);
          for (const { reason } of damaged) expect(reason).not.toContain('\n');
          // Remembering changes nothing.
          expect(new ReadingMaker().make(raw)).toEqual(maker.make(raw));
        },
      ),
      { numRuns: 300 },
    );
  });
});
