/* Uses every part, and prints one number that says whether the compiler made them right. */
#include "paper.h"

enum { WORDS = 4000 };

static void add(const char *key, uint64_t value, void *with) {
  uint64_t *sum = with;
  *sum += value * (strlen(key) + 1);
}

int main(void) {
  static char storage[WORDS][24];
  char *words[WORDS];
  uint32_t state = 12345;
  table *table = table_new();
  int matched = 0;
  for (int at = 0; at < WORDS; at++) {
    state = state * 1664525 + 1013904223;
    snprintf(storage[at], sizeof storage[at], "word-%u-%c", state >> 20, 'a' + (state >> 8) % 26);
    words[at] = storage[at];
    *table_at(table, words[at]) += at;
    matched += match("^word-\\d+[02468]-[a-m]$", words[at]);
  }
  sort_words(words, WORDS);
  uint64_t sum = table_size(table);
  table_each(table, add, &sum);
  number factorial;
  number_set(&factorial, 1);
  for (uint32_t factor = 2; factor <= 100; factor++) number_multiply(&factorial, factor);
  char text[600];
  number_print(&factorial, text);
  static uint8_t packed[2 * sizeof storage], again[sizeof storage];
  size_t length = pack((uint8_t *)storage, sizeof storage, packed);
  if (unpack(packed, length, again) != sizeof storage || memcmp(again, storage, sizeof storage)) return 1;
  for (const char *at = text; *at; at++) sum = sum * 31 + (uint8_t)*at;
  for (int at = 0; at < WORDS; at++) sum = sum * 31 + (uint8_t)words[at][5];
  printf("%d %zu %llu\n", matched, length, (unsigned long long)sum);
  return 0;
}
