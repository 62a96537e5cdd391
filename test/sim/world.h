/* SPDX-License-Identifier: MIT */
#ifndef CFS_TEST_SIM_WORLD_H
#define CFS_TEST_SIM_WORLD_H

/* One seed's world: a cluster, clients that work on it, damage, and what is remembered to judge it
 * by. */

#include "base/random.h"
#include "cluster_fsck.h"
#include "files.h"
#include "load_append.h"
#include "names.h"
#include "scenario.h"
#include "stalls.h"

struct world;

struct world_client {
    struct world *world;
    struct sim_node *host;
    uint32_t index;
    struct client *client;            /* on the host's heap */
    uint32_t todo[LOAD_KINDS];        /* operations left; survive a crash of the host */
    struct client_file *files[FILES]; /* of LOAD_FILES; on the host's heap */
    uint32_t running;                 /* fibers */
    uint32_t lives;                   /* how often the host was started */
};

enum { DURABLE_FILES = 5 };

/* A file of LOAD_DURABLE. Stamps of its writes grow. */
struct durable {
    uint32_t last;      /* written, perhaps */
    uint32_t synced;    /* its fsync succeeded */
    uint32_t blackouts; /* how many there had been when the last write was acknowledged */
    bool exact;         /* the last write was acknowledged, and nothing can have been lost */
};

enum { ENTRY_DIRS = 2, ENTRY_NAMES = 4, ENTRIES = ENTRY_DIRS * ENTRY_NAMES, ENTRY_VALUES_MAX = 16 };

/* A name of LOAD_ENTRIES. */
struct entry {
    uint64_t values[ENTRY_VALUES_MAX]; /* inodes that it may stand for, the newest last; 0: none */
    uint32_t count;
    uint32_t changes;   /* of values */
    uint32_t blackouts; /* how many there had been when the newest change was acknowledged */
    bool anything;      /* there were too many values */
    bool sure;          /* the newest change was acknowledged, and no sync has failed since */
};

enum { FILL_FILES = 16, FILL_PIECES_MAX = 8 };

/* A file of LOAD_FILL. */
struct fill {
    uint32_t stamp;   /* 0: there is none */
    uint32_t written; /* pieces */
    uint32_t tried;   /* so many may be there */
    bool leaves;      /* its removal has been asked for */
};

struct world {
    struct scenario scenario;
    struct random random; /* the choices of loads and atlas */
    struct cluster cluster;
    struct sim_node *director; /* its host; never damaged */
    struct client *client;     /* the director's */
    struct map_client *map;
    struct world_client clients[SCENARIO_CLIENTS_MAX];
    struct names_history names;
    struct files_history files;
    uint64_t file_inos[FILES];
    struct appends appends;
    uint32_t scratches;
    struct durable durable[SCENARIO_CLIENTS_MAX][DURABLE_FILES];
    uint64_t durable_dirs[SCENARIO_CLIENTS_MAX];
    struct entry entries[SCENARIO_CLIENTS_MAX][ENTRIES];
    uint64_t entry_dirs[SCENARIO_CLIENTS_MAX][ENTRY_DIRS];
    uint32_t entry_lives[SCENARIO_CLIENTS_MAX]; /* of the client that made the last changes */
    struct fill fills[SCENARIO_CLIENTS_MAX][FILL_FILES];
    uint32_t fill_stamp;
    uint32_t refusals;        /* for want of space */
    uint64_t fill_free_bytes; /* before all */
    struct stalls stalls;
    uint32_t blackouts;
    uint32_t syncs;    /* fsyncs of clients that succeeded */
    uint32_t given_up; /* 1 + index of a node that is not started again, or 0 */
    bool wants_node;   /* from the main loop: one more */
    uint64_t ops;      /* by all clients */
    bool more;         /* clients wait for more to do when they have done all */
    bool stop;         /* clients start nothing new */
    bool done;
    bool failed;
    bool trace;
};

struct world_result {
    bool failed;
    uint64_t hash;
    uint64_t virtual_ns;
    uint64_t ops;
    uint64_t longest_ns; /* of stalls.h */
    uint32_t undecided;  /* histories too hard to judge */
};

/* Run a scenario from the start to the verdict; what is wrong is printed. */
void world_run(const struct scenario *scenario, bool trace, struct world_result *ret_result);

/* The run has failed: print why; the first time counts. */
void world_fail(struct world *world, const char *format, ...) printf_like(2, 3);
/* A line of the trace, if there is one. */
void world_tell(struct world *world, const char *format, ...) printf_like(2, 3);

/* The newest map the director knows. */
void world_print_map(struct world *world);

/* Look at all that must be there. Fails the run if it is not. */
may_yield void world_look(struct world *world);
/* Is a node (by index) one of the map group, as far as the director knows? */
bool world_is_voter(const struct world *world, uint32_t node);

/* Is it the answer of a full disk, where that may be? */
bool world_is_full(struct world *world, int result);

uint64_t world_now_ns(const struct world *world);
/* A number below bound, from the world's own sequence. */
uint32_t world_below(struct world *world, uint32_t bound);
uint64_t world_between(struct world *world, uint64_t min, uint64_t max);

extern const struct client_cred world_root;

/* Start a client's fibers on its (living) host. */
void world_client_start(struct world_client *client);

/* Wait until all copies are in sync on living nodes; restarts nodes whose process has ended. False
 * if it takes longer than scenario's bound: then the run has failed. */
may_yield bool world_wait_whole(struct world *world);
/* Sleep, restarting nodes whose process has ended. */
may_yield void world_hold(struct world *world, uint64_t duration_ns);

/* For a load's setup: make the directories prefix0, prefix1, ... in the root and sync them. */
may_yield void world_durable_dirs(struct world *world, const char *prefix, uint32_t count,
                                  uint64_t *ret_inos);

/* ---- loads (load_*.c) -------------------------------------------------------------------- */

struct load { /* setup, finish and check may be NULL */
    const char *name;
    may_yield void (*setup)(struct world *world);        /* by the director, before clients start */
    may_yield void (*step)(struct world_client *client); /* one operation */
    may_yield void (*finish)(struct world *world); /* by the director, after the last one: look */
    uint32_t (*check)(struct world *world);        /* outside fibers; histories undecided */
};
extern const struct load load_names, load_files, load_append, load_scratch, load_durable, load_fill,
    load_entries;

/* ---- damage (atlas.c) -------------------------------------------------------------------- */

/* All episodes of the scenario; at the end nothing is damaged any more. In the director's fiber. */
may_yield void atlas_run(struct world *world);
/* All nodes at once (blackout.c); returns when all are started again. The same fiber. */
may_yield void blackout_run(struct world *world);

#endif
