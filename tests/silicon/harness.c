/*
 * Runs single user instructions on the host's processor and reports the state after each.
 *
 * Every case is run inside one chain of signals: the handler stores what the last instruction left, writes the
 * next case's state into the signal frame and returns into it with TF set, so that one instruction runs and
 * traps again. There is no C library and no thread-local storage: FS and GS bases are 0, as in the cases.
 *
 * Input: batches, each { u32 bytes, case... }. A case is a struct head followed by its memory chunks, each
 * { u64 address, u32 length, bytes }. Output: for each batch { u32 bytes, answer... }, where an answer is the
 * same struct and the same chunks as they are afterwards. All numbers little-endian.
 */
#define _GNU_SOURCE
#include <asm/unistd.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <ucontext.h>

#define CODE_ARENA 0x17a53000UL
#define CODE_BYTES 0x1000UL
#define DATA_ARENA 0x20000000UL
#define DATA_BYTES 0x4000UL
#define BATCH_MAX (64UL << 20)
#define ITERATIONS_MAX 100000

enum { TF = 0x100, RF = 0x10000, AC = 0x40000 };
/* Flags of a case. */
enum { MODE32 = 1, REPEATED = 2, NO_TRAP_FLAG = 4 };
enum { NO_EXCEPTION = 0xffffffffu, RAN_AWAY = 0xfffffffeu };

struct head {
  uint32_t flags, vector, error_code, retired;
  uint64_t cr2, rip;
  uint64_t gpr[16];
  uint64_t rflags;
  uint32_t code_length, chunks;
  uint8_t code[16];
  /* FXSAVE image up to the end of XMM15. */
  uint8_t fx[416];
};

static long call(long number, long a, long b, long c, long d, long e, long f) {
  long result;
  register long r10 __asm__("r10") = d;
  register long r8 __asm__("r8") = e;
  register long r9 __asm__("r9") = f;
  __asm__ volatile("syscall"
                   : "=a"(result)
                   : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                   : "rcx", "r11", "memory");
  return result;
}

static void die(const char *message, int length) {
  call(__NR_write, 2, (long)message, length, 0, 0, 0);
  call(__NR_exit_group, 3, 0, 0, 0, 0, 0);
}
#define DIE(text) die(text "\n", sizeof text)

static void copy(void *to, const void *from, size_t length) {
  __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(length) : : "memory");
}

static void clear(void *to, size_t length) {
  __asm__ volatile("rep stosb" : "+D"(to), "+c"(length) : "a"(0) : "memory");
}

/* 0 at the end of the input. */
static int read_all(uint8_t *to, size_t length) {
  for (size_t done = 0; done < length;) {
    long count = call(__NR_read, 0, (long)(to + done), length - done, 0, 0, 0);
    if (count == -4) continue;
    if (count <= 0) return 0;
    done += count;
  }
  return 1;
}

static void write_all(const uint8_t *from, size_t length) {
  for (size_t done = 0; done < length;) {
    long count = call(__NR_write, 1, (long)(from + done), length - done, 0, 0, 0);
    if (count == -4) continue;
    if (count <= 0) DIE("cannot write");
    done += count;
  }
}

/* Encoding order of the general registers in a signal frame. */
static const int order[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                              REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};

static uint8_t *input, *output;
static size_t input_bytes, input_at, output_at;
static struct head *current;
static uint32_t iterations;

static int in_arena(uint64_t address, uint64_t length) {
  return (address >= CODE_ARENA && address + length <= CODE_ARENA + CODE_BYTES) ||
         (address >= DATA_ARENA && address + length <= DATA_ARENA + DATA_BYTES);
}

static uint8_t *take(size_t length) {
  if (length > input_bytes - input_at) DIE("a case is cut off");
  uint8_t *at = input + input_at;
  input_at += length;
  return at;
}

static void next_batch(void) {
  uint32_t length;
  if (output_at > 4) {
    length = output_at - 4;
    copy(output, &length, 4);
    write_all(output, output_at);
  }
  do {
    if (!read_all((uint8_t *)&length, 4)) call(__NR_exit_group, 0, 0, 0, 0, 0, 0);
    if (length > BATCH_MAX) DIE("batch too large");
  } while (length == 0);
  if (!read_all(input, length)) call(__NR_exit_group, 0, 0, 0, 0, 0, 0);
  input_bytes = length;
  input_at = 0;
  output_at = 4;
}

