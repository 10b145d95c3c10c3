// How long a sleeping core takes to wake up: two threads, each on a core of its own, take turns; the one whose turn it is waits a
// little first, so that the other's core has gone to sleep. Prints the median of one way, and the same with both on one core.
//
//   wake [ROUNDS]      {"wake_us": 41.2, "switch_us": 3.1}
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

enum { idle_us = 150, rounds_max = 100000 };
static int turns[2], rounds;
static int64_t sent_at, took[rounds_max];

static int64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void stay_on(int core) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(core, &set);
    if (sched_setaffinity(0, sizeof set, &set)) perror("wake: sched_setaffinity"), exit(1);
}

static void give(int fd) {
    uint64_t one = 1;
    if (write(fd, &one, sizeof one) != sizeof one) perror("wake: write"), exit(1);
}

static void await(int fd) {
    uint64_t count;
    if (read(fd, &count, sizeof count) != sizeof count) perror("wake: read"), exit(1);
}

static void *answer(void *core) {
    stay_on(*(int *)core);
    for (int i = 0; i < rounds; i++) {
        await(turns[0]);
        took[i] = now() - sent_at;
        give(turns[1]);
    }
    return NULL;
}

static int ascending(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static double median_us(int core) {
    pthread_t other;
    if (pthread_create(&other, NULL, answer, &core)) fputs("wake: no thread\n", stderr), exit(1);
    for (int i = 0; i < rounds; i++) {
        // Waits awake, so that this core's own waking up is not measured.
        for (int64_t end = now() + idle_us * 1000LL; now() < end;) {}
        sent_at = now();
        give(turns[0]);
        await(turns[1]);
    }
    pthread_join(other, NULL);
    qsort(took, rounds, sizeof *took, ascending);
    return took[rounds / 2] / 1000.0;
}

int main(int count, char **arguments) {
    rounds = count > 1 ? atoi(arguments[1]) : 500;
    if (rounds < 1 || rounds > rounds_max) return fprintf(stderr, "wake: 1 to %d rounds\n", rounds_max), 2;
    if (sysconf(_SC_NPROCESSORS_ONLN) < 2) return fputs("wake: needs two cores\n", stderr), 1;
    turns[0] = eventfd(0, 0), turns[1] = eventfd(0, 0);
    stay_on(0);
    double other = median_us(1), same = median_us(0);
    printf("{\"wake_us\": %.1f, \"switch_us\": %.1f}\n", other, same);
}
