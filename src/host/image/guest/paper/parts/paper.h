/* What the parts of the program that `npm run bench -- paper` compiles know of each other. */
#include <ctype.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct table table;
table *table_new(void);
uint64_t *table_at(table *table, const char *key);
size_t table_size(const table *table);
void table_each(table *table, void (*each)(const char *key, uint64_t value, void *with), void *with);

int match(const char *pattern, const char *text);

typedef struct {
  uint32_t digits[64];
  int count;
} number;
void number_set(number *number, uint32_t value);
void number_multiply(number *number, uint32_t factor);
void number_print(const number *number, char *text);

size_t pack(const uint8_t *from, size_t length, uint8_t *to);
size_t unpack(const uint8_t *from, size_t length, uint8_t *to);

void sort_words(char **words, size_t count);
