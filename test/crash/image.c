/* SPDX-License-Identifier: MIT */
/* Which images to try at a crash point.
 *
 * A point lies between two events of the trace. Writes are durable there (M2), or *loose*: their
 * sectors may be on the medium or not, in any combination, whatever order they were submitted in.
 * The number of combinations is astronomic, so variants are chosen:
 *
 *   systematic   few loose writes: all subsets. Many: none, all, each alone, each missing, each
 *                prefix, each suffix in order of effect.
 *   torn         a subset of one of four kinds, in which one or several writes are torn at page or
 *                sector size: first part, last part, one hole, or a random half.
 *   overlaid     loose writes to the same page take effect in the other order.
 *
 * On a zoned device each zone holds what a prefix of the requests to it made of it, the last write
 * of them perhaps cut off at a page or sector; a reset or finish has happened or not. Zones are
 * independent of each other. So of any choice, what comes in a zone behind the first loss is lost.
 *
 * V1  A variant number means the same image in every run: a failure is replayed by its numbers.
 * V2  The hash is over the whole device: the sum over pages of a hash of number and content, kept
 *     up to date page by page.
 */
#include "image.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/hash.h"
#include "format/disk_store.h"

enum { SUBSETS_ALL = 5, MASK_ALL = 0xff };

static uint64_t hash_page(uint64_t page, const uint8_t *content)
{
    return hash_bytes(content, PAGE_BYTES, page);
}

void images_init(struct images *images, struct machine *machine, uint8_t *base,
                 const struct trace *trace, uint64_t seed)
{
    *images = (struct images){.trace = trace, .machine = machine, .base = base, .seed = seed};
    machine_restore(machine, base);
    images->page_hash = mem_alloc(machine->pages * sizeof *images->page_hash);
    for (uint64_t i = 0; i < machine->pages; i++) {
        images->page_hash[i] = hash_page(i, base + i * PAGE_BYTES);
        images->base_hash += images->page_hash[i];
    }
    images->loose = mem_alloc((trace->write_count + 1) * sizeof *images->loose);
    if (machine->zone_pages)
        images->zones_cut = mem_alloc(machine->pages / machine->zone_pages);
    images->point = UINT32_MAX;
}

void images_fini(struct images *images)
{
    mem_free(images->base);
    mem_free(images->page_hash);
    mem_free(images->loose);
    mem_free(images->pieces);
    mem_free(images->zones_cut);
    *images = (struct images){0};
}

/* ---- points ---- */

/* In how many pieces it may survive. */
static uint32_t pieces_of(const struct trace_write *write)
{
    return MAX(write->pages, 1u); /* a seal has no pages */
}

/* Put the piece on the medium. */
static void apply(struct machine *machine, const struct trace_write *write,
                  const struct piece *piece)
{
    uint64_t page = write->page + piece->page;
    if (write->pages > 0)
        machine_poke(machine, page, write->data + piece->page * PAGE_BYTES, piece->mask);
    if (machine->zone_pages == 0)
        return;
    uint64_t zone_bytes = (uint64_t)machine->zone_pages * PAGE_BYTES;
    uint64_t written =
        page * PAGE_BYTES % zone_bytes + (uint64_t)__builtin_popcount(piece->mask) * SECTOR_BYTES;
    if (write->op != DISK_WRITE)
        written = write->op == DISK_SEAL ? zone_bytes : 0;
    machine_zone_set(machine, page, written);
}

/* What is in the machine now is the base. */
static void base_take(struct images *images)
{
    struct machine *machine = images->machine;
    for (uint32_t i = 0; i < machine->dirty_count; i++) {
        uint64_t page = machine->dirty_list[i];
        uint8_t *place = images->base + page * PAGE_BYTES;
        memcpy(place, machine->content + page * PAGE_BYTES, PAGE_BYTES);
        images->base_hash -= images->page_hash[page];
        images->page_hash[page] = hash_page(page, place);
        images->base_hash += images->page_hash[page];
    }
    machine_settle(machine);
}

/* Does the event make anything durable? */
static bool settles(const struct trace *trace, const struct event *event)
{
    return event->kind == EVENT_FLUSHED ||
           (event->kind == EVENT_WRITTEN && trace->writes[event->index].durable);
}

