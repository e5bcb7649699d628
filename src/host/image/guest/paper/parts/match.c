/* Regular expressions with . * + ? [..] ^ $, by backtracking. */
#include "paper.h"

static int match_here(const char *pattern, const char *text);

static const char *end_of_atom(const char *pattern) {
  if (*pattern == '\\') return pattern + 2;
  if (*pattern != '[') return pattern + 1;
  pattern++;
  if (*pattern == '^') pattern++;
  do pattern++;
  while (*pattern && *pattern != ']');
  return pattern + 1;
}

static int match_set(const char *set, int letter) {
  int inverted = *set == '^';
  if (inverted) set++;
  int found = 0;
  for (const char *at = set; *at && (*at != ']' || at == set); at++) {
    if (at[1] == '-' && at[2] && at[2] != ']') {
      if (letter >= at[0] && letter <= at[2]) found = 1;
      at += 2;
    } else if (*at == letter) {
      found = 1;
    }
  }
  return found != inverted;
}

static int match_one(const char *atom, int letter) {
  if (!letter) return 0;
  switch (*atom) {
    case '.': return 1;
    case '[': return match_set(atom + 1, letter);
    case '\\':
      switch (atom[1]) {
        case 'd': return isdigit(letter);
        case 'w': return isalnum(letter) || letter == '_';
        case 's': return isspace(letter);
        default: return atom[1] == letter;
      }
    default: return *atom == letter;
  }
}

static int match_repeated(const char *atom, const char *rest, const char *text, int least, int most) {
  int count = 0;
  while (count < most && match_one(atom, text[count])) count++;
  for (; count >= least; count--)
    if (match_here(rest, text + count)) return 1;
  return 0;
}

static int match_here(const char *pattern, const char *text) {
  if (!*pattern) return 1;
  if (pattern[0] == '$' && !pattern[1]) return !*text;
  const char *next = end_of_atom(pattern);
  switch (*next) {
    case '*': return match_repeated(pattern, next + 1, text, 0, 1 << 20);
    case '+': return match_repeated(pattern, next + 1, text, 1, 1 << 20);
    case '?': return match_repeated(pattern, next + 1, text, 0, 1);
    default: return match_one(pattern, *text) && match_here(next, text + 1);
  }
}

int match(const char *pattern, const char *text) {
  if (*pattern == '^') return match_here(pattern + 1, text);
  do
    if (match_here(pattern, text)) return 1;
  while (*text++);
  return 0;
}
