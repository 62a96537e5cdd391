/* SPDX-License-Identifier: MIT */
/* The machine: a reactor's third home (beside env/linux and env/sim), made for one purpose: to run
 * the store thousands of times a second on a small disk whose content can be exchanged for the
 * price of the pages that differ, and to write down all that the store asks of the disk.
 *
 * Requests complete after a random time, so those in flight together are reordered. A write takes
 * effect when it completes; a discarded range reads as zeroes.
 *
 * M1  The bytes of a write are those at its submission; a caller that changes them before the
 *     completion is found out.
 * M2  A write is durable once a flush has completed that was submitted after the write completed,
 *     or once it has completed if it is to be durable by itself. Until then each of its sectors may
 *     be on the medium, or not. (A durable write goes where nothing else is not yet durable: which
 *     of the two would stay need not be modelled.)
 * M3  A zoned device refuses what breaks its rules. What is written of each zone is kept in one
 *     more page, so it is restored, compared and hashed like all other content. A pointer inside a
 *     block of ours counts as the zone's end, since env finishes such a zone when it opens it.
 */
#include "machine.h"

#include <string.h>

#include "base/assert.h"

enum { TURN_NS = 1000, ZONES_ACTIVE = 7 };
#define GIVE_UP_NS (600 * NS_PER_S)

static struct machine *machine_of(struct reactor *reactor)
{
    return container_of(reactor, struct machine, reactor);
}

/* Grow an array of the machine's or the trace's by one, on the default heap: it outlives runs. */
#define PUSH(array, count, room)                                                                   \
    ({                                                                                             \
        if ((count) == (room)) {                                                                   \
            struct mem_heap *heap_ = mem_heap_set(NULL);                                           \
            (room) = MAX(2 * (room), 256u);                                                        \
            (array) = mem_realloc((array), (room) * sizeof *(array));                              \
            (void)mem_heap_set(heap_);                                                             \
        }                                                                                          \
        &(array)[(count)++];                                                                       \
    })

/* ---- recorder ---- */

static uint32_t note(struct machine *machine, enum event_kind kind, uint32_t index)
{
    struct trace *trace = machine->trace;
    struct event *event = PUSH(trace->events, trace->event_count, trace->event_room);
    *event = (struct event){kind, index, machine->mark(machine->context)};
    return trace->event_count - 1;
}

static uint32_t record_submit(struct machine *machine, const struct disk_io *io)
{
    struct trace *trace = machine->trace;
    if (!trace || io->op == DISK_READ)
        return 0;
    if (io->op == DISK_FLUSH) {
        struct trace_flush *flush = PUSH(trace->flushes, trace->flush_count, trace->flush_room);
        flush->submitted = note(machine, EVENT_FLUSH, trace->flush_count - 1);
        return trace->flush_count - 1;
    }
    struct trace_write *write = PUSH(trace->writes, trace->write_count, trace->write_room);
    struct mem_heap *heap = mem_heap_set(NULL);
    uint32_t bytes = io->op == DISK_SEAL ? 0 : io->bytes;
    *write = (struct trace_write){.op = io->op,
                                  .page = io->offset / PAGE_BYTES,
                                  .pages = bytes / PAGE_BYTES,
                                  .data = bytes ? mem_zalloc(bytes) : NULL,
                                  .durable = io->durable,
                                  .written = UINT32_MAX,
                                  .durable_after = UINT32_MAX};
    (void)mem_heap_set(heap);
    if (io->op == DISK_WRITE)
        memcpy(write->data, io->data, io->bytes);
    write->submitted = note(machine, EVENT_WRITE, trace->write_count - 1);
    return trace->write_count - 1;
}

static void record_done(struct machine *machine, const struct pending_io *pending)
{
    struct trace *trace = machine->trace;
    const struct disk_io *io = pending->io;
    if (!trace || io->op == DISK_READ)
        return;
    if (io->op == DISK_FLUSH) {
        (void)note(machine, EVENT_FLUSHED, pending->index);
        return;
    }
    struct trace_write *write = &trace->writes[pending->index];
    assert(io->op != DISK_WRITE || memcmp(write->data, io->data, io->bytes) == 0); /* M1 */
    write->written = note(machine, EVENT_WRITTEN, pending->index);
}

