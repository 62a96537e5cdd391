/* SPDX-License-Identifier: MIT */
/* How fast the store alone is on a file or device, without network and replication.
 *
 * One line of JSON per row: operations, seconds, CPU seconds, the longest single operation, and
 * what the store did meanwhile (flushes, bytes by kind, allocations). bench/store.py runs this
 * beside fio and puts the two in relation. */
#include "store_bench.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "base/mem.h"

void bench_check(int result, const char *what)
{
    if (result < 0) {
        fprintf(stderr, "store_bench: %s: %s\n", what, error_text(result));
        exit(1);
    }
}

static uint64_t cpu_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

bool bench_next(struct bench *bench, uint64_t *ret_index)
{
    if (bench->next == bench->limit || env_now_ns() >= bench->deadline_ns)
        return false;
    *ret_index = bench->next++;
    return true;
}

void bench_op_done(struct bench *bench, uint64_t start_ns)
{
    bench->stall_ns = MAX(bench->stall_ns, env_now_ns() - start_ns);
}

void bench_fiber_done(struct bench *bench)
{
    bench->running--;
    waitq_wake_all(&bench->done);
}

void bench_batches(struct bench *bench, bench_batch_fn one)
{
    struct store_batch batch;
    uint64_t index;
    store_batch_init(&batch);
    while (bench_next(bench, &index)) {
        uint64_t start = env_now_ns();
        store_batch_reset(&batch);
        one(bench, index, &batch);
        bench_op_done(bench, start);
    }
    store_batch_fini(&batch);
    bench_fiber_done(bench);
}

bool bench_wants(const struct bench *bench, const char *name)
{
    return !bench->only || strstr(name, bench->only);
}

static void print_row(const struct bench *bench, const struct bench_row *row, double seconds,
                      double cpu, const struct store_health *before)
{
    struct store_health now;
    store_health(bench->store, &now);
    printf("{\"row\": \"%s\", \"fibers\": %u, \"ops\": %llu, \"op_bytes\": %llu, "
           "\"seconds\": %.3f, \"cpu_seconds\": %.3f, \"ops_per_s\": %.0f, "
           "\"ops_per_cpu_s\": %.0f, \"stall_ms\": %.2f, \"allocs\": %llu, "
           "\"flushes\": %llu, \"checkpoints\": %llu, \"journal_bytes\": %llu, "
           "\"data_bytes\": %llu, \"node_bytes\": %llu, \"cleaned_bytes\": %llu, "
           "\"memory_bytes\": %llu}\n",
           row->name, row->fibers, (unsigned long long)bench->next,
           (unsigned long long)row->op_bytes, seconds, cpu, (double)bench->next / seconds,
           (double)bench->next / cpu, (double)bench->stall_ns / 1e6,
           (unsigned long long)(mem_heap_allocs(NULL) - bench->allocs),
           (unsigned long long)(now.flushes - before->flushes),
           (unsigned long long)(now.checkpoints - before->checkpoints),
           (unsigned long long)(now.journal_bytes - before->journal_bytes),
           (unsigned long long)(now.data_bytes - before->data_bytes),
           (unsigned long long)(now.node_bytes - before->node_bytes),
           (unsigned long long)(now.cleaned_bytes - before->cleaned_bytes),
           (unsigned long long)now.memory_bytes);
    fflush(stdout);
}

void bench_settle(const struct bench *bench)
{
    struct store_health now;
    uint64_t before = UINT64_MAX;
    store_health(bench->store, &now);
    for (uint32_t i = 0; i < 100 && now.node_bytes != before; i++) {
        before = now.node_bytes;
        fiber_sleep(200 * NS_PER_MS);
        store_health(bench->store, &now);
    }
}

