/* Doubles by SSE2: scalar with roots and divisions, and in pairs. */
#include <math.h>
#include <string.h>

#include "work.h"

static uint32_t bits(double value) {
  uint64_t all;
  memcpy(&all, &value, sizeof all);
  return (uint32_t)all ^ (uint32_t)(all >> 32);
}

#define BODIES 5
#define NBODY_STEPS 900000

struct body {
  double x, y, z, vx, vy, vz, mass;
};

static uint32_t n_body(void) {
  struct body bodies[BODIES];
  uint32_t random = 7;
  for (int i = 0; i < BODIES; i++) {
    double *fields = &bodies[i].x;
    for (int k = 0; k < 6; k++) fields[k] = ((double)(next_random(&random) >> 8) / (1 << 24) - 0.5) * (k < 3 ? 60 : 2);
    bodies[i].mass = i == 0 ? 40 : 0.01 * (i + 1);
  }
  for (int step = 0; step < NBODY_STEPS; step++) {
    for (int i = 0; i < BODIES; i++) {
      struct body *a = &bodies[i];
      for (int k = i + 1; k < BODIES; k++) {
        struct body *b = &bodies[k];
        double dx = a->x - b->x, dy = a->y - b->y, dz = a->z - b->z;
        double square = dx * dx + dy * dy + dz * dz + 0.01;
        double strength = 0.001 / (square * sqrt(square));
        a->vx -= dx * b->mass * strength, a->vy -= dy * b->mass * strength, a->vz -= dz * b->mass * strength;
        b->vx += dx * a->mass * strength, b->vy += dy * a->mass * strength, b->vz += dz * a->mass * strength;
      }
    }
    for (int i = 0; i < BODIES; i++) {
      struct body *a = &bodies[i];
      a->x += 0.001 * a->vx, a->y += 0.001 * a->vy, a->z += 0.001 * a->vz;
    }
  }
  double sum = 0;
  for (int i = 0; i < BODIES; i++) sum += bodies[i].x + bodies[i].y + bodies[i].z;
  return bits(sum);
}

#define SIDE 256
#define PRODUCTS 8
static double (*left)[SIDE], (*right)[SIDE], (*product)[SIDE];

static void prepare_matrices(void) {
  uint32_t random = 8;
  left = allocate(sizeof(double[SIDE][SIDE]));
  right = allocate(sizeof(double[SIDE][SIDE]));
  product = allocate(sizeof(double[SIDE][SIDE]));
  for (int i = 0; i < SIDE; i++)
    for (int k = 0; k < SIDE; k++) {
      left[i][k] = (double)next_random(&random) / 4294967296.0 - 0.5;
      right[i][k] = (double)next_random(&random) / 4294967296.0 - 0.5;
    }
}

static uint32_t multiply(void) {
  for (int times = 0; times < PRODUCTS; times++)
    for (int i = 0; i < SIDE; i++) {
      for (int j = 0; j < SIDE; j++) product[i][j] *= 0.5;
      for (int k = 0; k < SIDE; k++) {
        double factor = left[i][k];
        for (int j = 0; j < SIDE; j++) product[i][j] += factor * right[k][j];
      }
    }
  double sum = 0;
  for (int i = 0; i < SIDE; i++)
    for (int j = 0; j < SIDE; j++) sum += product[i][j] * (i - j);
  return bits(sum);
}

const struct workload float_workloads[] = {
    {"nbody", NULL, n_body},
    {"matmul", prepare_matrices, multiply},
    {NULL, NULL, NULL},
};
