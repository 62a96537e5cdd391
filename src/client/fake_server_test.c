/* SPDX-License-Identifier: MIT */
#include "client/fake_server_test.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/crc32c.h"
#include "base/mem.h"

struct fake fake;
const struct client_cred fake_cred = {.uid = 1000, .gid = 1000, .checked = true};

/* A world is dropped with fibers still waiting in it; buffers they hold are not the node's heap. */
__attribute__((visibility("default"))) const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "detect_leaks=0";
}

struct map_client {
    uint32_t pokes;
};
static struct map_client map_now;

static char failure[512];

void fake_check(bool condition, const char *text, const char *file, int line)
{
    if (!condition && !failure[0])
        snprintf(failure, sizeof failure, "%s:%d: %s", file, line, text);
}

/* ---- the map ----------------------------------------------------------------------------- */

struct map_view *map_client_view(struct map_client *client)
{
    return &fake.view;
}

int map_client_wait_newer(struct map_client *client, uint64_t version, uint64_t deadline_ns)
{
    while (fake.header.version <= version) {
        if (deadline_ns && env_now_ns() >= deadline_ns)
            return -ERR_TIMED_OUT;
        fiber_sleep(NS_PER_MS);
    }
    return 0;
}

void map_client_poke(struct map_client *client)
{
    client->pokes++;
}

void map_client_suspect(struct map_client *client, uint32_t node, uint64_t incarnation)
{
    fake.suspects++;
}

void fake_set_primary(uint32_t group, uint32_t node)
{
    fake.groups[group - 1].primary = node;
    fake.groups[group - 1].epoch++;
    fake.header.version++;
}

static void map_init(void)
{
    fake.header =
        (struct map_header){.version = 1, .node_count = 2, .group_count = 3, .meta_groups = 1};
    for (uint32_t i = 0; i < 2; i++) {
        struct net_addr addr;
        char text[32];
        snprintf(text, sizeof text, "10.0.0.%u:7000", i + 1);
        assert(net_addr_parse(text, &addr) == 0);
        fake.nodes[i] = (struct map_node){.id = i + 1, .state = MAP_NODE_UP, .port = addr.port};
        memcpy(fake.nodes[i].ip, addr.ip, sizeof addr.ip);
    }
    for (uint32_t i = 0; i < 3; i++)
        fake.groups[i] = (struct map_group){
            .id = i + 1,
            .kind = i ? MAP_GROUP_DATA : MAP_GROUP_META,
            .epoch = 1,
            .primary = i == 2 ? 2 : 1,
            .member_count = 2,
            .members = {{1, MAP_MEMBER_IN_SYNC}, {2, MAP_MEMBER_IN_SYNC}},
        };
    for (uint32_t i = 0; i < MAP_META_SLOTS; i++)
        fake.meta_slots[i] = FAKE_META_GROUP;
    fake.view =
        (struct map_view){&fake.header, fake.nodes, fake.groups, fake.meta_slots, .refs = 1};
}

/* ---- the namespace ----------------------------------------------------------------------- */

static struct wire_attr *inode_of(uint64_t ino)
{
    return ino >= 1 && ino <= FAKE_INODES && fake.inodes[ino].ino ? &fake.inodes[ino] : NULL;
}

static struct fake_name *name_find(uint64_t dir, struct slice name)
{
    for (uint32_t i = 0; i < FAKE_NAMES; i++) {
        struct fake_name *row = &fake.names[i];
        if (row->ino && row->dir == dir && row->bytes == name.bytes &&
            memcmp(row->text, name.data, name.bytes) == 0)
            return row;
    }
    return NULL;
}

static void name_add(uint64_t dir, struct slice name, uint64_t ino)
{
    for (uint32_t i = 0; i < FAKE_NAMES; i++) {
        struct fake_name *row = &fake.names[i];
        if (row->ino)
            continue;
        *row = (struct fake_name){.dir = dir, .ino = ino, .bytes = name.bytes};
        memcpy(row->text, name.data, name.bytes);
        return;
    }
    WRONG("fake is full");
}

