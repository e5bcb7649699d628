/* A hash table with open addressing that grows. */
#include "paper.h"

typedef struct {
  char *key;
  uint64_t value;
} slot;

struct table {
  slot *slots;
  size_t capacity, used;
};

static uint64_t hash(const char *key) {
  uint64_t value = 14695981039346656037u;
  for (; *key; key++) value = (value ^ (uint8_t)*key) * 1099511628211u;
  return value ^ value >> 29;
}

table *table_new(void) {
  table *made = malloc(sizeof *made);
  made->capacity = 16;
  made->used = 0;
  made->slots = calloc(made->capacity, sizeof *made->slots);
  return made;
}

static slot *find(slot *slots, size_t capacity, const char *key) {
  size_t at = hash(key) & (capacity - 1);
  while (slots[at].key && strcmp(slots[at].key, key)) at = (at + 1) & (capacity - 1);
  return &slots[at];
}

static void grow(table *table) {
  size_t capacity = table->capacity * 2;
  slot *slots = calloc(capacity, sizeof *slots);
  for (size_t at = 0; at < table->capacity; at++)
    if (table->slots[at].key) *find(slots, capacity, table->slots[at].key) = table->slots[at];
  free(table->slots);
  table->slots = slots;
  table->capacity = capacity;
}

uint64_t *table_at(table *table, const char *key) {
  if (table->used * 4 >= table->capacity * 3) grow(table);
  slot *found = find(table->slots, table->capacity, key);
  if (!found->key) {
    found->key = strdup(key);
    table->used++;
  }
  return &found->value;
}

size_t table_size(const table *table) { return table->used; }

void table_each(table *table, void (*each)(const char *, uint64_t, void *), void *with) {
  for (size_t at = 0; at < table->capacity; at++)
    if (table->slots[at].key) each(table->slots[at].key, table->slots[at].value, with);
}