/* M2: no loose write may overlay this durable one. */
static void check_apart(const struct images *images, const struct trace_write *durable)
{
    for (uint32_t i = 0; i < images->loose_count; i++) {
        const struct trace_write *write = &images->trace->writes[images->loose[i]];
        assert(write == durable || write->page >= durable->page + durable->pages ||
               durable->page >= write->page + write->pages);
    }
}

/* This event settles what was loose at the point before. */
static void make_durable(struct images *images, uint32_t event)
{
    const struct trace *trace = images->trace;
    if (trace->events[event].kind == EVENT_WRITTEN)
        check_apart(images, &trace->writes[trace->events[event].index]);
    machine_restore(images->machine, images->base);
    for (uint32_t i = 0; i < images->loose_count; i++) {
        const struct trace_write *write = &trace->writes[images->loose[i]];
        for (uint32_t p = 0; p < pieces_of(write) && write->durable_after == event; p++)
            apply(images->machine, write, &(struct piece){images->loose[i], p, MASK_ALL});
    }
    base_take(images);
}

/* Completed ones in order of completion, then those in flight. */
static int by_effect(const struct trace *trace, uint32_t a, uint32_t b)
{
    const struct trace_write *left = &trace->writes[a], *right = &trace->writes[b];
    if (left->written != right->written)
        return left->written < right->written ? -1 : 1;
    return a < b ? -1 : 1;
}

static void find_loose(struct images *images)
{
    const struct trace *trace = images->trace;
    images->loose_count = 0;
    for (uint32_t i = 0; i < trace->write_count; i++) {
        const struct trace_write *write = &trace->writes[i];
        bool durable = write->durable_after != UINT32_MAX && write->durable_after < images->point;
        if (write->submitted >= images->point || durable)
            continue;
        uint32_t at = images->loose_count++;
        for (; at > 0 && by_effect(trace, i, images->loose[at - 1]) < 0; at--)
            images->loose[at] = images->loose[at - 1];
        images->loose[at] = i;
    }
}

bool images_next(struct images *images)
{
    const struct trace *trace = images->trace;
    struct mark before = images->mark;
    if (images->point == trace->event_count)
        return false;
    for (bool news = false; !news;) {
        images->point++; /* from UINT32_MAX to 0 at first */
        news = images->point == 0 || images->point == trace->event_count;
        if (images->point > 0) {
            const struct event *event = &trace->events[images->point - 1];
            news |= event->kind == EVENT_WRITE || settles(trace, event);
            if (settles(trace, event))
                make_durable(images, images->point - 1);
        }
        images->mark =
            images->point < trace->event_count ? trace->events[images->point].before : trace->end;
        news |= images->mark.promised != before.promised;
    }
    find_loose(images);
    return true;
}

/* ---- variants ---- */

static uint32_t subsets(const struct images *images)
{
    uint32_t count = images->loose_count;
    return count <= SUBSETS_ALL ? 1u << count : 2 + 4 * count;
}

/* Is loose write number index in the systematic subset? 0: none is, 1: all are. */
static bool in_subset(const struct images *images, uint32_t subset, uint32_t index)
{
    uint32_t count = images->loose_count;
    if (subset < 2)
        return subset == 1;
    if (count <= SUBSETS_ALL)
        return (subset - 1) & (1u << index);
    uint32_t which = (subset - 2) / 4;
    switch ((subset - 2) % 4) {
    case 0:
        return index == which;
    case 1:
        return index != which;
    case 2:
        return index <= which;
    default:
        return index >= which;
    }
}

static void keep(struct images *images, uint32_t write, uint32_t page, uint8_t mask)
{
    if (mask == 0)
        return;
    if (images->piece_count == images->piece_room) {
        images->piece_room = MAX(2 * images->piece_room, 256u);
        images->pieces = mem_realloc(images->pieces, images->piece_room * sizeof *images->pieces);
    }
    images->pieces[images->piece_count++] = (struct piece){write, page, mask};
}

