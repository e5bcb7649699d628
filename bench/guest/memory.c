/* Memory: copies of many lengths, and a walk where each address comes from the one before. */
#include <string.h>

#include "work.h"

#define AREA_BYTES (8u << 20)
static unsigned char *source, *target;

static void prepare_copy(void) {
  uint32_t random = 4;
  source = allocate(AREA_BYTES);
  target = allocate(AREA_BYTES);
  for (size_t at = 0; at < AREA_BYTES; at += 4) {
    uint32_t value = next_random(&random);
    memcpy(source + at, &value, 4);
  }
}

static uint32_t copy(void) {
  uint32_t random = 5;
  uint32_t sum = 0;
  for (int round = 0; round < 85; round++) {
    memcpy(target, source, AREA_BYTES);
    memset(source + (size_t)round * 4096, round, 65536);
    memmove(target + 64, target, AREA_BYTES / 4);
    sum = sum * 31 + target[next_random(&random) % AREA_BYTES];
  }
  /* Short ones, at any alignment. */
  for (int i = 0; i < 2100000; i++) {
    uint32_t value = next_random(&random);
    memcpy(target + value % (AREA_BYTES - 512), source + (value >> 9), 16 + value % 400);
  }
  return sum * 31 + checksum(target, 1 << 16);
}

#define NODES (4u << 20)
#define STEPS 3500000
static uint32_t *next_node;

/* One ring through all nodes in random order (Sattolo's shuffle). */
static void prepare_chase(void) {
  uint32_t random = 6;
  next_node = allocate(NODES * sizeof *next_node);
  for (uint32_t i = 0; i < NODES; i++) next_node[i] = i;
  for (uint32_t i = NODES - 1; i > 0; i--) {
    uint32_t other = next_random(&random) % i;
    uint32_t node = next_node[i];
    next_node[i] = next_node[other];
    next_node[other] = node;
  }
}

static uint32_t chase(void) {
  uint32_t node = 0;
  for (uint32_t i = 0; i < STEPS; i++) node = next_node[node];
  return node;
}

const struct workload memory_workloads[] = {
    {"memcpy", prepare_copy, copy},
    {"chase", prepare_chase, chase},
    {NULL, NULL, NULL},
};