void machine_record(struct machine *machine, struct trace *trace,
                    struct mark (*mark)(void *context), void *context)
{
    assert(machine->pending_count == 0 && trace->event_count == 0);
    machine->trace = trace;
    machine->mark = mark;
    machine->context = context;
}

void machine_record_end(struct machine *machine)
{
    struct trace *trace = machine->trace;
    trace->end = machine->mark(machine->context);
    machine->trace = NULL;
    for (uint32_t w = 0; w < trace->write_count; w++) /* M2 */
        if (trace->writes[w].durable)
            trace->writes[w].durable_after = trace->writes[w].written;
    for (uint32_t i = 0; i < trace->event_count; i++) {
        if (trace->events[i].kind != EVENT_FLUSHED)
            continue;
        uint32_t submitted = trace->flushes[trace->events[i].index].submitted;
        for (uint32_t w = 0; w < trace->write_count; w++) {
            struct trace_write *write = &trace->writes[w];
            if (write->written < submitted && write->durable_after == UINT32_MAX)
                write->durable_after = i;
        }
    }
}

void trace_fini(struct trace *trace)
{
    for (uint32_t i = 0; i < trace->write_count; i++)
        mem_free(trace->writes[i].data);
    mem_free(trace->events);
    mem_free(trace->writes);
    mem_free(trace->flushes);
    *trace = (struct trace){0};
}

/* ---- disk ---- */

static uint8_t *page_for_change(struct machine *machine, uint64_t page)
{
    assert(page < machine->pages);
    uint64_t bit = 1ull << (page % 64);
    if (!(machine->dirty[page / 64] & bit)) {
        machine->dirty[page / 64] |= bit;
        machine->dirty_list[machine->dirty_count++] = (uint32_t)page;
    }
    return machine->content + page * PAGE_BYTES;
}

void machine_poke(struct machine *machine, uint64_t page, const uint8_t *data, uint8_t mask)
{
    uint8_t *place = page_for_change(machine, page);
    for (uint32_t i = 0; i < PAGE_SECTORS; i++)
        if (mask & (1u << i))
            memcpy(place + i * SECTOR_BYTES, data + i * SECTOR_BYTES, SECTOR_BYTES);
}

void machine_settle(struct machine *machine)
{
    for (uint32_t i = 0; i < machine->dirty_count; i++)
        machine->dirty[machine->dirty_list[i] / 64] = 0;
    machine->dirty_count = 0;
}

void machine_restore(struct machine *machine, const uint8_t *base)
{
    for (uint32_t i = 0; i < machine->dirty_count; i++) {
        uint64_t at = (uint64_t)machine->dirty_list[i] * PAGE_BYTES;
        memcpy(machine->content + at, base + at, PAGE_BYTES);
    }
    machine_settle(machine);
}

/* ---- zones ---- */

uint64_t machine_zone_written(const struct machine *machine, uint64_t page)
{
    const uint64_t *table = (const void *)(machine->content + (machine->pages - 1) * PAGE_BYTES);
    return table[page / machine->zone_pages];
}

void machine_zone_set(struct machine *machine, uint64_t page, uint64_t written)
{
    assert(machine->zone_pages > 0 && page < machine->pages - 1);
    uint64_t *table = (void *)page_for_change(machine, machine->pages - 1);
    table[page / machine->zone_pages] = written;
}

static uint32_t zones_active(const struct machine *machine)
{
    uint32_t active = 0;
    for (uint64_t page = 0; page < machine->pages - 1; page += machine->zone_pages) {
        uint64_t written = machine_zone_written(machine, page);
        bool partly = written > 0 && written < machine->disk.info.zone_bytes;
        active += partly && written % PAGE_BYTES == 0; /* M3 */
    }
    return active;
}

