import type { Random } from '../../sim/random.ts';
import { vmId } from '../../src/ft/identity.ts';
import { LEASE_MS_MAX, parseAnswer, parseArbiter, parseOpen } from '../../src/storage/arbiter-message.ts';
import { EtcdGateway } from '../../src/storage/etcd-gateway.ts';
import { decodeRecord } from '../../src/storage/vm-record-text.ts';
import { mutated } from './mutation.ts';
import { holds, type Target } from './target.ts';

const ANSWERS = [
  '{"nonce":"a/p1","verdict":"won","epoch":3}',
  '{"nonce":"a/p1","verdict":"superseded","epoch":9007199254740991}',
  '{"disk":"vda","vm":"vm","epoch":2,"instance":"a"}',
  '{"disk":"vda","request":{"kind":"claim","vm":"vm","nonce":"n","instance":"a","lowest":1,"highest":2}}',
  '{"disk":"vda","request":{"kind":"commit","vm":"vm","nonce":"n","instance":"a","expected":1,"backup":"b"}}',
  '{"epoch":2,"mode":"pair","primary":"a","backup":"b","nonce":"n"}',
  '[1,null,{"__proto__":{"epoch":1}},"won",1e400,-0,{"constructor":null}]',
].map((text) => Buffer.from(text));

/** JSON from a disk server or a shared directory: an answer with all its fields in their bounds, or none. */
export const arbiterAnswers: Target = {
  name: 'arbiter answers',
  share: 0.1,
  run: (random) => {
    const bytes = mutated(random, random.pick(ANSWERS), random.pick(ANSWERS));
    const answer = parseAnswer(bytes);
    holds(
      answer === undefined ||
        (isName(answer.nonce) &&
          (answer.verdict === 'won' || answer.verdict === 'superseded') &&
          isEpoch(answer.epoch)),
      'a wrong answer was taken',
      bytes,
    );
    const open = parseOpen(bytes);
    holds(open === undefined || (isName(open.vm) && isEpoch(open.epoch)), 'a wrong opening was taken', bytes);
    const asked = parseArbiter(bytes);
    holds(
      asked === undefined ||
        (isName(asked.request.nonce) && asked.leaseMs > 0 && asked.leaseMs <= LEASE_MS_MAX),
      'a wrong request was taken',
      bytes,
    );
    const record = decodeRecord(bytes.toString('utf8'));
    holds(
      record === undefined ||
        (isEpoch(record.epoch) && (record.mode === 'off' || typeof record.primary === 'string')),
      'a wrong record was taken',
      bytes,
    );
    return answer !== undefined || record !== undefined;
  },
};

const ETCD_ANSWERS = [
  '{"header":{"revision":"7"},"succeeded":true,"responses":[{"response_range":{"kvs":[{"key":"YQ==","value":"e30=","mod_revision":"5","create_revision":"1","version":"2"}],"count":"1"}},{"response_range":{}}]}',
  '{"header":{},"ID":"7587862042012345678","TTL":"10"}',
  '{"error":"etcdserver: request timed out","code":14}',
].map((text) => Buffer.from(text));
const gateway = new EtcdGateway(['http://fuzz.invalid:2379']);

/** What etcd's gateway answers: values with a revision, or one line that says what is wrong. */
export const etcdAnswers: Target = {
  name: 'etcd answers',
  share: 0.01,
  run: async (random) => {
    const bytes = mutated(random, random.pick(ETCD_ANSWERS), random.pick(ETCD_ANSWERS));
    const real = globalThis.fetch;
    globalThis.fetch = () => Promise.resolve(new Response(bytes, { status: random.chance(0.9) ? 200 : 503 }));
    try {
      return await asked(random);
    } catch (error) {
      // A refusal is a plain Error with a line; anything else is a slip of ours.
      const refusal = error instanceof Error && error.name === 'Error' && error.message !== '';
      holds(refusal, `etcd's answer threw ${error}`, bytes);
      return false;
    } finally {
      globalThis.fetch = real;
    }
  },
};

async function asked(random: Random): Promise<boolean> {
  const { signal } = new AbortController();
  switch (random.below(3)) {
    case 0: {
      const found = await gateway.read([`vm/${vmId('vm')}`, 'lease'], signal);
      for (const value of found)
        holds(
          value === undefined || (typeof value.text === 'string' && value.revision >= 0n),
          'a wrong value',
        );
      return true;
    }
    case 1:
      return gateway.writeIf([{ key: 'a', revision: 1n }], [{ key: 'a', text: 'b' }], signal);
    default:
      return /^\d+$/.test(await gateway.grantLease(10, signal));
  }
}

function isName(value: unknown): boolean {
  return typeof value === 'string' && value.length > 0 && value.length <= 256;
}

function isEpoch(value: unknown): boolean {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
}
