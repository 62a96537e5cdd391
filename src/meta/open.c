/* SPDX-License-Identifier: MIT */
#include "meta/open.h"

#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include "meta/reaper.h"

/* A session that has something open here. */
struct meta_session {
    struct htable_node node; /* in service->sessions */
    struct meta_service *service;
    uint64_t id;
    struct list opens;
    struct timer timer; /* armed while it has no connection */
};

struct meta_open {
    struct htable_node node; /* in mg->opens, by inode */
    struct list link;        /* in session->opens */
    struct meta_group *mg;
    struct meta_session *session;
    uint64_t ino;
    uint64_t id;
};

static struct meta_session *session_find(const struct meta_service *service, uint64_t id)
{
    struct htable_node *node;
    for (node = htable_first(&service->sessions, hash_u64(id)); node; node = htable_next(node)) {
        struct meta_session *session = container_of(node, struct meta_session, node);
        if (session->id == id)
            return session;
    }
    return NULL;
}

static void session_free(struct meta_session *session)
{
    assert(list_empty(&session->opens));
    timer_cancel(&session->timer);
    htable_remove(&session->service->sessions, &session->node);
    mem_free(session);
}

static void open_free(struct meta_open *open)
{
    list_remove(&open->link);
    htable_remove(&open->mg->opens, &open->node);
    mem_free(open);
}

static void session_expired(struct timer *timer)
{
    struct meta_session *session = container_of(timer, struct meta_session, timer);
    struct list *link;
    uint32_t count = 0;
    while ((link = list_pop_front(&session->opens))) {
        struct meta_open *open = list_entry(link, struct meta_open, link);
        struct meta_group *mg = open->mg;
        open_free(open);
        meta_reaper_kick(mg);
        count++;
    }
    if (count > 0)
        log_info("meta-session-gone", "session=%llx open_files=%u", (unsigned long long)session->id,
                 count);
    session_free(session);
}

static struct meta_session *session_take(struct meta_service *service, uint64_t id)
{
    struct meta_session *session = session_find(service, id);
    if (session)
        return session;
    session = mem_zalloc(sizeof *session);
    session->service = service;
    session->id = id;
    list_init(&session->opens);
    timer_init(&session->timer, session_expired);
    htable_insert(&service->sessions, &session->node, hash_u64(id));
    return session;
}

void meta_session_touch(struct meta_service *service, uint64_t id)
{
    struct meta_session *session = session_find(service, id);
    if (session)
        timer_cancel(&session->timer);
}

void meta_session_closed(struct meta_service *service, uint64_t id)
{
    struct meta_session *session = session_find(service, id);
    if (session)
        timer_arm(&session->timer, env_now_ns() + META_SESSION_GRACE_NS);
}

static struct meta_open *open_find(const struct meta_group *mg, uint64_t session, uint64_t ino,
                                   uint64_t open_id)
{
    struct htable_node *node;
    for (node = htable_first(&mg->opens, hash_u64(ino)); node; node = htable_next(node)) {
        struct meta_open *open = container_of(node, struct meta_open, node);
        if (open->ino == ino && open->id == open_id && open->session->id == session)
            return open;
    }
    return NULL;
}

uint64_t meta_open_add(struct meta_group *mg, uint64_t session, uint64_t ino, uint64_t wanted)
{
    assert(!mg->dead);
    if (wanted && open_find(mg, session, ino, wanted))
        return wanted;
    struct meta_open *open = mem_zalloc(sizeof *open);
    open->mg = mg;
    open->session = session_take(mg->service, session);
    open->ino = ino;
    open->id = wanted ? wanted : random_u64(&mg->random) | 1;
    list_push_back(&open->session->opens, &open->link);
    htable_insert(&mg->opens, &open->node, hash_u64(ino));
    return open->id;
}

void meta_open_remove(struct meta_group *mg, uint64_t session, uint64_t ino, uint64_t open_id)
{
    struct meta_open *open = open_find(mg, session, ino, open_id);
    if (!open)
        return;
    struct meta_session *owner = open->session;
    open_free(open);
    if (list_empty(&owner->opens))
        session_free(owner);
    if (!list_empty(&mg->orphans) && !meta_open_any(mg, ino))
        meta_reaper_kick(mg);
}

bool meta_open_any(const struct meta_group *mg, uint64_t ino)
{
    struct htable_node *node;
    for (node = htable_first(&mg->opens, hash_u64(ino)); node; node = htable_next(node)) {
        if (container_of(node, struct meta_open, node)->ino == ino)
            return true;
    }
    return false;
}

void meta_open_forget(struct meta_group *mg)
{
    struct htable_node *node;
    assert(mg->dead);
    while ((node = htable_walk(&mg->opens, NULL))) {
        struct meta_open *open = container_of(node, struct meta_open, node);
        struct meta_session *session = open->session;
        open_free(open);
        if (list_empty(&session->opens))
            session_free(session);
    }
}
