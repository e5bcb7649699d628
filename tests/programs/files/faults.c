/* Each fault a user program can cause, with the signal, its code and the address the kernel tells; then a trace. */
#define _GNU_SOURCE
#include <fenv.h>
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#ifdef __x86_64__
#define TRAP_NUMBER REG_TRAPNO
#define ERROR_CODE REG_ERR
#define INSTRUCTION REG_RIP
#else
#define TRAP_NUMBER REG_TRAPNO
#define ERROR_CODE REG_ERR
#define INSTRUCTION REG_EIP
#endif

static sigjmp_buf back;
static volatile int lastSignal, lastCode;
static volatile long lastTrap, lastError;
static void *volatile lastAddress;
static void *volatile lastInstruction;

/* The kernel leaves AC set for the handler; the C library is not written for that. */
static inline void clearAlignmentCheck(void) {
#ifdef __x86_64__
  __asm__ volatile("pushfq; andq $~0x40000, (%%rsp); popfq" ::: "memory", "cc");
#else
  __asm__ volatile("pushf; andl $~0x40000, (%%esp); popf" ::: "memory", "cc");
#endif
}

static void handler(int number, siginfo_t *info, void *context) {
  clearAlignmentCheck();
  ucontext_t *machine = context;
  lastSignal = number;
  lastCode = info->si_code;
  lastAddress = info->si_addr;
  lastTrap = machine->uc_mcontext.gregs[TRAP_NUMBER];
  lastError = machine->uc_mcontext.gregs[ERROR_CODE];
  lastInstruction = (void *)machine->uc_mcontext.gregs[INSTRUCTION];
  siglongjmp(back, 1);
}

static char *page;
#define TRY(name, body)                                                                              \
  do {                                                                                               \
    if (sigsetjmp(back, 1) == 0) {                                                                   \
      body;                                                                                          \
      printf("%-14s nothing\n", name);                                                               \
    } else {                                                                                         \
      long at = (char *)lastAddress - page;                                                          \
      int inPage = at >= 0 && at < 8192;                                                             \
      printf("%-14s signal %d code %d trap %ld error %lx %s %lx\n", name, lastSignal, lastCode,      \
             lastTrap, lastError,                                                                    \
             inPage ? "page+" : lastAddress == lastInstruction && lastAddress ? "here" : "address",  \
             inPage ? at : lastAddress == lastInstruction ? 0L : (long)lastAddress);                 \
    }                                                                                                \
    fedisableexcept(FE_ALL_EXCEPT);                                                                  \
    feclearexcept(FE_ALL_EXCEPT);                                                                    \
  } while (0)

static volatile double zero = 0.0, one = 1.0, huge = 1e308;
static volatile double sink;
static volatile int izero = 0, imin = -2147483647 - 1, iminus = -1, isink;

static void flow(void) {
  __asm__ volatile("nop; nop; mov $3, %%ecx; 1: dec %%ecx; jnz 1b; nop" ::: "ecx");
}

static volatile long watched;

