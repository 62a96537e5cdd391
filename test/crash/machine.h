/* SPDX-License-Identifier: MIT */
#ifndef CFS_CRASH_MACHINE_H
#define CFS_CRASH_MACHINE_H

/* A machine: one reactor and one disk in memory, in virtual time, with a recorder.
 * See machine.c. */

#include "base/mem.h"
#include "base/random.h"
#include "env/reactor_internal.h"

enum { PAGE_BYTES = DISK_BLOCK_BYTES, SECTOR_BYTES = 512, PAGE_SECTORS = 8 };

/* What the workload says of itself at a moment: operations issued, and how many of them must
 * survive (-1: not even the store). */
struct mark {
    int32_t promised;
    uint32_t issued;
};

enum event_kind { EVENT_WRITE, EVENT_WRITTEN, EVENT_FLUSH, EVENT_FLUSHED };

struct event {
    enum event_kind kind;
    uint32_t index;     /* of the write or flush */
    struct mark before; /* of the moment just before it */
};

struct trace_write {
    enum disk_op op;
    uint64_t page;
    uint32_t pages;         /* of data; DISK_SEAL: 0 */
    uint8_t *data;          /* as submitted; DISK_DISCARD: zeroes */
    uint32_t submitted;     /* event numbers; UINT32_MAX: never */
    uint32_t written;       /* completed */
    uint32_t durable_after; /* the flush that covers it has completed; durable: it has */
    bool durable;           /* without a flush */
};

struct trace_flush {
    uint32_t submitted;
};

struct trace {
    struct event *events;
    uint32_t event_count;
    uint32_t event_room;
    struct trace_write *writes;
    uint32_t write_count;
    uint32_t write_room;
    struct trace_flush *flushes;
    uint32_t flush_count;
    uint32_t flush_room;
    struct mark end;
};

struct pending_io {
    uint64_t at_ns;
    uint64_t order;
    struct disk_io *io;
    uint32_t index; /* of the write or flush in the trace */
};

struct machine {
    struct reactor reactor; /* first member */
    struct disk disk;
    bool disk_open;
    uint64_t now_ns;
    uint64_t order;
    struct random random;
    uint64_t pages;      /* of content: a zoned device's pointers take one behind the others */
    uint32_t zone_pages; /* 0: not zoned */
    uint8_t *content;
    uint64_t *dirty; /* bitmap of pages changed since the list was emptied */
    uint32_t *dirty_list;
    uint32_t dirty_count;
    struct pending_io *pending;
    uint32_t pending_count;
    uint32_t pending_room;
    struct trace *trace; /* NULL: nothing is recorded */
    struct mark (*mark)(void *context);
    void *context;
    fiber_fn body;
    void *arg;
    bool done;
};

/* zone_bytes: 0: a device that is written in any order. */
struct machine *machine_new(uint64_t bytes, uint32_t zone_bytes);
void machine_free(struct machine *machine);
/* The process dies, and a fresh one starts, with this seed. What was written, or in flight, has
 * reached the device (not the medium); a recording goes on. */
void machine_restart(struct machine *machine, uint64_t seed);
/* Run body in a fiber until it returns. False: it waits for ever. */
bool machine_run(struct machine *machine, fiber_fn body, void *arg);
/* The only disk there is, for a fiber of the machine. */
struct disk *machine_disk(struct machine *machine);
/* From outside: overlay the sectors of mask (bit 0: first) of one page. */
void machine_poke(struct machine *machine, uint64_t page, const uint8_t *data, uint8_t mask);
/* Zoned: bytes written of the zone that page lies in. */
uint64_t machine_zone_written(const struct machine *machine, uint64_t page);
void machine_zone_set(struct machine *machine, uint64_t page, uint64_t written);
/* Make the content equal to base again (it was when the dirty list was emptied last). */
void machine_restore(struct machine *machine, const uint8_t *base);
/* Forget what was dirty: the content is the new reference. */
void machine_settle(struct machine *machine);

/* Record into trace (empty) from now on; mark: see struct mark. */
void machine_record(struct machine *machine, struct trace *trace,
                    struct mark (*mark)(void *context), void *context);
/* End of the recording: finds out when each write became durable. */
void machine_record_end(struct machine *machine);
void trace_fini(struct trace *trace);

#endif
