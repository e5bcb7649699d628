/*
 * The workloads of the benchmark `cpu`, as a guest's /init and as a program of the host: main.c [--cpu] [name...].
 * Marks on standard output tell where each one begins and ends; whoever runs this reads clocks of its own there.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/klog.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "work.h"

#define IDLE_SECONDS 20

const char *program_path;

uint32_t next_random(uint32_t *state) {
  uint32_t x = *state;
  x ^= x << 13;
  x ^= x >> 17;
  x ^= x << 5;
  return *state = x;
}

uint32_t checksum(const void *bytes, size_t length) {
  const unsigned char *at = bytes;
  uint32_t sum = 2166136261u;
  for (size_t i = 0; i < length; i++) sum = (sum ^ at[i]) * 16777619u;
  return sum;
}

void *allocate(size_t length) {
  void *memory = malloc(length);
  if (memory == NULL) {
    puts("LOCKSTEP-WORK failed: no memory");
    exit(1);
  }
  memset(memory, 0, length);
  return memory;
}

/* Nobody works while the one outside reads its clocks. */
static void pause_ms(long ms) {
  struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
  nanosleep(&time, NULL);
}

static double cpu_seconds(void) {
  double sum = 0;
  int who[] = {RUSAGE_SELF, RUSAGE_CHILDREN};
  for (int i = 0; i < 2; i++) {
    struct rusage usage;
    getrusage(who[i], &usage);
    sum += usage.ru_utime.tv_sec + usage.ru_stime.tv_sec;
    sum += (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
  }
  return sum;
}

static void run(const struct workload *workload, int tell_cpu) {
  if (workload->prepare != NULL) workload->prepare();
  printf("LOCKSTEP-WORK %s begin\n", workload->name);
  pause_ms(30);
  double before = cpu_seconds();
  uint32_t sum = workload->work();
  double after = cpu_seconds();
  printf("LOCKSTEP-WORK %s end %08x\n", workload->name, (unsigned)sum);
  if (tell_cpu) printf("LOCKSTEP-WORK %s cpu %.6f\n", workload->name, after - before);
  pause_ms(30);
}

static int wanted(const char *name, int count, char **names) {
  for (int i = 0; i < count; i++)
    if (strcmp(names[i], name) == 0) return 1;
  return count == 0;
}

/* What the kernel left for after the boot is not idling. */
static void settle(void) { pause_ms(2000); }

static uint32_t stand_idle(void) {
  pause_ms(IDLE_SECONDS * 1000);
  return 0;
}

int main(int argc, char **argv) {
  program_path = argv[0];
  if (argc > 1 && strcmp(argv[1], "child") == 0) return argc;
  setvbuf(stdout, NULL, _IOLBF, 0);
  /* Messages of the kernel shall not come in between: only emergencies go to the console. */
  if (getpid() == 1) klogctl(8, NULL, 1);
  puts("LOCKSTEP-WORK init end 00000000");
  int first = 1;
  int tell_cpu = argc > 1 && strcmp(argv[1], "--cpu") == 0;
  if (tell_cpu) first++;
  int count = argc - first;
  char **names = argv + first;
  /* Processes first: a fork copies the page tables of all that the others allocate. */
  const struct workload *lists[] = {system_workloads, integer_workloads, memory_workloads, float_workloads};
  for (size_t list = 0; list < sizeof lists / sizeof *lists; list++)
    for (const struct workload *each = lists[list]; each->name != NULL; each++)
      if (wanted(each->name, count, names)) run(each, tell_cpu);
  const struct workload idle = {"idle", settle, stand_idle};
  if (count > 0 && wanted(idle.name, count, names)) run(&idle, tell_cpu);
  puts("LOCKSTEP-WORK all end 00000000");
  pause_ms(100);
  if (getpid() == 1) reboot(RB_POWER_OFF);
  return 0;
}
