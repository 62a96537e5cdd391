/* SPDX-License-Identifier: MIT */
/* One phase of a file system benchmark, timed; bench.py puts phases together.
 *
 *     fsbench DIR PHASE COUNT THREADS BYTES LAYOUT
 *
 * PHASE    create stat read unlink              COUNT files of BYTES per thread
 *          seqwrite seqread                     one file of COUNT MiB per thread, 1 MiB at a time
 *          randwrite randread                   COUNT operations of 4 KiB in a file of BYTES
 *          append                               COUNT records of BYTES, each with fsync
 * LAYOUT   shared: all threads in one directory; private: each in its own
 *
 * Prints one line of JSON: operations, seconds, p50 and p99 of one operation in microseconds. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { THREADS_MAX = 64, MIB_BYTES = 1 << 20, RANDOM_BYTES = 4096 };

struct worker {
    pthread_t thread;
    unsigned index;
    char dir[512];
    uint64_t ops;
    uint64_t begin_ns;
    uint64_t end_ns;
    uint32_t *ns; /* of each operation */
    uint64_t random;
    char *buffer;
};

struct phase {
    const char *name;
    void (*run)(struct worker *worker);
};

static uint64_t count;
static uint64_t bytes;
static pthread_barrier_t start_line;
static const struct phase *phase;

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static _Noreturn void die(const char *what, const char *where)
{
    fprintf(stderr, "fsbench: cannot %s %s: %s\n", what, where, strerror(errno));
    exit(1);
}

static void file_path(const struct worker *worker, uint64_t number, char path[600])
{
    snprintf(path, 600, "%s/f%u-%llu", worker->dir, worker->index, (unsigned long long)number);
}

static void note_op(struct worker *worker, uint64_t begin_ns)
{
    uint64_t spent_ns = now_ns() - begin_ns;
    worker->ns[worker->ops++] = spent_ns > UINT32_MAX ? UINT32_MAX : (uint32_t)spent_ns;
}

static uint64_t next_random(struct worker *worker)
{
    worker->random ^= worker->random << 13;
    worker->random ^= worker->random >> 7;
    worker->random ^= worker->random << 17;
    return worker->random;
}

/* ---- files ---------------------------------------------------------------------------------- */

static void run_create(struct worker *worker)
{
    char path[600];
    for (uint64_t i = 0; i < count; i++) {
        file_path(worker, i, path);
        uint64_t begin_ns = now_ns();
        int fd = open(path, O_CREAT | O_EXCL | O_WRONLY, 0644);
        if (fd < 0 || (bytes > 0 && write(fd, worker->buffer, bytes) != (ssize_t)bytes) ||
            close(fd) < 0)
            die("create", path);
        note_op(worker, begin_ns);
    }
}

static void run_stat(struct worker *worker)
{
    char path[600];
    struct stat status;
    for (uint64_t i = 0; i < count; i++) {
        file_path(worker, i, path);
        uint64_t begin_ns = now_ns();
        if (stat(path, &status) < 0 || (uint64_t)status.st_size != bytes)
            die("stat", path);
        note_op(worker, begin_ns);
    }
}

static void run_read(struct worker *worker)
{
    char path[600];
    for (uint64_t i = 0; i < count; i++) {
        file_path(worker, i, path);
        uint64_t begin_ns = now_ns();
        int fd = open(path, O_RDONLY);
        if (fd < 0 || read(fd, worker->buffer, MIB_BYTES) != (ssize_t)bytes || close(fd) < 0)
            die("read", path);
        note_op(worker, begin_ns);
    }
}

static void run_unlink(struct worker *worker)
{
    char path[600];
    for (uint64_t i = 0; i < count; i++) {
        file_path(worker, i, path);
        uint64_t begin_ns = now_ns();
        if (unlink(path) < 0)
            die("unlink", path);
        note_op(worker, begin_ns);
    }
}

/* ---- data ----------------------------------------------------------------------------------- */

static int open_big(struct worker *worker, int flags, char path[600])
{
    snprintf(path, 600, "%s/big%u", worker->dir, worker->index);
    int fd = open(path, flags, 0644);
    if (fd < 0)
        die("open", path);
    return fd;
}

static void run_seqwrite(struct worker *worker)
{
    char path[600];
    int fd = open_big(worker, O_CREAT | O_TRUNC | O_WRONLY, path);
    for (uint64_t i = 0; i < count; i++) {
        uint64_t begin_ns = now_ns();
        memcpy(worker->buffer, &i, sizeof i);
        if (write(fd, worker->buffer, MIB_BYTES) != MIB_BYTES)
            die("write", path);
        note_op(worker, begin_ns);
    }
    if (fsync(fd) < 0 || close(fd) < 0)
        die("fsync", path);
}

static void run_seqread(struct worker *worker)
{
    char path[600];
    int fd = open_big(worker, O_RDONLY, path);
    for (uint64_t i = 0; i < count; i++) {
        uint64_t begin_ns = now_ns();
        if (read(fd, worker->buffer, MIB_BYTES) != MIB_BYTES ||
            memcmp(worker->buffer, &i, sizeof i) != 0)
            die("read", path);
        note_op(worker, begin_ns);
    }
    close(fd);
}