/* Writes the next case into the frame. */
static void begin(ucontext_t *context) {
  if (input_at == input_bytes) next_batch();
  struct head *head = (struct head *)(output + output_at);
  copy(head, take(sizeof *head), sizeof *head);
  output_at += sizeof *head;
  current = head;
  iterations = 0;

  if (head->code_length > 15 || head->rip < CODE_ARENA || head->rip >= CODE_ARENA + CODE_BYTES)
    DIE("code outside of its arena");
  /* The rest of the page is INT3: with NO_TRAP_FLAG it stops behind the instruction. */
  for (uint64_t index = 0; index < 16 && head->rip + index < CODE_ARENA + CODE_BYTES; index++)
    ((uint8_t *)head->rip)[index] = index < head->code_length ? head->code[index] : 0xcc;
  for (uint32_t chunk = 0; chunk < head->chunks; chunk++) {
    uint8_t *from = take(12);
    uint64_t address;
    uint32_t length;
    copy(&address, from, 8);
    copy(&length, from + 8, 4);
    if (length > DATA_BYTES || !in_arena(address, length)) DIE("memory outside of the arenas");
    copy(output + output_at, from, 12);
    output_at += 12;
    uint8_t *bytes = take(length);
    copy((void *)address, bytes, length);
    output_at += length;
    if (output_at > BATCH_MAX) DIE("answers too large");
  }

  greg_t *g = context->uc_mcontext.gregs;
  for (int index = 0; index < 16; index++) g[order[index]] = head->gpr[index];
  g[REG_RIP] = head->rip;
  g[REG_EFL] = (head->rflags & ~(uint64_t)TF) | (head->flags & NO_TRAP_FLAG ? 0 : TF);
  g[REG_CSGSFS] = (head->flags & MODE32 ? 0x23L : 0x33L) | (0x2bL << 48);
  uint8_t *fp = (uint8_t *)context->uc_mcontext.fpregs;
  copy(fp, head->fx, sizeof head->fx);
  /* XSTATE_BV: x87 and SSE come from the frame, not from their initial values. */
  fp[512] |= 3;
}

/* 1 when the instruction goes on (another iteration of a repeated one). */
static int end(ucontext_t *context) {
  struct head *head = current;
  greg_t *g = context->uc_mcontext.gregs;
  uint32_t vector = g[REG_TRAPNO];
  uint64_t rip = g[REG_RIP];
  uint64_t flags = g[REG_EFL];
  int stepped = head->flags & NO_TRAP_FLAG ? vector == 3 : vector == 1;
  if (stepped && head->flags & REPEATED && rip == head->rip && ++iterations < ITERATIONS_MAX) return 1;

  head->retired = iterations + (stepped && iterations == 0);
  if (stepped && head->flags & REPEATED && rip != head->rip) head->retired = iterations + 1;
  head->vector = stepped ? (rip == head->rip && iterations ? RAN_AWAY : NO_EXCEPTION) : vector;
  head->error_code = stepped ? 0 : g[REG_ERR];
  head->cr2 = vector == 14 ? g[REG_CR2] : 0;
  head->rip = stepped && head->flags & NO_TRAP_FLAG ? rip - 1 : rip;
  for (int index = 0; index < 16; index++) head->gpr[index] = g[order[index]];
  head->rflags = flags & ~(uint64_t)(TF | RF);
  copy(head->fx, context->uc_mcontext.fpregs, sizeof head->fx);
  uint8_t *to = (uint8_t *)head + sizeof *head;
  for (uint32_t chunk = 0; chunk < head->chunks; chunk++) {
    uint64_t address;
    uint32_t length;
    copy(&address, to, 8);
    copy(&length, to + 8, 4);
    copy(to + 12, (void *)address, length);
    clear((void *)address, length);
    to += 12 + length;
  }
  /* Stores outside of the chunks must not reach the next case. */
  clear((void *)DATA_ARENA, DATA_BYTES);
  clear((void *)CODE_ARENA, CODE_BYTES);
  return 0;
}

static void handler(int signal, siginfo_t *info, void *raw) {
  (void)signal;
  (void)info;
  /*
   * The kernel leaves AC as the case had it: our own unaligned accesses must not trap. And sigreturn does not
   * restore ID and NT: the next case begins with those that we return with.
   */
  __asm__ volatile("pushfq; andq $~0x244000, (%%rsp); popfq" : : : "cc", "memory");
  if (current && end(raw)) return;
  begin(raw);
}

struct action {
  void (*handler)(int, siginfo_t *, void *);
  unsigned long flags;
  void (*restorer)(void);
  unsigned long mask;
};

__attribute__((visibility("hidden"))) void restorer(void);
__asm__(".globl restorer\nrestorer: mov $15, %eax\nsyscall\n");

static uint8_t *map(uint64_t address, size_t length, int protection) {
  /* MAP_PRIVATE | MAP_ANONYMOUS, and MAP_FIXED where the address matters. */
  long at = call(__NR_mmap, address, length, protection, address ? 0x32 : 0x22, -1, 0);
  if (at < 0 && at > -4096) DIE("cannot map memory");
  return (uint8_t *)at;
}

void start(void) {
  input = map(0, BATCH_MAX, 3);
  output = map(0, BATCH_MAX * 2, 3);
  map(CODE_ARENA, CODE_BYTES, 7);
  map(DATA_ARENA, DATA_BYTES, 3);
  stack_t stack = {.ss_sp = map(0, 1 << 17, 3), .ss_size = 1 << 17};
  call(__NR_sigaltstack, (long)&stack, 0, 0, 0, 0, 0);
  /* SA_SIGINFO | SA_ONSTACK | SA_RESTORER; everything blocked inside. */
  struct action action = {handler, 0x4 | 0x08000000 | 0x04000000, restorer, ~0UL};
  static const int signals[] = {SIGTRAP, SIGSEGV, SIGFPE, SIGILL, SIGBUS};
  for (unsigned index = 0; index < sizeof signals / sizeof *signals; index++)
    if (call(__NR_rt_sigaction, signals[index], (long)&action, 0, 8, 0, 0)) DIE("cannot catch signals");
  /* 32-bit cases need flat data segments, which 64-bit processes do without. */
  __asm__ volatile("mov %0, %%ds; mov %0, %%es" : : "r"(0x2b));
  __asm__ volatile("ud2");
}

__asm__(".globl _start\n_start: and $-16, %rsp\ncall start\n");