static void traced(void) {
  pid_t child = fork();
  if (child == 0) {
    ptrace(PTRACE_TRACEME, 0, 0, 0);
    raise(SIGSTOP);
    flow();
    watched = 1;
    watched = 2;
    __asm__ volatile("int3");
    _exit(7);
  }
  int status = 0, steps = 0, inFlow = 0;
  waitpid(child, &status, 0);
  /* single steps until the program is through flow() */
  const unsigned long from = (unsigned long)&flow;
  for (;;) {
    struct user_regs_struct registers;
    if (ptrace(PTRACE_SINGLESTEP, child, 0, 0) != 0) break;
    waitpid(child, &status, 0);
    if (!WIFSTOPPED(status) || WSTOPSIG(status) != SIGTRAP) break;
    ptrace(PTRACE_GETREGS, child, 0, &registers);
#ifdef __x86_64__
    unsigned long at = registers.rip;
#else
    unsigned long at = registers.eip;
#endif
    if (at >= from && at < from + 0x20) inFlow++;
    else if (inFlow) break;
    if (++steps > 20000) break;
  }
  printf("steps in flow %s\n", inFlow >= 11 && inFlow < 20 ? "as written" : "wrong");
  /* a watchpoint on writes of `watched` */
  const int at0 = offsetof(struct user, u_debugreg[0]), at7 = offsetof(struct user, u_debugreg[7]);
  ptrace(PTRACE_POKEUSER, child, at0, &watched);
  const unsigned long length = sizeof watched == 8 ? 2 : 3;
  long set = ptrace(PTRACE_POKEUSER, child, at7, 1UL | (1UL | length << 2) << 16);
  printf("watchpoint set %ld\n", set);
  for (int i = 0; i < 4; i++) {
    ptrace(PTRACE_CONT, child, 0, 0);
    waitpid(child, &status, 0);
    if (!WIFSTOPPED(status)) break;
    siginfo_t info;
    ptrace(PTRACE_GETSIGINFO, child, 0, &info);
    errno = 0;
    long value = ptrace(PTRACE_PEEKDATA, child, &watched, 0);
    printf("stopped by signal %d code %d, watched is %ld\n", WSTOPSIG(status), info.si_code, value);
  }
  printf("child ended with %d\n", WIFEXITED(status) ? WEXITSTATUS(status) : -1);
}

static volatile int calls;
extern char counted[], inner[];
__asm__(".text; counted: nop; inner: nop; ret");

/* A breakpoint on an instruction, as gdb's hbreak sets it: met before each time, and then the program goes on. */
static void breakpointed(void) {
  pid_t child = fork();
  if (child == 0) {
    ptrace(PTRACE_TRACEME, 0, 0, 0);
    raise(SIGSTOP);
    for (int i = 0; i < 3; i++) {
      ((void (*)(void))counted)();
      calls++;
    }
    _exit(9);
  }
  int status = 0;
  waitpid(child, &status, 0);
  ptrace(PTRACE_POKEUSER, child, offsetof(struct user, u_debugreg[0]), inner);
  printf("breakpoint set %ld\n", ptrace(PTRACE_POKEUSER, child, offsetof(struct user, u_debugreg[7]), 1));
  for (int i = 0; i < 5; i++) {
    ptrace(PTRACE_CONT, child, 0, 0);
    waitpid(child, &status, 0);
    if (!WIFSTOPPED(status)) break;
    struct user_regs_struct registers;
    siginfo_t info;
    ptrace(PTRACE_GETREGS, child, 0, &registers);
    ptrace(PTRACE_GETSIGINFO, child, 0, &info);
#ifdef __x86_64__
    const unsigned long at = registers.rip;
#else
    const unsigned long at = registers.eip;
#endif
    const int many = (int)ptrace(PTRACE_PEEKDATA, child, &calls, 0);
    printf("stopped by signal %d code %d, %ld from it, calls %d\n", WSTOPSIG(status), info.si_code, (long)(at - (unsigned long)inner), many);
  }
  printf("child ended with %d\n", WIFEXITED(status) ? WEXITSTATUS(status) : -1);
}

