/* SPDX-License-Identifier: MIT */
#ifndef CFS_CLIENT_FAKE_SERVER_TEST_H
#define CFS_CLIENT_FAKE_SERVER_TEST_H

/* Servers for tests of the client: two nodes that share one namespace in the test's memory, as if
 * perfectly replicated, and a map that the test changes at will. What a server would compute is
 * computed in the plainest way; what matters here is what the client asks, and how often. */

#include "client/client.h"
#include "env/sim.h"

enum {
    FAKE_INODES = 64,
    FAKE_NAMES = 256,
    FAKE_DATA_BYTES = 9 << 20, /* per file; two objects and a bit */
    FAKE_FILES = 6,            /* inodes that may have data */
    FAKE_META_GROUP = 1,
    FAKE_DATA_GROUP_A = 2, /* objects of even hash */
    FAKE_DATA_GROUP_B = 3,
};

struct fake_name {
    uint64_t dir;
    uint64_t ino; /* 0: free */
    char text[META_NAME_MAX + 1];
    uint32_t bytes;
};

struct fake_fault {
    uint32_t skip;  /* let so many requests pass first */
    uint32_t count; /* then fail so many */
    int error;      /* with this */
    bool after;     /* after having done what was asked: a lost reply */
};

struct fake {
    struct sim *sim;
    struct sim_node *server[2];
    struct sim_node *client_node;
    struct wire_attr inodes[FAKE_INODES + 1];
    struct fake_name names[FAKE_NAMES];
    char targets[FAKE_INODES + 1][256];
    uint8_t *data[FAKE_INODES + 1]; /* FAKE_DATA_BYTES each, or NULL */
    uint32_t files;
    struct {
        uint64_t seq;
        int status;
        uint64_t ino;
        uint64_t open_id;
    } slots[META_SLOTS_PER_SESSION];
    struct fake_fault faults[RPC_TYPE_MAX + 1];
    uint32_t calls[RPC_TYPE_MAX + 1];   /* requests that arrived */
    uint32_t applied[RPC_TYPE_MAX + 1]; /* mutations that happened */
    struct wire_obj_req changes[4];     /* the last OBJ_WRITE and OBJ_PUNCH that arrived */
    uint32_t opens;                     /* registered now */
    uint32_t wrong_crcs;                /* of OBJ_WRITE */
    uint32_t flip_reads;                /* so many OBJ_READ replies get a flipped bit */
    uint32_t suspects;                  /* reported by the client */
    uint64_t open_ids[256];             /* registered now; 0: free */
    uint64_t xattr_ino;
    char xattr_name[64];
    char xattr_value[64];
    uint32_t xattr_bytes;
    /* the map */
    struct map_header header;
    struct map_node nodes[2];
    struct map_group groups[3];
    uint32_t meta_slots[MAP_META_SLOTS];
    struct map_view view;
};

extern struct fake fake;

/* A fresh world with both servers up and the root directory. */
void fake_start(uint64_t seed);
void fake_free(void);
/* Name a group's primary (node id 1 or 2) in a new map. */
void fake_set_primary(uint32_t group, uint32_t node);
/* Start a server's fibers (again, after a restart). */
void fake_server_spawn(uint32_t index);
/* A client with options, on the client node: call from a fiber there. */
may_yield struct client *fake_client(const struct client_options *options);
/* Run body in a fiber of the client node until it returns, or fail after a virtual hour. */
void fake_run(void (*body)(void));
/* The same; step is called from outside all fibers each 5 ms of virtual time meanwhile. */
void fake_run_with(void (*body)(void), void (*step)(void));

/* In bodies: record a failure instead of unwinding through fibers; fake_run asserts
 * that there is none. */
#define CHECK(condition) fake_check((condition), #condition, __FILE__, __LINE__)
void fake_check(bool condition, const char *text, const char *file, int line);

extern const struct client_cred fake_cred;

#endif