/* Move the pointer as the request asks, if it may. */
static int zone_advance(struct machine *machine, const struct disk_io *io)
{
    uint64_t page = io->offset / PAGE_BYTES, zone_bytes = machine->disk.info.zone_bytes;
    uint64_t written = machine_zone_written(machine, page);
    if (io->op == DISK_DISCARD) {
        machine_zone_set(machine, page, 0);
    } else if (io->op == DISK_SEAL) {
        machine_zone_set(machine, page, zone_bytes);
    } else {
        if (io->offset % zone_bytes != written || written + io->bytes > zone_bytes ||
            (written == 0 && zones_active(machine) >= ZONES_ACTIVE))
            return -EIO;
        machine_zone_set(machine, page, written + io->bytes);
    }
    return 0;
}

/* As the device's driver does when it opens it. */
static void open_zones(struct machine *machine)
{
    struct reactor_scope before = reactor_enter(&machine->reactor);
    machine->disk.zones = disk_zones_new(&machine->disk);
    for (uint64_t page = 0; page < machine->pages - 1; page += machine->zone_pages) {
        uint64_t written = machine_zone_written(machine, page);
        if (written % PAGE_BYTES > 0) /* M3 */
            written = machine->disk.info.zone_bytes;
        disk_zone_found(&machine->disk, page / machine->zone_pages, written);
    }
    reactor_leave(before);
}

/* ---- requests ---- */

static void perform(struct machine *machine, struct disk_io *io)
{
    bool changes = io->op != DISK_READ && io->op != DISK_FLUSH;
    io->result = machine->zone_pages && changes ? zone_advance(machine, io) : 0;
    bool moves = io->op != DISK_FLUSH && io->op != DISK_SEAL && io->result == 0;
    for (uint32_t at = 0; at < io->bytes && moves; at += PAGE_BYTES) {
        uint64_t page = (io->offset + at) / PAGE_BYTES;
        if (io->op == DISK_READ)
            memcpy((uint8_t *)io->data + at, machine->content + page * PAGE_BYTES, PAGE_BYTES);
        else if (io->op == DISK_WRITE)
            memcpy(page_for_change(machine, page), (uint8_t *)io->data + at, PAGE_BYTES);
        else
            memset(page_for_change(machine, page), 0, PAGE_BYTES);
    }
}

static uint64_t latency_ns(struct machine *machine, enum disk_op op)
{
    uint64_t spread = random_below(&machine->random, 16);
    switch (op) {
    case DISK_READ:
        return 20 * NS_PER_US;
    case DISK_WRITE:
    case DISK_DISCARD:
    case DISK_SEAL:
        return (20 + 20 * spread) * NS_PER_US;
    case DISK_FLUSH:
        return (100 + 100 * spread) * NS_PER_US;
    }
    WRONG("disk op");
}

static void submit(struct disk *disk, struct disk_io *io)
{
    struct machine *machine = machine_of(disk->reactor);
    uint32_t index = record_submit(machine, io);
    struct pending_io *pending =
        PUSH(machine->pending, machine->pending_count, machine->pending_room);
    *pending = (struct pending_io){.at_ns = machine->now_ns + latency_ns(machine, io->op),
                                   .order = machine->order++,
                                   .io = io,
                                   .index = index};
}

static struct pending_io *next_io(const struct machine *machine)
{
    struct pending_io *next = NULL;
    for (uint32_t i = 0; i < machine->pending_count; i++) {
        struct pending_io *pending = &machine->pending[i];
        if (!next || pending->at_ns < next->at_ns ||
            (pending->at_ns == next->at_ns && pending->order < next->order))
            next = pending;
    }
    return next;
}

/* Take it off the list: the request is done. */
static struct disk_io *finish(struct machine *machine, struct pending_io *pending)
{
    struct disk_io *io = pending->io;
    record_done(machine, pending);
    perform(machine, io);
    *pending = machine->pending[--machine->pending_count];
    return io;
}

struct disk *machine_disk(struct machine *machine)
{
    return &machine->disk;
}

/* ---- the reactor's backend ---- */

static uint64_t now_ns(struct reactor *reactor)
{
    return machine_of(reactor)->now_ns;
}

static uint64_t entropy(struct reactor *reactor)
{
    return random_u64(&machine_of(reactor)->random);
}

