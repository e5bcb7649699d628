/* The kernel's work: system calls, processes. */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "work.h"

#define CALLS 1200000
#define PROCESSES 600

/* Calls that do next to nothing, and now and then some bytes through a pipe or a file's data. */
static uint32_t system_calls(void) {
  int ends[2], null = open("/dev/null", O_WRONLY);
  char bytes[256] = {0};
  uint32_t sum = 0;
  if (null < 0 || pipe(ends) != 0) return 0;
  pid_t parent = getppid();
  for (uint32_t i = 0; i < CALLS; i++) {
    sum += syscall(SYS_getppid) == parent;
    if (i % 8 == 0) sum += (uint32_t)write(null, bytes, sizeof bytes);
    if (i % 16 == 0) {
      bytes[i % sizeof bytes] = (char)i;
      sum += (uint32_t)write(ends[1], bytes, sizeof bytes);
      sum += (uint32_t)read(ends[0], bytes, sizeof bytes);
    }
    if (i % 32 == 0) {
      struct stat status;
      sum += fstat(null, &status) == 0 && S_ISCHR(status.st_mode);
    }
  }
  close(null), close(ends[0]), close(ends[1]);
  return sum ^ checksum(bytes, sizeof bytes);
}

static uint32_t fork_and_exec(void) {
  uint32_t sum = 0;
  for (int i = 0; i < PROCESSES; i++) {
    int status = -1;
    pid_t child = fork();
    if (child == 0) {
      execl(program_path, program_path, "child", (char *)NULL);
      _exit(1);
    }
    if (child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status))
      sum = sum * 31 + (uint32_t)WEXITSTATUS(status);
  }
  return sum;
}

const struct workload system_workloads[] = {
    {"syscall", NULL, system_calls},
    {"forkexec", NULL, fork_and_exec},
    {NULL, NULL, NULL},
};