static void keep_whole(struct images *images, uint32_t write)
{
    for (uint32_t i = 0; i < pieces_of(&images->trace->writes[write]); i++)
        keep(images, write, i, MASK_ALL);
}

enum tear { TEAR_FIRST, TEAR_LAST, TEAR_HOLE, TEAR_RANDOM, TEAR_KINDS };

/* Does unit number at of units survive? where: the cut, or the hole. */
static bool unit_survives(enum tear tear, uint32_t at, uint32_t where, struct random *random)
{
    switch (tear) {
    case TEAR_FIRST:
        return at < where;
    case TEAR_LAST:
        return at >= where;
    case TEAR_HOLE:
        return at != where;
    case TEAR_RANDOM:
        return random_chance(random, 1, 2);
    case TEAR_KINDS:
        break;
    }
    WRONG("kind of tear");
}

static void keep_torn(struct images *images, uint32_t write, struct random *random)
{
    uint32_t pages = images->trace->writes[write].pages;
    enum tear tear = (enum tear)random_below(random, TEAR_KINDS);
    if (images->zones_cut)
        tear = TEAR_FIRST;
    bool sectors = pages == 1 || random_chance(random, 1, 2);
    uint32_t unit = sectors ? PAGE_SECTORS : 1, units = pages * unit;
    uint32_t where = 1 + (uint32_t)random_below(random, units - 1);
    if (tear == TEAR_HOLE && random_chance(random, 1, 4))
        where = 0;
    for (uint32_t page = 0; page < pages; page++) {
        uint8_t mask = 0;
        for (uint32_t i = 0; i < PAGE_SECTORS; i++) {
            bool fresh = sectors || i == 0; /* a page is torn as a whole, or by sector */
            bool survives =
                fresh ? unit_survives(tear, sectors ? page * unit + i : page, where, random)
                      : (mask & 1);
            mask |= (uint8_t)(survives << i);
        }
        keep(images, write, page, mask);
    }
}

enum fate { FATE_LOST, FATE_TORN, FATE_WHOLE };

static void decide(struct images *images, uint32_t index, enum fate fate, struct random *random)
{
    const struct trace_write *write = &images->trace->writes[index];
    if (images->zones_cut) {
        bool *cut = &images->zones_cut[write->page / images->machine->zone_pages];
        if (*cut || (fate == FATE_TORN && write->op != DISK_WRITE))
            fate = FATE_LOST;
        *cut |= fate != FATE_WHOLE;
    }
    if (fate == FATE_WHOLE)
        keep_whole(images, index);
    else if (fate == FATE_TORN)
        keep_torn(images, index, random);
}

/* Swap the order of effect: only pages that several loose writes share notice. */
static void reverse(struct images *images)
{
    for (uint32_t i = 0; i < images->piece_count / 2; i++) {
        struct piece other = images->pieces[i];
        images->pieces[i] = images->pieces[images->piece_count - 1 - i];
        images->pieces[images->piece_count - 1 - i] = other;
    }
}

static void compose_torn(struct images *images, struct random *random)
{
    uint32_t count = images->loose_count;
    uint32_t kind = (uint32_t)random_below(random, 4);
    uint32_t chosen = (uint32_t)random_below(random, count);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t write = images->loose[i];
        bool whole = false, torn = i == chosen;
        if (kind == 0) /* in order, up to here */
            whole = i < chosen;
        else if (kind == 1) /* all others */
            whole = i != chosen;
        else if (kind == 2) /* some others */
            whole = random_chance(random, 1, 2);
        else /* several torn */
            torn = torn || random_chance(random, 1, 2), whole = random_chance(random, 1, 2);
        decide(images, write, torn ? FATE_TORN : whole ? FATE_WHOLE : FATE_LOST, random);
    }
    if (!images->zones_cut && random_chance(random, 1, 8))
        reverse(images);
}

uint32_t images_variants(const struct images *images, uint32_t most)
{
    return images->loose_count == 0 ? 1 : most;
}

