/*
 * Runs single instructions on the processor it is on, for comparing with Lockstep's floating point.
 *
 * Standard input: records of 1072 bytes; standard output: the same records after one instruction each.
 *   0    code, 15 bytes at most; byte 15 is the length
 *   16   rax   24 rflags   32 signal number (out)   40 rdx (in: ignored)
 *   48   512 bytes of memory; rdi points at it
 *   560  FXSAVE image, before and after
 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

struct record {
  uint8_t code[16];
  uint64_t rax, rflags, signal, spare;
  uint8_t memory[512];
  uint8_t image[512];
} __attribute__((aligned(16)));

static struct record current;
static uint8_t clean[512] __attribute__((aligned(16)));
static sigjmp_buf back;

static void on_signal(int number, siginfo_t *info, void *context) {
  (void)info;
  ucontext_t *u = context;
  current.signal = number;
  current.rax = u->uc_mcontext.gregs[REG_RAX];
  current.rflags = u->uc_mcontext.gregs[REG_EFL];
  memcpy(current.image, u->uc_mcontext.fpregs, 512);
  siglongjmp(back, 1);
}

int main(void) {
  uint8_t *page = mmap(0, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  static char stack[1 << 16];
  stack_t alternative = {.ss_sp = stack, .ss_size = sizeof stack};
  sigaltstack(&alternative, 0);
  struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
  int signals[] = {SIGFPE, SIGILL, SIGSEGV, SIGBUS};
  for (int i = 0; i < 4; i++) sigaction(signals[i], &action, 0);
  asm volatile("fxsave64 %0" : "=m"(clean));
  while (fread(&current, sizeof current, 1, stdin) == 1) {
    memcpy(page, current.code, current.code[15]);
    page[current.code[15]] = 0xc3;
    current.signal = 0;
    if (sigsetjmp(back, 1) == 0) {
      asm volatile(
          "pushq 24(%%rbx)\n"
          "mov 16(%%rbx), %%rax\n"
          "fxrstor64 560(%%rbx)\n"
          "popfq\n"
          "call *%%rcx\n"
          "pushfq\n"
          "fxsave64 560(%%rbx)\n"
          "mov %%rax, 16(%%rbx)\n"
          "popq 24(%%rbx)\n"
          :
          : "b"(&current), "c"(page), "D"(current.memory)
          : "rax", "rdx", "rsi", "r8", "r9", "r10", "r11", "memory", "cc");
    }
    asm volatile("fxrstor64 %0" : : "m"(clean));
    fwrite(&current, sizeof current, 1, stdout);
  }
  return 0;
}