static struct wire_attr *inode_new(uint32_t mode)
{
    for (uint64_t ino = 1; ino <= FAKE_INODES; ino++) {
        if (fake.inodes[ino].ino)
            continue;
        fake.inodes[ino] = (struct wire_attr){
            .ino = ino,
            .mode = mode,
            .nlink = 1,
            .change = 1,
            .uid = 1000,
            .gid = 1000,
            .flags = S_ISREG(mode) ? ATTR_INLINE : 0,
        };
        if (S_ISREG(mode)) {
            assert(fake.files < FAKE_FILES);
            fake.files++;
            struct mem_heap *heap = mem_heap_set(NULL);
            fake.data[ino] = mem_zalloc(FAKE_DATA_BYTES);
            mem_heap_set(heap);
        }
        return &fake.inodes[ino];
    }
    WRONG("fake is full");
}

/* ---- metadata verbs ------------------------------------------------------------------------ */

struct answer {
    struct wire_meta_rep rep;
    struct wire_attr *attr;
    uint8_t tail[16 << 10];
    struct writer writer;
};

struct question {
    const struct wire_meta_req *req;
    struct slice name, name2, value;
    enum rpc_type type;
};

/* The id is the client's choice; said twice, it is one. */
static void register_open(const struct wire_meta_req *req, struct answer *a)
{
    uint64_t *row = &fake.open_ids[req->open_id % ARRAY_COUNT(fake.open_ids)];
    assert(req->open_id != 0 && (*row == 0 || *row == req->open_id));
    fake.opens += *row == 0;
    *row = req->open_id;
    a->rep.open_id = req->open_id;
}

static void touch_dir(uint64_t dir, struct answer *a)
{
    fake.inodes[dir].change++;
    a->rep.dir_attr = fake.inodes[dir];
    a->rep.dir_attr_valid = 1;
}

static int make(const struct question *q, struct answer *a)
{
    struct fake_name *row = name_find(q->req->ino, q->name);
    if (row && q->type == RPC_CREATE && !(q->req->flags & META_CREATE_EXCL)) {
        a->attr = inode_of(row->ino);
    } else if (row) {
        return -EEXIST;
    } else {
        uint32_t mode = q->req->mode;
        if (q->type == RPC_MKDIR)
            mode = S_IFDIR | (mode & 07777);
        if (q->type == RPC_SYMLINK)
            mode = S_IFLNK | 0777;
        a->attr = inode_new(mode);
        name_add(q->req->ino, q->name, a->attr->ino);
        touch_dir(q->req->ino, a);
        if (q->type == RPC_SYMLINK) {
            memcpy(fake.targets[a->attr->ino], q->value.data, q->value.bytes);
            a->attr->size = q->value.bytes;
        }
    }
    if (q->req->flags & META_OPEN)
        register_open(q->req, a);
    return 0;
}

static int remove_name(const struct question *q)
{
    struct fake_name *row = name_find(q->req->ino, q->name);
    if (!row)
        return -ENOENT;
    if (q->type == RPC_RMDIR)
        fake.inodes[row->ino].ino = 0;
    row->ino = 0;
    return 0;
}

static int rename_name(const struct question *q)
{
    struct fake_name *row = name_find(q->req->ino, q->name);
    struct fake_name *target = name_find(q->req->ino2, q->name2);
    if (!row)
        return -ENOENT;
    if (target && (q->req->flags & META_RENAME_NOREPLACE))
        return -EEXIST;
    uint64_t ino = row->ino;
    row->ino = 0;
    if (target)
        target->ino = 0;
    name_add(q->req->ino2, q->name2, ino);
    return 0;
}

static int setattr(const struct question *q, struct wire_attr *attr)
{
    const struct wire_meta_req *req = q->req;
    if (req->valid & META_SET_MODE)
        attr->mode = (attr->mode & S_IFMT) | req->mode;
    if (req->valid & META_SET_UID)
        attr->uid = req->uid2;
    if ((req->valid & META_SET_UID) && !(req->valid & META_SET_MODE))
        attr->mode &= ~(uint32_t)(S_ISUID | S_ISGID);
    if (req->valid & META_SET_MTIME)
        attr->mtime_ns = req->mtime_ns;
    return 0;
}