int main(void) {
  setvbuf(stdout, NULL, _IOLBF, 0);
  struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK};
  static char other[65536];
  stack_t stack = {.ss_sp = other, .ss_size = sizeof other};
  sigaltstack(&stack, NULL);
  static const int faults[] = {SIGILL, SIGTRAP, SIGBUS, SIGFPE, SIGSEGV};
  for (int i = 0; i < 5; i++) sigaction(faults[i], &action, NULL);
  page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  mprotect(page + 4096, 4096, PROT_READ);
  memset(page, 0x90, 4096);

  TRY("divide", isink = imin / izero);
  TRY("overflow", isink = imin / iminus);
  TRY("read null", isink = *(volatile int *)8);
  TRY("write r/o", page[4096 + 5] = 1);
  TRY("split write", *(volatile int *)(page + 4094) = 1);
  TRY("execute", ((void (*)(void))(page + 16))());
  TRY("ud2", __asm__ volatile("ud2"));
  TRY("hlt", __asm__ volatile("hlt"));
  TRY("cli", __asm__ volatile("cli"));
  TRY("in", __asm__ volatile("in $0x60, %%al" ::: "eax"));
  TRY("mov cr0", __asm__ volatile(".byte 0x0f, 0x20, 0xc0" ::: "eax"));
  TRY("lgdt", __asm__ volatile("lgdt (%0)" ::"r"(page)));
  TRY("rdmsr", __asm__ volatile("rdmsr" ::: "eax", "edx"));
  TRY("int3", __asm__ volatile("int3"));
  TRY("int 5", __asm__ volatile("int $5"));
  TRY("int 0x80", isink = 0; __asm__ volatile("int $0x80" : "=a"(isink) : "0"(20) : "memory"); if (isink != getpid()) puts("wrong pid"));
  TRY("load ss 0", __asm__ volatile("mov %0, %%ss" ::"r"(0)));
  TRY("load ds bad", __asm__ volatile("mov %0, %%ds" ::"r"(0x7fff)));
  TRY("alignment", {
#ifdef __x86_64__
    __asm__ volatile("sub $256, %%rsp; pushf; orl $0x40000, (%%rsp); popf; movl 1(%0), %%eax; pushf; andl $~0x40000, (%%rsp); popf; add $256, %%rsp" ::"r"(page) : "eax", "memory");
#else
    __asm__ volatile("pushf; orl $0x40000, (%%esp); popf; movl 1(%0), %%eax; pushf; andl $~0x40000, (%%esp); popf" ::"r"(page) : "eax", "memory");
#endif
  });
  TRY("movaps", __asm__ volatile("movaps 4(%0), %%xmm0" ::"r"(page)));
  TRY("trap flag", {
#ifdef __x86_64__
    __asm__ volatile("sub $256, %%rsp; pushf; orl $0x100, (%%rsp); popf; nop; nop" ::: "memory");
#else
    __asm__ volatile("pushf; orl $0x100, (%%esp); popf; nop; nop" ::: "memory");
#endif
  });
#ifdef __i386__
  TRY("into", __asm__ volatile("mov $0x7fffffff, %%eax; inc %%eax; into" ::: "eax"));
  static int limits[2];
  limits[0] = 1;
  limits[1] = 5;
  TRY("bound", { __asm__ volatile("bound %0, %1" ::"r"(9), "m"(limits)); });
  TRY("bound ok", { __asm__ volatile("bound %0, %1" ::"r"(5), "m"(limits)); });
  TRY("gs limit", __asm__ volatile("mov %%cs:(%0), %%eax" ::"r"(8) : "eax"));
#else
  TRY("noncanonical", isink = *(volatile int *)0x800000000000);
  TRY("stack", __asm__ volatile("mov %%rsp, %%rcx; mov %0, %%rsp; push %%rax; mov %%rcx, %%rsp" ::"r"(0x900000000000) : "rcx"));
  TRY("jump far off", __asm__ volatile("jmp *%0" ::"r"(0x800000000000)));
#endif
  TRY("sse divide", feenableexcept(FE_DIVBYZERO); sink = one / zero; __asm__ volatile("fwait"));
  TRY("sse invalid", feenableexcept(FE_INVALID); sink = zero / zero; __asm__ volatile("fwait"));
  TRY("sse overflow", feenableexcept(FE_OVERFLOW); sink = huge * huge; __asm__ volatile("fwait"));
  TRY("x87 divide", feenableexcept(FE_DIVBYZERO); __asm__ volatile("fldz; fld1; fdivp; fwait"));
  TRY("x87 stack", feenableexcept(FE_INVALID); __asm__ volatile("fninit; fnstcw (%0); andw $0xfffe, (%0); fldcw (%0); faddp; fwait" ::"r"(page)));
  __asm__ volatile("fninit");
  TRY("x87 inexact", feenableexcept(FE_INEXACT); __asm__ volatile("fldpi; fld1; fdivp; fwait"));
  __asm__ volatile("fninit");

  for (int i = 0; i < 5; i++) signal(faults[i], SIG_DFL);
  traced();
  breakpointed();
  return 0;
}
