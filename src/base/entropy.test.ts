import { describe, expect, it } from 'vitest';
import { ByteReader, ByteWriter } from './bytes.ts';
import { chachaBlock, Entropy } from './entropy.ts';

const seed = (fill: number) => new Uint8Array(32).fill(fill);

describe('entropy', () => {
  it('gives the block of RFC 8439 2.3.2', () => {
    const key = new Uint32Array(Uint8Array.from({ length: 32 }, (_, index) => index).buffer);
    const block = chachaBlock(key, 1, Uint32Array.of(0x09000000, 0x4a000000, 0));
    expect([...block.slice(0, 4)]).toEqual([0xe4e7f110, 0x15593bd1, 0x1fdd0f50, 0xc47120a3]);
    expect(block[15]).toBe(0x4e3c50a2);
  });

  it('depends on nothing but the seeds and where they were mixed in', () => {
    const one = new Entropy(seed(1));
    const other = new Entropy(seed(1));
    expect(one.next(1000)).toEqual(other.next(1000));
    one.reseed(seed(2));
    other.reseed(seed(2));
    expect(one.next(77)).toEqual(other.next(77));
    one.reseed(seed(3));
    expect(one.next(32)).not.toEqual(other.next(32));
  });

  it('gives one stream however it is cut', () => {
    const whole = new Entropy(seed(7)).next(600);
    const cut = new Entropy(seed(7));
    const pieces = [1, 223, 224, 2, 150].flatMap((length) => [...cut.next(length)]);
    expect(pieces).toEqual([...whole]);
  });

  it('uses every part of a long seed', () => {
    const long = new Uint8Array(100);
    const changed = long.slice();
    changed[99] = 1;
    expect(new Entropy(long).next(16)).not.toEqual(new Entropy(changed).next(16));
  });

  it('goes on after load where save was taken', () => {
    const entropy = new Entropy(seed(9));
    entropy.next(45);
    const writer = new ByteWriter();
    entropy.save(writer);
    const copy = new Entropy(seed(0));
    copy.load(new ByteReader(writer.finish()));
    const expected = entropy.next(500);
    expect(copy.next(500)).toEqual(expected);
  });
});