static int set_size(const struct question *q, struct wire_attr *attr)
{
    if (q->type == RPC_TRUNCATE && q->req->size < attr->size)
        memset(fake.data[attr->ino] + q->req->size, 0, attr->size - q->req->size);
    if (q->req->flags & META_APPEND)
        attr->size += q->req->size;
    else
        attr->size = q->type == RPC_GROW ? MAX(attr->size, q->req->size) : q->req->size;
    assert(attr->size <= FAKE_DATA_BYTES);
    if (q->type == RPC_GROW)
        attr->mtime_ns = q->req->mtime_ns;
    if (attr->size > META_INLINE_MAX)
        attr->flags &= ~(uint32_t)ATTR_INLINE;
    return 0;
}

static int inline_io(const struct question *q, struct answer *a, struct wire_attr *attr)
{
    if (!(attr->flags & ATTR_INLINE))
        return -ERR_NOT_INLINE;
    if (q->type == RPC_INLINE_READ) {
        writer_put(&a->writer, fake.data[attr->ino], attr->size);
        return 0;
    }
    uint64_t offset = q->req->flags & META_APPEND ? attr->size : q->req->offset;
    if (offset + q->value.bytes > META_INLINE_MAX)
        return -ERR_NOT_INLINE;
    memcpy(fake.data[attr->ino] + offset, q->value.data, q->value.bytes);
    attr->size = MAX(attr->size, offset + q->value.bytes);
    return 0;
}

static int read_dir(const struct question *q, struct answer *a)
{
    size_t room = MIN(q->req->size, (uint64_t)sizeof a->tail);
    a->rep.eof = 1;
    a->rep.cookie = FAKE_NAMES;
    for (uint64_t i = q->req->offset; i < FAKE_NAMES; i++) {
        const struct fake_name *row = &fake.names[i];
        if (!row->ino || row->dir != q->req->ino)
            continue;
        struct wire_dirent head = {
            .ino = row->ino,
            .cookie = i + 1,
            .mode = inode_of(row->ino)->mode & S_IFMT,
            .name_bytes = (uint16_t)row->bytes,
            .attr_bytes = q->req->flags & META_WANT_ATTR ? sizeof(struct wire_attr) : 0,
        };
        if (writer_bytes(&a->writer) + sizeof head + round_up(row->bytes, 8) + head.attr_bytes >
            room) {
            a->rep.eof = 0;
            a->rep.cookie = i;
            return 0;
        }
        writer_put(&a->writer, &head, sizeof head);
        writer_put(&a->writer, row->text, round_up(row->bytes, 8));
        writer_put(&a->writer, inode_of(row->ino), head.attr_bytes);
    }
    return 0;
}

static int xattr(const struct question *q, struct answer *a)
{
    bool there = fake.xattr_ino == q->req->ino && strlen(fake.xattr_name) == q->name.bytes &&
                 memcmp(fake.xattr_name, q->name.data, q->name.bytes) == 0;
    if (q->type == RPC_LISTXATTR) {
        if (fake.xattr_ino == q->req->ino)
            writer_put(&a->writer, fake.xattr_name, strlen(fake.xattr_name) + 1);
        return 0;
    }
    if (q->type == RPC_SETXATTR) {
        fake.xattr_ino = q->req->ino;
        memset(fake.xattr_name, 0, sizeof fake.xattr_name);
        memcpy(fake.xattr_name, q->name.data, q->name.bytes);
        memcpy(fake.xattr_value, q->value.data, q->value.bytes);
        fake.xattr_bytes = q->value.bytes;
        return 0;
    }
    if (!there)
        return -ENODATA;
    if (q->type == RPC_GETXATTR)
        writer_put(&a->writer, fake.xattr_value, fake.xattr_bytes);
    else
        fake.xattr_ino = 0;
    return 0;
}

