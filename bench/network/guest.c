/*
 * What a guest of the benchmark `network` runs, once its interface is up: on port 80 bulk transfers, on port 6379 echoes.
 * A client of port 80 sends nine bytes, a letter and a number of 64 bits (little-endian): 'T' asks for so many bytes, 'R'
 * announces so many, and one byte comes back when the last of them is there. On port 6379 whatever comes goes back.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BLOCK (64 * 1024)

static char block[BLOCK];

static int whole(int fd, char *to, size_t length) {
  for (size_t got = 0; got < length;) {
    ssize_t count = read(fd, to + got, length - got);
    if (count <= 0) return 0;
    got += (size_t)count;
  }
  return 1;
}

static int say(int fd, const char *from, size_t length) {
  for (size_t sent = 0; sent < length;) {
    ssize_t count = write(fd, from + sent, length - sent);
    if (count <= 0) return 0;
    sent += (size_t)count;
  }
  return 1;
}

static void bulk(int fd) {
  char order[9];
  while (whole(fd, order, sizeof order)) {
    uint64_t left;
    memcpy(&left, order + 1, sizeof left);
    while (left > 0) {
      size_t size = left < BLOCK ? left : BLOCK;
      ssize_t count = order[0] == 'T' ? write(fd, block, size) : read(fd, block, size);
      if (count <= 0) return;
      left -= (uint64_t)count;
    }
    if (order[0] == 'R' && !say(fd, "k", 1)) return;
  }
}

static void echo(int fd) {
  for (;;) {
    ssize_t count = read(fd, block, BLOCK);
    if (count <= 0 || !say(fd, block, (size_t)count)) return;
  }
}

static void serve(uint16_t port, void (*client)(int)) {
  int one = 1;
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
  int listener = socket(AF_INET, SOCK_STREAM, 0);
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (bind(listener, (struct sockaddr *)&address, sizeof address) != 0 || listen(listener, 16) != 0) {
    perror("LOCKSTEP-NETWORK failed");
    exit(1);
  }
  for (;;) {
    int fd = accept(listener, NULL, NULL);
    if (fd < 0) continue;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (fork() == 0) {
      close(listener);
      client(fd);
      _exit(0);
    }
    close(fd);
  }
}

int main(void) {
  signal(SIGCHLD, SIG_IGN);
  signal(SIGPIPE, SIG_IGN);
  for (size_t at = 0; at < BLOCK; at++) block[at] = (char)at;
  if (fork() == 0) serve(6379, echo);
  serve(80, bulk);
}