void bench_run(struct bench *bench, const struct bench_row *row)
{
    struct store_health before;
    if (!bench->at_once)
        bench_settle(bench);
    store_health(bench->store, &before);
    uint64_t start = env_now_ns(), cpu = cpu_ns();
    bench->next = 0;
    bench->limit = row->limit ? row->limit : UINT64_MAX;
    bench->deadline_ns = start + bench->row_ns;
    bench->stall_ns = 0;
    bench->running = row->fibers;
    for (uint32_t i = 0; i < row->fibers; i++)
        fiber_spawn(row->name, row->fn, bench);
    bench->allocs = mem_heap_allocs(NULL);
    while (bench->running > 0)
        (void)!waitq_wait(&bench->done, 0);
    if (row->op_bytes) /* the device has it all: comparable with fio --end_fsync */
        bench_check(disk_flush(bench->disk), "flush");
    print_row(bench, row, (double)(env_now_ns() - start) / 1e9, (double)(cpu_ns() - cpu) / 1e9,
              &before);
}

void bench_open(struct bench *bench)
{
    static const struct store_log_ops no_log;
    const struct store_options options = {.memory_bytes = bench->memory_bytes, .log_ops = &no_log};
    const struct store_identity identity = {.node = 1};
    bench_check(disk_open(bench->path, bench->size_bytes, DISK_CREATE, &bench->disk), "open");
    bench_check(store_format(bench->disk, &identity, true), "format");
    bench_check(store_open(bench->disk, &options, &bench->store), "store_open");
}

void bench_close(struct bench *bench)
{
    bench_check(store_close(bench->store), "close");
    disk_close(bench->disk);
}

static void body(void *arg)
{
    struct bench *bench = arg;
    waitq_init(&bench->done);
    random_init(&bench->random, 1);
    bench_transactions(bench);
    bench_flush(bench);
    bench_pause(bench);
    bench_data(bench);
    bench_full(bench);
    bench_growth(bench);
    linux_reactor_stop(bench->reactor);
}

static const char usage[] =
    "usage: store_bench [OPTIONS] FILE-OR-DEVICE       it is overwritten\n"
    "  --size GIB       of a new file (4)\n"
    "  --memory MIB     the store's budget (256)\n"
    "  --seconds S      the longest a row runs (3)\n"
    "  --only TEXT      rows whose name has it\n"
    "  --growth FILES   files that row growth creates (1000000); it ends when they are there\n";

static int options(struct bench *bench, int argc, char **argv)
{
    static const struct option table[] = {
        {"size", required_argument, NULL, 's'},    {"memory", required_argument, NULL, 'm'},
        {"seconds", required_argument, NULL, 't'}, {"only", required_argument, NULL, 'o'},
        {"growth", required_argument, NULL, 'g'},  {NULL, 0, NULL, 0}};
    int option;
    while ((option = getopt_long(argc, argv, "", table, NULL)) >= 0) {
        if (option == 's')
            bench->size_bytes = strtoull(optarg, NULL, 10) * GIB;
        else if (option == 'm')
            bench->memory_bytes = strtoull(optarg, NULL, 10) * MIB;
        else if (option == 't')
            bench->row_ns = strtoull(optarg, NULL, 10) * NS_PER_S;
        else if (option == 'o')
            bench->only = optarg;
        else if (option == 'g')
            bench->growth_files = strtoull(optarg, NULL, 10);
        else
            return -EINVAL;
    }
    bench->path = argv[optind];
    return bench->path && optind + 1 == argc && bench->memory_bytes >= 16 * MIB &&
                   bench->row_ns > 0 && bench->size_bytes > 0
               ? 0
               : -EINVAL;
}

int main(int argc, char **argv)
{
    struct bench bench = {.size_bytes = 4 * GIB,
                          .memory_bytes = 256 * MIB,
                          .row_ns = 3 * NS_PER_S,
                          .growth_files = 1000000};
    if (options(&bench, argc, argv) < 0) {
        fputs(usage, stderr);
        return 2;
    }
    log_set_level(LOG_WARN);
    bench_check(linux_reactor_new(&bench.reactor), "reactor");
    reactor_spawn(bench.reactor, "bench", body, &bench);
    bench_check(linux_reactor_run(bench.reactor), "run");
    linux_reactor_free(bench.reactor);
    return 0;
}