static int on_names(const struct question *q, struct answer *a)
{
    struct fake_name *row;
    switch ((uint32_t)q->type) {
    case RPC_LOOKUP:
        row = name_find(q->req->ino, q->name);
        a->attr = row ? inode_of(row->ino) : NULL;
        return row ? 0 : -ENOENT;
    case RPC_CREATE:
    case RPC_MKNOD:
    case RPC_MKDIR:
    case RPC_SYMLINK:
        return make(q, a);
    case RPC_LINK:
        a->attr = inode_of(q->req->ino2);
        if (!a->attr || name_find(q->req->ino, q->name))
            return a->attr ? -EEXIST : -ENOENT;
        a->attr->nlink++;
        name_add(q->req->ino, q->name, q->req->ino2);
        return 0;
    case RPC_UNLINK:
    case RPC_RMDIR:
        return remove_name(q);
    case RPC_RENAME:
        return rename_name(q);
    case RPC_READDIR:
        return read_dir(q, a);
    case RPC_STATFS: {
        struct wire_statfs statfs = {GIB, GIB / 2, 10, 90};
        writer_put(&a->writer, &statfs, sizeof statfs);
        return 0;
    }
    default:
        return -ERR_UNKNOWN_RPC;
    }
}

static void release(const struct question *q)
{
    struct wire_release row;
    for (uint32_t at = 0; at + sizeof row <= q->value.bytes; at += sizeof row) {
        memcpy(&row, (const uint8_t *)q->value.data + at, sizeof row);
        uint64_t *known = &fake.open_ids[row.open_id % ARRAY_COUNT(fake.open_ids)];
        if (*known == row.open_id) {
            *known = 0;
            fake.opens--;
        }
    }
}

static int on_inode(const struct question *q, struct answer *a)
{
    struct wire_attr *attr = inode_of(q->req->ino);
    if (!attr)
        return -ENOENT;
    a->attr = attr;
    switch ((uint32_t)q->type) {
    case RPC_GETATTR:
    case RPC_SYNC:
        return 0;
    case RPC_RELEASE:
        release(q);
        return 0;
    case RPC_OPEN:
        register_open(q->req, a);
        if ((q->req->flags & META_WANT_DATA) && (attr->flags & ATTR_INLINE))
            writer_put(&a->writer, fake.data[attr->ino], attr->size);
        return 0;
    case RPC_SETATTR:
        return setattr(q, attr);
    case RPC_TRUNCATE:
    case RPC_GROW:
        return set_size(q, attr);
    case RPC_INLINE_READ:
    case RPC_INLINE_WRITE:
        return inline_io(q, a, attr);
    case RPC_READLINK:
        writer_put(&a->writer, fake.targets[attr->ino], attr->size);
        return 0;
    case RPC_GETXATTR:
    case RPC_SETXATTR:
    case RPC_LISTXATTR:
    case RPC_REMOVEXATTR:
        return xattr(q, a);
    default:
        return on_names(q, a);
    }
}

/* ---- serving ----------------------------------------------------------------------------- */

/* The error with which this request is to fail now; 0: none. */
static int fault_take(enum rpc_type type, bool after)
{
    struct fake_fault *fault = &fake.faults[type];
    if (fault->after != after || fault->count == 0)
        return 0;
    if (fault->skip > 0) {
        fault->skip--;
        return 0;
    }
    fault->count--;
    return fault->error;
}

static int not_here(const struct rpc_request *request, uint32_t node)
{
    uint32_t group = request->header->group;
    if (group < 1 || group > 3 || fake.groups[group - 1].primary != node)
        return -ERR_NOT_PRIMARY;
    return fake.groups[group - 1].epoch == request->header->epoch ? 0 : -ERR_WRONG_EPOCH;
}

static int meta_once(struct question *q, struct answer *a)
{
    const struct wire_meta_req *req = q->req;
    uint32_t slot = req->slot;
    if (!req->slot_seq)
        return on_inode(q, a);
    if (fake.slots[slot].seq == req->slot_seq) {
        assert(req->flags & META_RETRY);
        a->attr = inode_of(fake.slots[slot].ino);
        a->rep.open_id = fake.slots[slot].open_id;
        return fake.slots[slot].status;
    }
    assert(req->slot_seq > fake.slots[slot].seq);
    int status = on_inode(q, a);
    if (status == 0) {
        fake.applied[q->type]++;
        if (a->attr)
            a->attr->change++;
    }
    fake.slots[slot].seq = req->slot_seq;
    fake.slots[slot].status = status;
    fake.slots[slot].ino = a->attr ? a->attr->ino : 0;
    fake.slots[slot].open_id = a->rep.open_id;
    return status;
}