static void run_random(struct worker *worker, int flags)
{
    char path[600];
    int fd = open_big(worker, flags, path);
    for (uint64_t i = 0; i < count; i++) {
        off_t offset = (off_t)(next_random(worker) % (bytes / RANDOM_BYTES) * RANDOM_BYTES);
        uint64_t begin_ns = now_ns();
        ssize_t done = flags == O_RDONLY ? pread(fd, worker->buffer, RANDOM_BYTES, offset)
                                         : pwrite(fd, worker->buffer, RANDOM_BYTES, offset);
        if (done != RANDOM_BYTES)
            die(flags == O_RDONLY ? "read" : "write", path);
        note_op(worker, begin_ns);
    }
    if (flags != O_RDONLY && fsync(fd) < 0)
        die("fsync", path);
    close(fd);
}

static void run_randwrite(struct worker *worker)
{
    run_random(worker, O_WRONLY);
}

static void run_randread(struct worker *worker)
{
    run_random(worker, O_RDONLY);
}

static void run_append(struct worker *worker)
{
    char path[600];
    int fd = open_big(worker, O_CREAT | O_TRUNC | O_WRONLY | O_APPEND, path);
    for (uint64_t i = 0; i < count; i++) {
        uint64_t begin_ns = now_ns();
        if (write(fd, worker->buffer, bytes) != (ssize_t)bytes || fsync(fd) < 0)
            die("append to", path);
        note_op(worker, begin_ns);
    }
    close(fd);
}

/* ---- phases --------------------------------------------------------------------------------- */

static const struct phase phases[] = {
    {"create", run_create},       {"stat", run_stat},         {"read", run_read},
    {"unlink", run_unlink},       {"seqwrite", run_seqwrite}, {"seqread", run_seqread},
    {"randwrite", run_randwrite}, {"randread", run_randread}, {"append", run_append},
};

static void *worker_main(void *arg)
{
    struct worker *worker = arg;
    pthread_barrier_wait(&start_line);
    worker->begin_ns = now_ns();
    phase->run(worker);
    worker->end_ns = now_ns();
    return NULL;
}

static int compare_ns(const void *a, const void *b)
{
    uint32_t left = *(const uint32_t *)a;
    uint32_t right = *(const uint32_t *)b;
    return left < right ? -1 : left > right;
}

static void init_worker(struct worker *worker, unsigned index, const char *dir, int is_private)
{
    worker->index = index;
    snprintf(worker->dir, sizeof worker->dir, is_private ? "%s/t%u" : "%s", dir, index);
    if (is_private && mkdir(worker->dir, 0755) < 0 && errno != EEXIST)
        die("make", worker->dir);
    worker->ns = calloc(count, sizeof worker->ns[0]);
    worker->random = 88172645463325252ull + index;
    worker->buffer = malloc(MIB_BYTES);
    if (!worker->ns || !worker->buffer)
        die("allocate for", worker->dir);
    memset(worker->buffer, 'a' + (int)index % 26, MIB_BYTES);
    memset(worker->ns, 1, count * sizeof worker->ns[0]); /* touch it before the clock runs */
}

static void print_result(struct worker *workers, unsigned threads)
{
    uint64_t ops = 0;
    uint64_t begin_ns = UINT64_MAX;
    uint64_t end_ns = 0;
    for (unsigned i = 0; i < threads; i++) {
        ops += workers[i].ops;
        begin_ns = workers[i].begin_ns < begin_ns ? workers[i].begin_ns : begin_ns;
        end_ns = workers[i].end_ns > end_ns ? workers[i].end_ns : end_ns;
    }
    uint32_t *all = calloc(ops ? ops : 1, sizeof *all);
    if (!all)
        die("allocate", "results");
    uint64_t used = 0;
    for (unsigned i = 0; i < threads; i++) {
        memcpy(all + used, workers[i].ns, workers[i].ops * sizeof *all);
        used += workers[i].ops;
    }
    qsort(all, ops, sizeof *all, compare_ns);
    printf("{\"ops\": %llu, \"seconds\": %.6f, \"p50_us\": %.1f, \"p99_us\": %.1f}\n",
           (unsigned long long)ops, (double)(end_ns - begin_ns) / 1e9, all[ops / 2] / 1e3,
           all[ops * 99 / 100] / 1e3);
    free(all);
}

int main(int argc, char **argv)
{
    static struct worker workers[THREADS_MAX];
    if (argc != 7) {
        fprintf(stderr, "usage: fsbench DIR PHASE COUNT THREADS BYTES shared|private\n");
        return 64;
    }
    for (size_t i = 0; i < sizeof phases / sizeof phases[0]; i++) {
        if (strcmp(argv[2], phases[i].name) == 0)
            phase = &phases[i];
    }
    count = strtoull(argv[3], NULL, 10);
    unsigned threads = (unsigned)strtoul(argv[4], NULL, 10);
    bytes = strtoull(argv[5], NULL, 10);
    if (!phase || count == 0 || threads == 0 || threads > THREADS_MAX) {
        fprintf(stderr, "fsbench: no such phase, or a number is out of range\n");
        return 64;
    }
    pthread_barrier_init(&start_line, NULL, threads + 1);
    for (unsigned i = 0; i < threads; i++) {
        init_worker(&workers[i], i, argv[1], strcmp(argv[6], "private") == 0);
        if (pthread_create(&workers[i].thread, NULL, worker_main, &workers[i]) != 0)
            die("start", "a thread");
    }
    pthread_barrier_wait(&start_line);
    for (unsigned i = 0; i < threads; i++)
        pthread_join(workers[i].thread, NULL);
    print_result(workers, threads);
    return 0;
}
