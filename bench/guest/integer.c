/* Integers: a loop of short branches, a hash, sorting, compression. */
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "work.h"

/* Lengths of chains of the 3n+1 problem: a few instructions to each branch, and nobody can foretell them. */
static uint32_t integer_loop(void) {
  uint32_t sum = 2166136261u;
  for (uint32_t start = 1; start <= 1800000; start++) {
    uint32_t steps = 0;
    /* Some chains pass 2^32 and wrap around, everywhere alike. */
    for (uint32_t n = start; n > 1 && steps < 1000; steps++) {
      if (n & 1) {
        n = 3 * n + 1;
        /* A branch it shall be, not a conditional move. */
        __asm__ volatile("" : "+r"(n));
      } else
        n >>= 1;
    }
    sum = (sum ^ steps) * 16777619u;
  }
  return sum;
}

/* SHA-256 [FIPS 180-4 6.2] of the same bytes again and again, each time from the state that the last one left. */
#define HASHED_BYTES (1 << 16)
#define HASH_ROUNDS 1100
static unsigned char hashed[HASHED_BYTES];

static const uint32_t sha_constants[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static uint32_t rotated(uint32_t x, int by) { return x >> by | x << (32 - by); }

static void hash_block(uint32_t state[8], const unsigned char *block) {
  uint32_t w[64];
  for (int i = 0; i < 16; i++)
    w[i] = (uint32_t)block[4 * i] << 24 | block[4 * i + 1] << 16 | block[4 * i + 2] << 8 | block[4 * i + 3];
  for (int i = 16; i < 64; i++) {
    uint32_t s0 = rotated(w[i - 15], 7) ^ rotated(w[i - 15], 18) ^ w[i - 15] >> 3;
    uint32_t s1 = rotated(w[i - 2], 17) ^ rotated(w[i - 2], 19) ^ w[i - 2] >> 10;
    w[i] = w[i - 16] + s0 + w[i - 7] + s1;
  }
  uint32_t a = state[0], b = state[1], c = state[2], d = state[3];
  uint32_t e = state[4], f = state[5], g = state[6], h = state[7];
  for (int i = 0; i < 64; i++) {
    uint32_t s1 = rotated(e, 6) ^ rotated(e, 11) ^ rotated(e, 25);
    uint32_t t1 = h + s1 + ((e & f) ^ (~e & g)) + sha_constants[i] + w[i];
    uint32_t s0 = rotated(a, 2) ^ rotated(a, 13) ^ rotated(a, 22);
    uint32_t t2 = s0 + ((a & b) ^ (a & c) ^ (b & c));
    h = g, g = f, f = e, e = d + t1, d = c, c = b, b = a, a = t1 + t2;
  }
  state[0] += a, state[1] += b, state[2] += c, state[3] += d;
  state[4] += e, state[5] += f, state[6] += g, state[7] += h;
}

static void prepare_hash(void) {
  uint32_t random = 1;
  for (size_t i = 0; i < HASHED_BYTES; i++) hashed[i] = (unsigned char)next_random(&random);
}

static uint32_t hash(void) {
  uint32_t state[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                       0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  for (int round = 0; round < HASH_ROUNDS; round++)
    for (size_t at = 0; at < HASHED_BYTES; at += 64) hash_block(state, hashed + at);
  return state[0];
}

/* The C library's qsort: calls through a pointer, and moves of four bytes. */
#define SORTED 250000
#define SORT_ROUNDS 11
static uint32_t *unsorted, *sorted;

static void prepare_sort(void) {
  uint32_t random = 2;
  unsorted = allocate(SORTED * sizeof *unsorted);
  sorted = allocate(SORTED * sizeof *sorted);
  for (size_t i = 0; i < SORTED; i++) unsorted[i] = next_random(&random);
}

static int order(const void *left, const void *right) {
  uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;
  return a < b ? -1 : a > b;
}

static uint32_t sort(void) {
  uint32_t sum = 0;
  for (int round = 0; round < SORT_ROUNDS; round++) {
    for (size_t i = 0; i < SORTED; i++) sorted[i] = unsorted[i] * (2u * (uint32_t)round + 1);
    qsort(sorted, SORTED, sizeof *sorted, order);
    for (size_t i = 0; i < SORTED; i += 997) sum = sum * 31 + sorted[i];
  }
  return sum;
}

/* What gzip does, by its library: text of few words is packed and unpacked again. */
#define TEXT_BYTES (3 << 20)
#define PACK_ROUNDS 4
static unsigned char *text, *packed, *unpacked;
static uLong packed_room;

static void prepare_gzip(void) {
  uint32_t random = 3;
  text = allocate(TEXT_BYTES);
  unpacked = allocate(TEXT_BYTES);
  packed_room = compressBound(TEXT_BYTES);
  packed = allocate(packed_room);
  for (size_t at = 0; at < TEXT_BYTES;) {
    uint32_t word = next_random(&random) % 2000 * 2654435761u | 1;
    for (size_t letters = 2 + word % 8; letters > 0 && at < TEXT_BYTES; letters--)
      text[at++] = (unsigned char)('a' + next_random(&word) % 26);
    if (at < TEXT_BYTES) text[at++] = next_random(&random) % 12 == 0 ? '\n' : ' ';
  }
}

static uint32_t gzip(void) {
  uLong sum = 0;
  for (int round = 0; round < PACK_ROUNDS; round++) {
    uLong packed_bytes = packed_room, unpacked_bytes = TEXT_BYTES;
    text[round] = '-';
    if (compress2(packed, &packed_bytes, text, TEXT_BYTES, 6) != Z_OK) return 0;
    if (uncompress(unpacked, &unpacked_bytes, packed, packed_bytes) != Z_OK) return 0;
    if (unpacked_bytes != TEXT_BYTES || memcmp(text, unpacked, TEXT_BYTES) != 0) return 0;
    sum = crc32(sum, packed, (uInt)packed_bytes);
  }
  return (uint32_t)sum;
}

const struct workload integer_workloads[] = {
    {"integer", NULL, integer_loop}, {"sha256", prepare_hash, hash}, {"sort", prepare_sort, sort},
    {"gzip", prepare_gzip, gzip},    {NULL, NULL, NULL},
};