static void serve_meta(void *service, struct rpc_request *request)
{
    enum rpc_type type = (enum rpc_type)request->header->type;
    const struct wire_meta_req *req = request->body;
    struct answer *answer = mem_zalloc(sizeof *answer);
    struct reader reader;
    fake.calls[type]++;
    reader_init(&reader, request->tail.data, request->tail.bytes);
    struct question q = {.req = req, .type = type};
    q.name = slice_of(reader_take(&reader, req->name_bytes), req->name_bytes);
    q.name2 = slice_of(reader_take(&reader, req->name2_bytes), req->name2_bytes);
    q.value = slice_of(reader_take(&reader, req->value_bytes), req->value_bytes);
    assert(reader_ok(&reader) && reader_left(&reader) == req->group_count * sizeof(uint32_t));
    writer_init(&answer->writer, answer->tail, sizeof answer->tail);
    int status = not_here(request, (uint32_t)(uintptr_t)service);
    if (status == 0)
        status = fault_take(type, false);
    if (status == 0)
        status = meta_once(&q, answer);
    int fault = fault_take(type, true);
    if (fault)
        status = fault;
    if (answer->attr) {
        answer->rep.attr = *answer->attr;
        answer->rep.attr_valid = 1;
    }
    answer->rep.tail_bytes = (uint32_t)writer_bytes(&answer->writer);
    rpc_reply(request, status, &answer->rep, slice_of(answer->tail, answer->rep.tail_bytes),
              (struct buf_slice){0});
    mem_free(answer);
}

static int check_crcs(const struct rpc_request *request, const struct wire_obj_req *req)
{
    const uint8_t *bytes = request->payload.bytes ? buf_slice_data(&request->payload) : NULL;
    struct reader reader;
    reader_init(&reader, request->tail.data, request->tail.bytes);
    for (uint32_t done = 0; done < req->bytes;) {
        uint32_t run =
            MIN(req->bytes - done, DATA_BLOCK_BYTES - (req->offset + done) % DATA_BLOCK_BYTES);
        fake.wrong_crcs += crc32c(0, bytes + done, run) != reader_u32(&reader);
        done += run;
    }
    return request->payload.bytes == req->bytes && reader_left(&reader) == 0 ? 0 : -EINVAL;
}

static void reply_read(struct rpc_request *request, const uint8_t *place, uint32_t bytes)
{
    uint32_t crcs[DATA_IO_MAX / DATA_BLOCK_BYTES];
    struct buf *buf = buf_new(bytes);
    memcpy(buf->data, place, bytes);
    while (bytes > 0 && buf->data[bytes - 1] == 0) /* never written, as far as anybody knows */
        bytes--;
    bytes = (uint32_t)round_up(bytes, DATA_BLOCK_BYTES);
    for (uint32_t i = 0; i < bytes / DATA_BLOCK_BYTES; i++)
        crcs[i] = crc32c(0, buf->data + i * DATA_BLOCK_BYTES, DATA_BLOCK_BYTES);
    if (bytes && fake.flip_reads) {
        fake.flip_reads--;
        buf->data[bytes / 2] ^= 4;
    }
    struct wire_obj_rep rep = {.bytes = bytes};
    rpc_reply(request, 0, &rep, slice_of(crcs, bytes / DATA_BLOCK_BYTES * sizeof crcs[0]),
              (struct buf_slice){bytes ? buf : NULL, 0, bytes});
    buf_put(buf);
}

