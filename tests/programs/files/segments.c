/* Segments of a program's own (modify_ldt): limits, kinds, 16-bit stacks and code. Compiled with -m32. */
#define _GNU_SOURCE
#include <asm/ldt.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

static sigjmp_buf out;
static int lastSignal;
static long lastTrap, lastError;

static void handler(int number, siginfo_t *info, void *context) {
  const ucontext_t *at = context;
  lastSignal = number;
  lastTrap = at->uc_mcontext.gregs[REG_TRAPNO];
  lastError = at->uc_mcontext.gregs[REG_ERR];
  siglongjmp(out, 1);
}

/* What an access does: its value, or the signal with trap number and error code. */
#define TRY(name, body)                                                                     \
  do {                                                                                      \
    value = 0;                                                                              \
    if (sigsetjmp(out, 1) == 0) {                                                           \
      body;                                                                                 \
      printf("%-26s %x\n", name, value);                                                    \
    } else {                                                                                \
      __asm__ volatile("mov %0, %%fs" ::"r"(0));                                            \
      printf("%-26s signal %d trap %ld error %lx\n", name, lastSignal, lastTrap, lastError); \
    }                                                                                       \
  } while (0)

/* A segment in the LDT; its selector. contents: 0 data, 1 data that grows downward, 2 code. */
static unsigned segment(int entry, void *base, unsigned limit, unsigned contents, unsigned wide, unsigned readOnly,
                        unsigned pages) {
  struct user_desc of = {.entry_number = entry,
                         .base_addr = (unsigned)(uintptr_t)base,
                         .limit = limit,
                         .seg_32bit = wide,
                         .contents = contents,
                         .read_exec_only = readOnly,
                         .limit_in_pages = pages,
                         .useable = 1};
  if (syscall(SYS_modify_ldt, 0x11, &of, sizeof of) != 0) printf("no segment %d\n", entry);
  return entry * 8 + 7;
}

#define FS(selector) __asm__ volatile("mov %0, %%fs" ::"r"(selector))
#define READ(offset) __asm__ volatile("movl %%fs:(%1), %0" : "=r"(value) : "r"(offset))
#define READ8(offset) __asm__ volatile("movzbl %%fs:(%1), %0" : "=r"(value) : "r"(offset))
#define WRITE(offset) __asm__ volatile("movl %0, %%fs:(%1)" ::"r"(7), "r"(offset) : "memory")

static unsigned value;
static unsigned saved;

/* Segments of 16 bits: data, a stack whose pointer is SP, and code on a 32-bit stack. */
static void sixteen(unsigned char *area) {
  const unsigned down16 = segment(3, area, 0xfff, 1, 0, 0, 0);
  TRY("downward 64 KiB, last", FS(down16); READ(0xfffc));
  TRY("downward 64 KiB, beyond", FS(down16); READ(0xfffd));
  /* The upper half of ESP stays and means nothing. */
  const unsigned half = segment(8, area + 0x8000, 0xffff, 0, 0, 0, 0);
  unsigned after = 0;
  TRY("16-bit stack", {
    __asm__ volatile("mov %%ss, %%ecx; mov %%esp, %%edx; mov %2, %%ss; mov $0xabcd0100, %%esp; push $0x12345678; push %%ecx;"
                     "pop %%ecx; mov %%esp, %1; pop %0; mov %%ecx, %%ss; mov %%edx, %%esp"
                     : "=&r"(value), "=&r"(after) : "r"(half) : "ecx", "edx", "memory");
    printf("  esp %x\n", after);
  });
  TRY("16-bit stack wraps", {
    __asm__ volatile("mov %%ss, %%ecx; mov %%esp, %%edx; mov %2, %%ss; mov $0x12340002, %%esp; push %%cx; push %%edx;"
                     "mov %%esp, %1; pop %0; mov %%ecx, %%ss; mov %%edx, %%esp"
                     : "=&r"(value), "=&r"(after) : "r"(half) : "ecx", "edx", "memory");
    value = 0;
    printf("  esp %x\n", after);
  });
  TRY("16-bit stack, call", {
    __asm__ volatile("mov %%ss, %%ecx; mov %%esp, %%edx; mov %2, %%ss; mov $0x77770200, %%esp; call 1f; 1: mov %%esp, %1;"
                     "movzwl %%sp, %%esi; mov %%ss:(%%esi), %0; add $4, %%sp; enter $8, $0; leave; pusha; popa;"
                     "mov %%ecx, %%ss; mov %%edx, %%esp"
                     : "=&a"(value), "=&b"(after) : "r"(half) : "ecx", "edx", "esi", "memory");
    value = 1;
    printf("  esp %x\n", after);
  });

  static const unsigned char adds16[] = {0x83, 0xc0, 0x05, 0x66, 0xcb}; /* add ax, 5; o32 lret */
  memcpy(area + 0x200, adds16, sizeof adds16);
  struct __attribute__((packed)) { unsigned offset; unsigned short selector; } far;
  far.selector = segment(12, area, 0xffff, 2, 0, 0, 0);
  far.offset = 0x200;
  TRY("16-bit code", __asm__ volatile("lcall *%1" : "=a"(value) : "m"(far), "0"(0x1fffc) : "memory"));
  far.offset = 0x201;
  memcpy(area + 0x201, "\x2e\xa1\x00\x03\x66\xcb", 6); /* mov ax, cs:[300h]; o32 lret */
  TRY("16-bit code reads code", __asm__ volatile("lcall *%1" : "=a"(value) : "m"(far), "0"(0) : "memory"));
  far.selector = segment(13, area, 0xffff, 2, 0, 1, 0);
  TRY("execute-only code reads", __asm__ volatile("lcall *%1" : "=a"(value) : "m"(far), "0"(0) : "memory"));
}

