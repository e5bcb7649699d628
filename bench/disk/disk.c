/*
 * One measurement on a disk, by Linux AIO past the page cache [io_submit(2)]: disk TAG seq|rand read|write DEPTH BLOCK MS.
 * Every sector begins with its own number, and whoever reads it looks. disk TAG fill writes them all.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/fs.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define SECTOR 512
#define DEPTH_MAX 64

static uint64_t now_us(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * 1000000ull + time.tv_nsec / 1000;
}

static uint64_t state = 88172645463325252ull;
static uint64_t next_random(void) {
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return state;
}

static void stamp(char *buffer, uint64_t sector, size_t length) {
  for (size_t at = 0; at < length; at += SECTOR, sector++) memcpy(buffer + at, &sector, sizeof sector);
}

static int is_stamped(const char *buffer, uint64_t sector, size_t length) {
  for (size_t at = 0; at < length; at += SECTOR, sector++)
    if (memcmp(buffer + at, &sector, sizeof sector) != 0) return 0;
  return 1;
}

static int fail(const char *tag, const char *what) {
  printf("LOCKSTEP-DISK %s failed %s: %s\n", tag, what, strerror(errno));
  return 1;
}

int main(int count, char **words) {
  if (count < 3) return 2;
  const char *tag = words[1];
  int fd = open("/dev/vda", O_RDWR | O_DIRECT);
  uint64_t size;
  if (fd < 0 || ioctl(fd, BLKGETSIZE64, &size) != 0) return fail(tag, "open");
  int fill = strcmp(words[2], "fill") == 0;
  if (!fill && count < 7) return 2;
  int random = !fill && strcmp(words[2], "rand") == 0;
  int writes = fill || strcmp(words[3], "write") == 0;
  int depth = fill ? 8 : atoi(words[4]);
  size_t block = fill ? 262144 : (size_t)atol(words[5]);
  uint64_t limit_us = fill ? UINT64_MAX : (uint64_t)atol(words[6]) * 1000;
  uint64_t blocks = size / block;

  aio_context_t context = 0;
  if (syscall(SYS_io_setup, DEPTH_MAX, &context) != 0) return fail(tag, "io_setup");
  struct iocb requests[DEPTH_MAX] = {0};
  char *buffers[DEPTH_MAX];
  for (int i = 0; i < depth; i++) {
    if (posix_memalign((void **)&buffers[i], 4096, block) != 0) return fail(tag, "memory");
    for (size_t at = 0; at < block; at += 8) {
      uint64_t value = next_random();
      memcpy(buffers[i] + at, &value, 8);
    }
  }
  uint64_t operations = 0, next = 0, wrong = 0;
  int under_way = 0;
  uint64_t begin = now_us();
  int idle[DEPTH_MAX], idle_count = depth;
  for (int i = 0; i < depth; i++) idle[i] = i;
  int over = 0;
  while (!over || under_way > 0) {
    struct iocb *batch[DEPTH_MAX];
    int ready = 0;
    while (!over && idle_count > 0) {
      if (fill && next == blocks) {
        over = 1;
        break;
      }
      int i = idle[--idle_count];
      uint64_t index = random ? next_random() % blocks : next++ % blocks;
      struct iocb *request = &requests[i];
      memset(request, 0, sizeof *request);
      request->aio_data = i;
      request->aio_lio_opcode = writes ? IOCB_CMD_PWRITE : IOCB_CMD_PREAD;
      request->aio_fildes = fd;
      request->aio_buf = (uintptr_t)buffers[i];
      request->aio_nbytes = block;
      request->aio_offset = index * block;
      if (writes) stamp(buffers[i], index * block / SECTOR, block);
      batch[ready++] = request;
    }
    for (int done = 0; done < ready;) {
      long submitted = syscall(SYS_io_submit, context, ready - done, batch + done);
      if (submitted < 0) return fail(tag, "io_submit");
      done += submitted;
    }
    under_way += ready;
    if (under_way == 0) break;
    struct io_event events[DEPTH_MAX];
    long ended = syscall(SYS_io_getevents, context, 1, DEPTH_MAX, events, NULL);
    if (ended < 0) return fail(tag, "io_getevents");
    for (long i = 0; i < ended; i++) {
      struct iocb *request = &requests[events[i].data];
      if (events[i].res != (long long)block) wrong++;
      else if (!writes && !is_stamped(buffers[events[i].data], request->aio_offset / SECTOR, block)) wrong++;
      idle[idle_count++] = events[i].data;
    }
    under_way -= ended;
    operations += ended;
    if (now_us() - begin >= limit_us) over = 1;
  }
  uint64_t us = now_us() - begin;
  if (writes && fsync(fd) != 0) return fail(tag, "fsync");
  printf("LOCKSTEP-DISK %s operations %llu us %llu wrong %llu end\n", tag, (unsigned long long)operations,
         (unsigned long long)us, (unsigned long long)wrong);
  return 0;
}