static void serve_object(void *service, struct rpc_request *request)
{
    enum rpc_type type = (enum rpc_type)request->header->type;
    const struct wire_obj_req *req = request->body;
    fake.calls[type]++;
    if (type == RPC_OBJ_WRITE || type == RPC_OBJ_PUNCH) {
        memmove(&fake.changes[1], &fake.changes[0], sizeof fake.changes - sizeof fake.changes[0]);
        fake.changes[0] = *req;
    }
    int status = not_here(request, (uint32_t)(uintptr_t)service);
    if (status == 0)
        status = fault_take(type, false);
    uint64_t place = (uint64_t)req->index * OBJECT_BYTES + req->offset;
    if (status == 0 && type != RPC_OBJ_SYNC) {
        bool known = inode_of(req->ino) && fake.data[req->ino];
        if (!known || place + req->bytes > FAKE_DATA_BYTES)
            status = -EINVAL;
        else if (fake.inodes[req->ino].flags & ATTR_INLINE)
            status = -EDOM; /* the client broke its invariant I5 */
    }
    if (status == 0 && type == RPC_OBJ_READ) {
        reply_read(request, fake.data[req->ino] + place, req->bytes);
        return;
    }
    if (status == 0 && type == RPC_OBJ_WRITE && !(req->flags & OBJ_ASK)) {
        status = check_crcs(request, req);
        if (status == 0)
            memcpy(fake.data[req->ino] + place, buf_slice_data(&request->payload), req->bytes);
    }
    if (status == 0 && type == RPC_OBJ_PUNCH)
        memset(fake.data[req->ino] + place, 0, req->bytes);
    int fault = fault_take(type, true);
    if (fault)
        status = fault;
    struct wire_obj_rep rep = {0};
    rpc_reply(request, status, &rep, (struct slice){0}, (struct buf_slice){0});
}

static void server_main(void *arg)
{
    uint32_t node = (uint32_t)(uintptr_t)arg;
    struct rpc_identity identity = {.node = node, .incarnation = 1, .cluster = {{1}}};
    struct rpc *rpc = rpc_new(&identity);
    for (uint32_t type = RPC_LOOKUP; type <= RPC_TRUNCATE; type++)
        rpc_register(rpc, (enum rpc_type)type, serve_meta, arg);
    for (uint32_t type = RPC_OBJ_READ; type <= RPC_OBJ_SYNC; type++)
        rpc_register(rpc, (enum rpc_type)type, serve_object, arg);
    struct net_addr addr;
    assert(net_addr_parse("0.0.0.0:7000", &addr) == 0);
    assert(rpc_listen(rpc, &addr) == 0);
}

/* ---- the world --------------------------------------------------------------------------- */

void fake_server_spawn(uint32_t index)
{
    reactor_spawn(sim_node_reactor(fake.server[index]), "server", server_main,
                  (void *)(uintptr_t)(index + 1));
}

void fake_start(uint64_t seed)
{
    memset(&fake, 0, sizeof fake);
    failure[0] = 0;
    map_init();
    (void)inode_new(S_IFDIR | 0755);
    fake.sim = sim_new(seed);
    fake.server[0] = sim_node_new(fake.sim, "10.0.0.1");
    fake.server[1] = sim_node_new(fake.sim, "10.0.0.2");
    fake.client_node = sim_node_new(fake.sim, "10.0.0.9");
    fake_server_spawn(0);
    fake_server_spawn(1);
    sim_run_for(fake.sim, NS_PER_MS);
}

void fake_free(void)
{
    sim_free(fake.sim);
    for (uint32_t i = 0; i <= FAKE_INODES; i++)
        mem_free(fake.data[i]);
}

struct client *fake_client(const struct client_options *options)
{
    struct rpc_identity identity = {.session = 77};
    return client_new(rpc_new(&identity), &map_now, options);
}

static bool body_done;

static void body_fiber(void *arg)
{
    void (**body)(void) = arg;
    (*body)();
    body_done = true;
}

static bool is_done(void *context)
{
    return body_done;
}

void fake_run_with(void (*body)(void), void (*step)(void))
{
    uint64_t end_ns = sim_now_ns(fake.sim) + 3600 * NS_PER_S;
    body_done = false;
    reactor_spawn(sim_node_reactor(fake.client_node), "body", body_fiber, &body);
    while (!body_done && !failure[0] && sim_now_ns(fake.sim) < end_ns) {
        uint64_t until_ns = step ? sim_now_ns(fake.sim) + 5 * NS_PER_MS : end_ns;
        (void)sim_run_until(fake.sim, is_done, NULL, until_ns); /* body_done says it, too */
        if (step)
            step();
    }
    if (!body_done && !failure[0])
        snprintf(failure, sizeof failure, "the body did not end");
    if (failure[0])
        fail_msg("%s", failure);
}

void fake_run(void (*body)(void))
{
    fake_run_with(body, NULL);
}
