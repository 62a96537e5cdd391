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
 * M2  A write is durable once a flush has completed that was submitted after the write completed.
 *     Until then each of its sectors may be on the medium, or not.
 */
#include "machine.h"

#include <string.h>

#include "base/assert.h"

enum { TURN_NS = 1000 };
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
    *write = (struct trace_write){.page = io->offset / PAGE_BYTES,
                                  .pages = io->bytes / PAGE_BYTES,
                                  .discard = io->op == DISK_DISCARD,
                                  .data = mem_zalloc(io->bytes),
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
    assert(io->op == DISK_DISCARD || memcmp(write->data, io->data, io->bytes) == 0); /* M1 */
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
    /* M2 */
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

static void perform(struct machine *machine, struct disk_io *io)
{
    io->result = 0;
    for (uint32_t at = 0; at < io->bytes && io->op != DISK_FLUSH; at += PAGE_BYTES) {
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
        return (20 + 20 * spread) * NS_PER_US;
    case DISK_FLUSH:
        return (100 + 100 * spread) * NS_PER_US;
    case DISK_SEAL:
        break; /* of zones; this device has none */
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

struct machine *machine_new(uint64_t bytes)
{
    assert(bytes % (64 * PAGE_BYTES) == 0);
    struct machine *machine = mem_zalloc(sizeof *machine);
    machine->pages = bytes / PAGE_BYTES;
    machine->content = mem_zalloc(bytes);
    machine->dirty = mem_zalloc(machine->pages / 8);
    machine->dirty_list = mem_alloc(machine->pages * sizeof *machine->dirty_list);
    reactor_init(&machine->reactor, &backend, mem_heap_new(true));
    machine->disk.reactor = &machine->reactor;
    machine->disk.info = (struct disk_info){.size_bytes = bytes, .kind = "crash", .path = "crash"};
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
