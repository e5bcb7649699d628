/* One workload of the benchmark `cpu`: what it needs first, and the work, which returns a checksum. */
#include <stddef.h>
#include <stdint.h>

struct workload {
  const char *name;
  void (*prepare)(void);
  uint32_t (*work)(void);
};

/* NULL-terminated lists, one per file. */
extern const struct workload integer_workloads[], memory_workloads[], float_workloads[], system_workloads[];

/* The path of this program, for those that execute it again. */
extern const char *program_path;

/* The same sequence everywhere (xorshift, 32 bits). */
uint32_t next_random(uint32_t *state);
/* Checksum of bytes (FNV-1a, 32 bits). */
uint32_t checksum(const void *bytes, size_t length);
void *allocate(size_t length);
