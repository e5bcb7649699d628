/* Whole numbers of any length up to 64 digits of nine decimals. */
#include "paper.h"

enum { BASE = 1000000000 };

void number_set(number *number, uint32_t value) {
  number->count = 1;
  number->digits[0] = value % BASE;
  if (value >= BASE) {
    number->digits[1] = value / BASE;
    number->count = 2;
  }
}

void number_multiply(number *number, uint32_t factor) {
  uint64_t carry = 0;
  for (int at = 0; at < number->count; at++) {
    carry += (uint64_t)number->digits[at] * factor;
    number->digits[at] = carry % BASE;
    carry /= BASE;
  }
  while (carry && number->count < 64) {
    number->digits[number->count++] = carry % BASE;
    carry /= BASE;
  }
}

void number_print(const number *number, char *text) {
  text += sprintf(text, "%u", number->digits[number->count - 1]);
  for (int at = number->count - 2; at >= 0; at--) text += sprintf(text, "%09u", number->digits[at]);
}
