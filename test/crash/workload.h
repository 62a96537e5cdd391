/* SPDX-License-Identifier: MIT */
#ifndef CFS_CRASH_WORKLOAD_H
#define CFS_CRASH_WORKLOAD_H

/* What is done to the store while the disk is recorded. See workload.c. */

#include "machine.h"
#include "owner.h"

enum format_kind { FORMAT_BEFORE, FORMAT_RECORDED, FORMAT_OVER };
enum { NODE_OLD = 7, NODE_NEW = 8 }; /* whose store it is: tells them apart after FORMAT_OVER */

/* How often each operation happens, in parts of the sum. */
struct mix {
    uint8_t commit, append, apply, truncate, cut, delete, checkpoint, durable, written, sleep, bulk;
};

struct workload {
    const char *name;
    const char *about;
    uint32_t segments;
    uint32_t objects;
    uint32_t pad_max;
    uint32_t blocks_max;
    uint32_t changes_max; /* of a commit */
    uint32_t sleep_max_us;
    uint32_t warm_ops; /* before the recording */
    uint32_t ops;
    uint32_t points_max; /* crash points to try; 0: the usual */
    uint32_t lives; /* opened so often in the recording; ends by close, or by the process's death */
    bool fill;      /* warm up until there is no space */
    bool checkpoints; /* one after the other, beside the operations */
    enum format_kind format;
    struct mix mix;
};

extern const struct workload workloads[];
extern const uint32_t workload_count;

enum { CRASH_SEGMENT_BYTES = 256 << 10, CRASH_ZONE_BYTES = 64 << 10 };

/* A run of a workload: everything the images of its trace are judged by. */
struct run {
    const struct workload *workload;
    uint64_t seed;
    struct machine *machine;
    struct history *history;
    struct history *history_old; /* FORMAT_OVER: of the store that was there; else NULL */
    struct owner owner;
    struct trace trace;
    uint8_t *base; /* content when the recording began */
    uint32_t checkpoints_max;
    bool stop;
    struct waitq stopped;
    uint32_t fibers;
    bool kill;  /* the life at hand ends by death */
    bool first; /* it begins with a format, perhaps */
};

/* Format, warm up, record. False: something was wrong already (run->owner.trouble). */
bool run_record(struct run *run, const struct workload *workload, uint64_t seed,
                struct machine *machine);
/* Record what happens when the image in the machine is opened and used; history is shortened to
 * ops, which is what the image holds. */
bool run_record_recovery(struct run *run, const struct run *parent, struct machine *machine,
                         uint32_t ops);
void run_fini(struct run *run);

void owner_init(struct owner *owner, const struct workload *workload, struct history *history,
                uint64_t seed);
/* count operations of the mix. */
may_yield void workload_steps(struct run *run, uint32_t count);

#endif