static uint32_t pid(struct reactor *reactor)
{
    return 1;
}

static void kick(struct reactor *reactor)
{
    (void)reactor; /* machine_run looks at the run queue itself */
}

static const struct env_backend backend = {.now_ns = now_ns,
                                           .wall_ns = now_ns,
                                           .entropy = entropy,
                                           .pid = pid,
                                           .kick = kick,
                                           .disk_submit = submit};

struct machine *machine_new(uint64_t bytes, uint32_t zone_bytes)
{
    struct machine *machine = mem_zalloc(sizeof *machine);
    machine->pages = bytes / PAGE_BYTES + (zone_bytes > 0);
    machine->zone_pages = zone_bytes / PAGE_BYTES;
    machine->content = mem_zalloc(machine->pages * PAGE_BYTES);
    machine->dirty = mem_zalloc(div_up(machine->pages, 64) * sizeof *machine->dirty);
    machine->dirty_list = mem_alloc(machine->pages * sizeof *machine->dirty_list);
    reactor_init(&machine->reactor, &backend, mem_heap_new(true));
    machine->disk.reactor = &machine->reactor;
    machine->disk.info = (struct disk_info){.size_bytes = bytes,
                                            .kind = "crash",
                                            .path = "crash",
                                            .zone_bytes = zone_bytes,
                                            .zones_active_max = zone_bytes ? ZONES_ACTIVE : 0};
    assert(zone_bytes == 0 || bytes / zone_bytes * sizeof(uint64_t) <= PAGE_BYTES);
    return machine;
}

void machine_restart(struct machine *machine, uint64_t seed)
{
    struct pending_io *pending;
    while ((pending = next_io(machine)) != NULL) {
        if (pending->io->op == DISK_FLUSH) /* nobody can know that it ended */
            *pending = machine->pending[--machine->pending_count];
        else
            (void)finish(machine, pending);
    }
    reactor_drop(&machine->reactor);
    mem_heap_destroy(machine->reactor.heap);
    machine->reactor.heap = mem_heap_new(true);
    machine->now_ns = NS_PER_S;
    random_init(&machine->random, seed);
    if (machine->zone_pages)
        open_zones(machine);
}

void machine_free(struct machine *machine)
{
    machine_restart(machine, 0);
    reactor_fini(&machine->reactor);
    mem_heap_destroy(machine->reactor.heap);
    mem_free(machine->pending);
    mem_free(machine->dirty_list);
    mem_free(machine->dirty);
    mem_free(machine->content);
    mem_free(machine);
}

static void body(void *arg)
{
    struct machine *machine = arg;
    machine->body(machine->arg);
    machine->done = true;
}

/* One thing happens: a turn, a completion, or time passes to the next timer. False: nothing can. */
static bool step(struct machine *machine)
{
    struct pending_io *pending = next_io(machine);
    uint64_t deadline_ns = reactor_next_deadline(&machine->reactor);
    struct reactor_scope before = reactor_enter(&machine->reactor);
    bool alive = true;
    bool runnable = reactor_runnable(&machine->reactor);
    uint64_t next_ns = runnable ? machine->now_ns : deadline_ns; /* 0: never */
    if (pending && (next_ns == 0 || pending->at_ns <= next_ns)) {
        machine->now_ns = MAX(machine->now_ns, pending->at_ns);
        struct disk_io *io = finish(machine, pending);
        io->done(io);
    } else if (runnable) {
        machine->now_ns += TURN_NS;
    } else if (deadline_ns != 0) {
        machine->now_ns = MAX(machine->now_ns, deadline_ns);
    } else {
        alive = false;
    }
    if (alive)
        reactor_turn(&machine->reactor);
    reactor_leave(before);
    return alive;
}

bool machine_run(struct machine *machine, fiber_fn fn, void *arg)
{
    machine->body = fn;
    machine->arg = arg;
    machine->done = false;
    uint64_t until_ns = machine->now_ns + GIVE_UP_NS;
    reactor_spawn(&machine->reactor, "crash-test", body, machine);
    while (!machine->done && machine->now_ns < until_ns)
        if (!step(machine))
            return false;
    return machine->done;
}
