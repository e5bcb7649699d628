/* A Lempel-Ziv packer with a table of the last places of three letters. */
#include "paper.h"

enum { LEAST = 4, MOST = 255, WINDOW = 65535, BUCKETS = 4096 };

static unsigned bucket(const uint8_t *at) {
  uint32_t letters = at[0] | at[1] << 8 | (uint32_t)at[2] << 16;
  return letters * 2654435761u >> 20;
}

size_t pack(const uint8_t *from, size_t length, uint8_t *to) {
  static size_t last[BUCKETS];
  memset(last, 0xff, sizeof last);
  uint8_t *start = to;
  size_t at = 0;
  while (at < length) {
    size_t best = 0, place = 0;
    if (at + LEAST <= length) {
      size_t *seen = &last[bucket(from + at)];
      if (*seen != (size_t)-1 && at - *seen <= WINDOW) {
        place = *seen;
        while (best < MOST && at + best < length && from[place + best] == from[at + best]) best++;
      }
      *seen = at;
    }
    if (best >= LEAST) {
      size_t back = at - place;
      *to++ = 1, *to++ = best, *to++ = back & 255, *to++ = back >> 8;
      at += best;
    } else {
      *to++ = 0, *to++ = from[at++];
    }
  }
  return to - start;
}

size_t unpack(const uint8_t *from, size_t length, uint8_t *to) {
  uint8_t *start = to;
  for (const uint8_t *end = from + length; from < end;) {
    if (*from == 0) {
      *to++ = from[1];
      from += 2;
      continue;
    }
    size_t back = from[2] | from[3] << 8;
    for (int count = from[1]; count > 0; count--, to++) *to = to[-(long)back];
    from += 4;
  }
  return to - start;
}
