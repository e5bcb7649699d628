/**
 * Elementary functions in fixed point: a bigint x stands for x / 2^FRACTION. Results are good to about
 * 2^-(FRACTION - 10), far beyond the 64 bits that are kept of them; `Math` would differ between hosts.
 */
export const FRACTION = 320n;
export const ONE = 1n << FRACTION;

export function multiplyFixed(x: bigint, y: bigint): bigint {
  return (x * y) >> FRACTION;
}

/** arctan(1 / n), for Machin's formula. */
function arctanOfInverse(n: bigint, one: bigint): bigint {
  let power = one / n;
  let sum = power;
  for (let k = 3n; power !== 0n; k += 2n) {
    power = -power / (n * n);
    sum += power / k;
  }
  return sum;
}

/** artanh(1 / n). */
function artanhOfInverse(n: bigint, one: bigint): bigint {
  let power = one / n;
  let sum = power;
  for (let k = 3n; power !== 0n; k += 2n) {
    power /= n * n;
    sum += power / k;
  }
  return sum;
}

const GUARD = 32n;
const FINE = ONE << GUARD;
/** pi = 16 arctan(1/5) - 4 arctan(1/239). */
export const PI = (16n * arctanOfInverse(5n, FINE) - 4n * arctanOfInverse(239n, FINE)) >> GUARD;
/** ln 2 = 2 artanh(1/3). */
export const LN2 = (2n * artanhOfInverse(3n, FINE)) >> GUARD;

/** Taylor series of sine and cosine, for |x| up to about 1. */
export function sineFixed(x: bigint): bigint {
  const square = multiplyFixed(x, x);
  let term = x;
  let sum = x;
  for (let k = 2n; term !== 0n && term !== -1n; k += 2n) {
    term = -multiplyFixed(term, square) / (k * (k + 1n));
    sum += term;
  }
  return sum;
}
export function cosineFixed(x: bigint): bigint {
  const square = multiplyFixed(x, x);
  let term = ONE;
  let sum = ONE;
  for (let k = 1n; term !== 0n && term !== -1n; k += 2n) {
    term = -multiplyFixed(term, square) / (k * (k + 1n));
    sum += term;
  }
  return sum;
}

/** e^x - 1 for |x| below 1. */
export function exponentialMinusOneFixed(x: bigint): bigint {
  let term = x;
  let sum = x;
  for (let k = 2n; term !== 0n && term !== -1n; k++) {
    term = multiplyFixed(term, x) / k;
    sum += term;
  }
  return sum;
}

/** artanh x for |x| below about 0.2: half the logarithm of (1 + x) / (1 - x). */
export function artanhFixed(x: bigint): bigint {
  const square = multiplyFixed(x, x);
  let power = x;
  let sum = x;
  for (let k = 3n; power !== 0n && power !== -1n; k += 2n) {
    power = multiplyFixed(power, square);
    sum += power / k;
  }
  return sum;
}

/** arctan x for x in [0, 1]. Halving the angle three times makes the series short. */
export function arctanFixed(x: bigint, root: (x: bigint) => bigint): bigint {
  for (let halving = 0; halving < 3; halving++) {
    const hypotenuse = root((ONE + multiplyFixed(x, x)) << FRACTION);
    x = (x << FRACTION) / (ONE + hypotenuse);
  }
  const square = multiplyFixed(x, x);
  let power = x;
  let sum = x;
  for (let k = 3n; power !== 0n && power !== -1n; k += 2n) {
    power = -multiplyFixed(power, square);
    sum += power / k;
  }
  return sum << 3n;
}
