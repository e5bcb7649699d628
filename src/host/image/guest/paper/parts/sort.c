/* A merge sort of words. */
#include "paper.h"

static void merge(char **from, char **to, size_t left, size_t middle, size_t right) {
  size_t first = left, second = middle;
  for (size_t at = left; at < right; at++) {
    if (first < middle && (second >= right || strcmp(from[first], from[second]) <= 0)) to[at] = from[first++];
    else to[at] = from[second++];
  }
}

void sort_words(char **words, size_t count) {
  char **other = malloc(count * sizeof *other), **from = words, **to = other;
  for (size_t width = 1; width < count; width *= 2) {
    for (size_t left = 0; left < count; left += 2 * width) {
      size_t middle = left + width < count ? left + width : count;
      size_t right = left + 2 * width < count ? left + 2 * width : count;
      merge(from, to, left, middle, right);
    }
    char **swapped = from;
    from = to;
    to = swapped;
  }
  if (from != words) memcpy(words, from, count * sizeof *words);
  free(other);
}