void images_compose(struct images *images, uint32_t variant)
{
    enum { SYSTEMATIC_MAX = 32 };
    struct random random;
    random_init(&random, hash_u64(images->seed + images->point) ^ hash_u64(variant + 1));
    uint32_t all = subsets(images), systematic = MIN(all, (uint32_t)SYSTEMATIC_MAX);
    images->piece_count = 0;
    if (images->loose_count == 0)
        return;
    if (images->zones_cut)
        memset(images->zones_cut, 0, images->machine->pages / images->machine->zone_pages);
    /* Both kinds in turn, so that few variants hold some of each. */
    uint32_t subset = variant / 2;
    if (variant % 2 == 1 || subset >= systematic) {
        compose_torn(images, &random);
        return;
    }
    if (subset >= 2 && all > systematic)
        subset = 2 + (uint32_t)random_below(&random, all - 2);
    for (uint32_t i = 0; i < images->loose_count; i++)
        decide(images, images->loose[i], in_subset(images, subset, i) ? FATE_WHOLE : FATE_LOST,
               &random);
}

uint64_t images_load(struct images *images)
{
    struct machine *machine = images->machine;
    machine_restore(machine, images->base);
    for (uint32_t i = 0; i < images->piece_count; i++) {
        const struct piece *piece = &images->pieces[i];
        apply(machine, &images->trace->writes[piece->write], piece);
    }
    uint64_t hash = images->base_hash; /* V2 */
    for (uint32_t i = 0; i < machine->dirty_count; i++) {
        uint64_t page = machine->dirty_list[i];
        hash += hash_page(page, machine->content + page * PAGE_BYTES) - images->page_hash[page];
    }
    return hash;
}

/* ---- for people ---- */

static void name_write(const struct trace_write *write, FILE *to)
{
    uint32_t magic;
    uint64_t super;
    if (write->op != DISK_WRITE) {
        fprintf(to, write->op == DISK_SEAL ? "zone finish" : "discard or zone reset");
        return;
    }
    memcpy(&magic, write->data, sizeof magic);
    memcpy(&super, write->data, sizeof super);
    const struct disk_journal_entry *entry = (const void *)write->data;
    if (super == DISK_SUPER_MAGIC) {
        fprintf(to, "superblock %llu",
                (unsigned long long)((const struct disk_superblock *)(const void *)write->data)
                    ->sequence);
    } else if (magic == DISK_JOURNAL_SEGMENT_MAGIC) {
        entry = (const void *)(write->data + PAGE_BYTES);
        fprintf(to, "journal segment head");
        if (write->pages > 1)
            fprintf(to, " and entry lsn %llu+%u", (unsigned long long)entry->lsn, entry->count);
    } else if (magic == DISK_JOURNAL_ENTRY_MAGIC) {
        fprintf(to, "journal entry lsn %llu+%u (knows %llu durable)",
                (unsigned long long)entry->lsn, entry->count,
                (unsigned long long)entry->flushed_lsn);
    } else if (magic == DISK_TREE_MAGIC) {
        fprintf(to, "tree nodes");
    } else {
        fprintf(to, "data or segment table");
    }
}

void images_describe(const struct images *images, FILE *to)
{
    const struct trace *trace = images->trace;
    fprintf(to, "  power lost before event %u of %u; of %u writes not durable by then:\n",
            images->point, trace->event_count, images->loose_count);
    for (uint32_t i = 0; i < images->loose_count; i++) {
        const struct trace_write *write = &trace->writes[images->loose[i]];
        uint32_t whole = 0, parts = 0;
        for (uint32_t p = 0; p < images->piece_count; p++) {
            whole +=
                images->pieces[p].write == images->loose[i] && images->pieces[p].mask == MASK_ALL;
            parts +=
                images->pieces[p].write == images->loose[i] && images->pieces[p].mask != MASK_ALL;
        }
        fprintf(to, "    write %u, page %llu+%u%s: ", images->loose[i],
                (unsigned long long)write->page, write->pages,
                write->written < images->point ? "" : " (in flight)");
        name_write(write, to);
        if (whole == pieces_of(write))
            fprintf(to, ": there\n");
        else if (whole + parts == 0)
            fprintf(to, ": MISSING\n");
        else
            fprintf(to, ": TORN, %u pages whole, %u in part\n", whole, parts);
    }
}