/* With an argument: segments of 16 bits, which not every kernel lets a program have. */
int main(int count, char **arguments) {
  setvbuf(stdout, NULL, _IOLBF, 0);
  static char other[65536];
  stack_t stack = {.ss_sp = other, .ss_size = sizeof other};
  sigaltstack(&stack, NULL);
  struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK};
  static const int faults[] = {SIGILL, SIGTRAP, SIGBUS, SIGFPE, SIGSEGV};
  for (int i = 0; i < 5; i++) sigaction(faults[i], &action, NULL);
  unsigned char *area = mmap((void *)0x10000000, 0x20000, PROT_READ | PROT_WRITE | PROT_EXEC,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  for (int i = 0; i < 0x20000; i++) area[i] = i * 7;

  if (count > 1) {
    sixteen(area);
    return 0;
  }
  TRY("null", FS(0); READ(0));
  TRY("null write", WRITE(0));

  const unsigned data = segment(0, area, 99, 0, 1, 0, 0);
  TRY("first", FS(data); READ(0));
  TRY("last dword", FS(data); READ(96));
  TRY("across the limit", FS(data); READ(97));
  TRY("last byte", FS(data); READ8(99));
  TRY("beyond", FS(data); READ8(100));
  TRY("far beyond", FS(data); READ(0x80000000));
  TRY("write last", FS(data); WRITE(96); value = area[96]);
  TRY("write beyond", FS(data); WRITE(97));
  TRY("16 bytes", FS(data); __asm__ volatile("movups %%fs:(%1), %%xmm0; movd %%xmm0, %0" : "=r"(value) : "r"(84)));
  TRY("16 bytes across", FS(data); __asm__ volatile("movups %%fs:(%0), %%xmm0" ::"r"(85)));
  TRY("x87 10 bytes", FS(data); __asm__ volatile("fldt %%fs:(%0); fstp %%st(0)" ::"r"(90)); value = 10);
  TRY("x87 across", FS(data); __asm__ volatile("fldt %%fs:(%0)" ::"r"(91)));
  TRY("exchange across", FS(data); __asm__ volatile("lock xaddl %0, %%fs:(%1)" : "+r"(value) : "r"(98)));
  TRY("lods", FS(data); __asm__ volatile("fs lodsl" : "=a"(value) : "S"(96)));
  TRY("lods across", FS(data); __asm__ volatile("fs lodsl" : "=a"(value) : "S"(98)));
  static char copied[200];
  saved = 0;
  TRY("rep movs", {
    FS(data);
    __asm__ volatile("fs rep movsb; mov %%ecx, %0" : "=m"(saved) : "S"(60), "D"(copied), "c"(60) : "memory");
  });
  printf("  copied %d\n", copied[39] == (char)area[99] && copied[40] == 0);

  const unsigned readOnly = segment(1, area, 99, 0, 1, 1, 0);
  TRY("read-only, read", FS(readOnly); READ(4));
  TRY("read-only, write", FS(readOnly); WRITE(4));
  const unsigned down = segment(2, area, 0xfff, 1, 1, 0, 0);
  TRY("downward, within", FS(down); READ(0x1000));
  TRY("downward, across", FS(down); READ(0xffd));
  TRY("downward, below", FS(down); READ(0x10));
  const unsigned pages = segment(4, area, 0, 0, 1, 0, 1);
  TRY("pages, last", FS(pages); READ(0xffc));
  TRY("pages, beyond", FS(pages); READ(0xffd));
  const unsigned codeOnly = segment(5, area, 0xffff, 2, 1, 1, 0);
  TRY("execute-only as data", FS(codeOnly));
  const unsigned codeRead = segment(6, area, 0xffff, 2, 1, 0, 0);
  TRY("code as data, read", FS(codeRead); READ(8));
  TRY("code as data, write", FS(codeRead); WRITE(8));

  /* A stack with a limit. */
  const unsigned small = segment(7, area + 0x4000, 0xfff, 0, 1, 0, 0);
  TRY("stack within", __asm__ volatile("mov %%ss, %%ecx; mov %%esp, %%edx; mov %1, %%ss; mov $0x1000, %%esp; push $0x55;"
                                       "pop %0; mov %%ecx, %%ss; mov %%edx, %%esp"
                                       : "=r"(value) : "r"(small) : "ecx", "edx", "memory"));
  TRY("stack beyond", __asm__ volatile("mov %%ss, %%ecx; mov %%esp, %%edx; mov %0, %%ss; mov $0x1002, %%esp; push $0x55;"
                                       "mov %%ecx, %%ss; mov %%edx, %%esp" ::"r"(small) : "ecx", "edx", "memory"));
  TRY("stack below", __asm__ volatile("mov %%ss, %%ecx; mov %%esp, %%edx; mov %0, %%ss; mov $2, %%esp; push $0x55;"
                                      "mov %%ecx, %%ss; mov %%edx, %%esp" ::"r"(small) : "ecx", "edx", "memory"));
  TRY("stack by ebp", __asm__ volatile("mov %%ss, %%ecx; mov %%ebp, %%edx; mov %%esp, %%esi; mov %1, %%ss; mov $0x1000, %%ebp;"
                                       "movl (%%ebp), %0; mov %%ecx, %%ss; mov %%edx, %%ebp; mov %%esi, %%esp"
                                       : "=&r"(value) : "r"(small) : "ecx", "edx", "esi", "memory"));

  /* Code with a limit. */
  static const unsigned char adds[] = {0x83, 0xc0, 0x05, 0xcb};  /* add eax, 5; lret */
  memcpy(area + 0x100, adds, sizeof adds);
  struct __attribute__((packed)) { unsigned offset; unsigned short selector; } far;
  far.selector = segment(9, area, 0x103, 2, 1, 0, 0);
  far.offset = 0x100;
  TRY("code within", __asm__ volatile("lcall *%1" : "=a"(value) : "m"(far), "0"(1) : "memory"));
  far.selector = segment(10, area, 0x102, 2, 1, 0, 0);
  TRY("code ends", __asm__ volatile("lcall *%1" : "=a"(value) : "m"(far), "0"(1) : "memory"));
  far.selector = segment(11, area, 0x101, 2, 1, 0, 0);
  TRY("code across the limit", __asm__ volatile("lcall *%1" : "=a"(value) : "m"(far), "0"(1) : "memory"));
  far.offset = 0x102;
  TRY("code beyond", __asm__ volatile("lcall *%1" : "=a"(value) : "m"(far), "0"(1) : "memory"));
  struct user_desc absent = {.entry_number = 14, .base_addr = 0, .limit = 0xffff, .seg_32bit = 1, .seg_not_present = 1, .useable = 1};
  syscall(SYS_modify_ldt, 0x11, &absent, sizeof absent);
  TRY("not present", FS(14 * 8 + 7));
  return 0;
}
