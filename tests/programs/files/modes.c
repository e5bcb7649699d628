/* A 32-bit program that goes to 64-bit code and back, and uses what only legacy modes have. Compiled with -m32. */
#define _GNU_SOURCE
#include <asm/ldt.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* In 64-bit code: uses R8 to R15 and 64-bit arithmetic; the upper halves are gone behind the way back. */
static uint64_t in64(uint64_t x) {
  uint32_t low = (uint32_t)x, high = (uint32_t)(x >> 32);
  __asm__ volatile(
      "ljmp $0x33, $1f\n"
      ".code64\n"
      "1: shl $32, %%rdx; or %%rdx, %%rax\n"
      "mov %%rax, %%r8; imul %%r8, %%r8; lea 7(%%r8,%%rax,2), %%r15\n"
      "mov %%r15, %%rax; mov %%rax, %%rdx; shr $32, %%rdx\n"
      "push $0x23; lea 2f(%%rip), %%rcx; push %%rcx; lretq\n"
      ".code32\n"
      "2:\n"
      : "+a"(low), "+d"(high)
      :
      : "ecx", "memory", "cc");
  return (uint64_t)high << 32 | low;
}

static uint8_t decimal(uint8_t x, uint8_t y) {
  uint8_t sum;
  __asm__("mov %1, %%al; add %2, %%al; daa; mov %%al, %0" : "=q"(sum) : "q"(x), "q"(y) : "al", "cc");
  return sum;
}
static unsigned ascii(uint8_t x, uint8_t y) {
  unsigned result;
  __asm__("xor %%eax, %%eax; mov %1, %%al; add %2, %%al; aaa; mov %%eax, %0"
          : "=r"(result) : "q"(x), "q"(y) : "eax", "cc");
  return result;
}
static unsigned adjusted(unsigned value) {
  unsigned result;
  __asm__("mov %1, %%eax; aam; aad; aam $7; mov %%eax, %0" : "=r"(result) : "r"(value) : "eax", "cc");
  return result;
}

static __thread int own = 5;
static void *thread(void *of) {
  own += *(int *)of;
  return (void *)(intptr_t)own;
}

int main(void) {
  printf("in64 %llx %llx\n", (unsigned long long)in64(3), (unsigned long long)in64(0x123456789abcdefULL));
  printf("daa %x %x aaa %x %x aam %x\n", decimal(0x19, 0x28), decimal(0x99, 0x01), ascii(9, 8), ascii(4, 4), adjusted(97));
  unsigned registers[8];
  __asm__ volatile("mov $1, %%ecx; mov $2, %%edx; pusha; popl 0(%0); popl 4(%0); popl 8(%0); add $4, %%esp; popl 16(%0);"
                   "popl 20(%0); popl 24(%0); popl 28(%0)" ::"a"(registers) : "ecx", "edx", "memory");
  printf("pusha ecx %u edx %u\n", registers[6], registers[5]);
  uint16_t selector = 0x10 | 0, other = 3;
  uint8_t zero;
  __asm__("arpl %2, %0; setz %1" : "+r"(selector), "=q"(zero) : "r"(other) : "cc");
  printf("arpl %x %d\n", selector, zero);
  static const char table[] = "abcdefghijklmnop";
  char letter;
  __asm__("mov $5, %%al; xlatb; mov %%al, %0" : "=q"(letter) : "b"(table) : "al");
  printf("xlat %c\n", letter);
  struct __attribute__((packed)) { uint32_t offset; uint16_t selector; } far = {0x1234, 0x2b};
  unsigned offset, segment;
  __asm__("push %%es; les %2, %0; mov %%es, %1; pop %%es" : "=&r"(offset), "=&r"(segment) : "m"(far));
  printf("les %x %x\n", offset, segment);
  int arguments[3] = {10, 20, 30};
  for (int i = 0; i < 3; i++) {
    pthread_t other;
    void *result;
    pthread_create(&other, NULL, thread, &arguments[i]);
    pthread_join(other, &result);
    printf("thread %d\n", (int)(intptr_t)result);
  }
  printf("limits %u\n", ({ unsigned l = 0; __asm__("lsl %1, %0" : "=r"(l) : "r"(0x23)); l; }));
  volatile uint64_t wide = 0xfedcba9876543210ULL, by = 0x12345678aULL;
  printf("wide %llx %llx\n", (unsigned long long)(wide / by), (unsigned long long)(wide % by * 3));
  /* A data segment of the program's own, with a base and a limit. */
  static int words[4] = {11, 22, 33, 44};
  struct user_desc segmentOf = {.entry_number = 1, .base_addr = (unsigned)(uintptr_t)words, .limit = 15, .seg_32bit = 1, .useable = 1};
  if (syscall(SYS_modify_ldt, 1, &segmentOf, sizeof segmentOf) != 0) puts("no ldt");
  else {
    int third;
    unsigned limit = 0;
    __asm__("push %%fs; mov %2, %%fs; movl %%fs:8, %0; lsl %2, %1; pop %%fs" : "=&r"(third), "=&r"(limit) : "r"(0xf));
    printf("ldt %d limit %u\n", third, limit);
  }
  return 0;
}
