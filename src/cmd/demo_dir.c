/* SPDX-License-Identifier: MIT */
#include "cmd/demo_dir.h"

#include <ctype.h>
#include <errno.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/assert.h"
#include "cmd/report.h"

enum { DEMO_SCHEMA = 1 };

void uuid_print(const struct format_uuid *uuid, char text[37])
{
    const uint8_t *b = uuid->bytes;
    snprintf(text, 37, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0],
             b[1], b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13],
             b[14], b[15]);
}

int uuid_parse(const char *text, struct format_uuid *ret_uuid)
{
    struct format_uuid uuid;
    for (size_t i = 0; i < sizeof uuid.bytes; i++) {
        if (*text == '-')
            text++;
        if (!isxdigit((unsigned char)text[0]) || !isxdigit((unsigned char)text[1]))
            return -EINVAL;
        const char digits[3] = {text[0], text[1], '\0'};
        uuid.bytes[i] = (uint8_t)strtoul(digits, NULL, 16);
        text += 2;
    }
    if (*text != '\0')
        return -EINVAL;
    *ret_uuid = uuid;
    return 0;
}

static int copy_path(char path[DEMO_PATH_MAX], const char *text)
{
    return snprintf(path, DEMO_PATH_MAX, "%s", text) < DEMO_PATH_MAX ? 0 : -ENAMETOOLONG;
}

int demo_dir_resolve(const char *dir, char path[DEMO_PATH_MAX])
{
    const char *state = getenv("XDG_STATE_HOME");
    const char *home = getenv("HOME");
    if (dir && dir[0] == '/')
        return copy_path(path, dir);
    if (dir) {
        char here[PATH_MAX];
        if (!getcwd(here, sizeof here))
            return -errno;
        return copy_path(path, report_text("%s/%s", here, dir));
    }
    if (state && state[0] == '/')
        return copy_path(path, report_text("%s/claudefs/demo", state));
    return copy_path(path, report_text("%s/.claudefs/demo", home ? home : "/tmp"));
}

const char *demo_path(const struct demo *demo, const char *name)
{
    return report_text("%s/%s", demo->dir, name);
}

const char *demo_node_path(const struct demo *demo, uint32_t node, const char *name)
{
    return report_text("%s/node%u%s%s", demo->dir, node, name[0] ? "/" : "", name);
}

const char *demo_addresses(const struct demo *demo)
{
    const char *list = "";
    for (uint32_t i = 0; i < demo->node_count; i++)
        list = report_text("%s%s%s", list, i > 0 ? "," : "", demo->nodes[i].addr);
    return list;
}

const struct demo_node *demo_find_node(const struct demo *demo, const char *text)
{
    if (strncmp(text, "node", 4) == 0)
        text += 4;
    char *end;
    unsigned long id = strtoul(text, &end, 10);
    for (uint32_t i = 0; i < demo->node_count; i++) {
        if (end != text && *end == '\0' && demo->nodes[i].id == id)
            return &demo->nodes[i];
    }
    return NULL;
}

static const char *parse(json_t *root, struct demo *demo)
{
    const char *cluster;
    const char *mount;
    int schema;
    int copies;
    int reactors = 1;
    json_int_t size_bytes;
    json_t *nodes;
    json_error_t error;
    if (json_unpack_ex(root, &error, 0, "{s:i, s:s, s:i, s?i, s:I, s:s, s:o}", "schema", &schema,
                       "cluster", &cluster, "copies", &copies, "reactors", &reactors, "size_bytes",
                       &size_bytes, "mount", &mount, "nodes", &nodes) < 0)
        return report_text("%s", error.text);
    if (schema != DEMO_SCHEMA)
        return report_text("it was made by another version (schema %d)", schema);
    if (uuid_parse(cluster, &demo->cluster) < 0)
        return "the cluster id is malformed";
    if (!json_is_array(nodes) || json_array_size(nodes) < 1 ||
        json_array_size(nodes) > DEMO_NODES_MAX)
        return "the number of nodes is impossible";
    demo->copies = (uint32_t)copies;
    demo->reactors = (uint32_t)reactors;
    demo->size_bytes = (uint64_t)size_bytes;
    if (copy_path(demo->mount, mount) < 0)
        return "the mount path is too long";
    size_t index;
    json_t *value;
    json_array_foreach(nodes, index, value)
    {
        struct demo_node *node = &demo->nodes[index];
        const char *name;
        const char *addr;
        int id;
        if (json_unpack_ex(value, &error, 0, "{s:i, s:s, s:s}", "id", &id, "name", &name, "addr",
                           &addr) < 0)
            return report_text("%s", error.text);
        node->id = (uint32_t)id;
        snprintf(node->name, sizeof node->name, "%s", name);
        snprintf(node->addr, sizeof node->addr, "%s", addr);
    }
    demo->node_count = (uint32_t)json_array_size(nodes);
    return NULL;
}

int demo_dir_load(const char *path, struct demo *ret_demo, const char **ret_why)
{
    struct demo demo = {0};
    int result = copy_path(demo.dir, path);
    if (result < 0)
        return result;
    const char *file = demo_path(&demo, "cluster.json");
    if (access(file, F_OK) < 0)
        return -errno;
    json_error_t error;
    json_t *root = json_load_file(file, 0, &error);
    if (!root) {
        *ret_why = report_text("line %d: %s", error.line, error.text);
        return -EINVAL;
    }
    const char *why = parse(root, &demo);
    json_decref(root);
    if (why) {
        *ret_why = why;
        return -EINVAL;
    }
    *ret_demo = demo;
    return 0;
}

int demo_dir_save(const struct demo *demo)
{
    char cluster[37];
    uuid_print(&demo->cluster, cluster);
    json_t *nodes = json_array();
    for (uint32_t i = 0; i < demo->node_count; i++) {
        const struct demo_node *node = &demo->nodes[i];
        json_array_append_new(nodes, json_pack("{s:i, s:s, s:s}", "id", (int)node->id, "name",
                                               node->name, "addr", node->addr));
    }
    json_t *root =
        json_pack("{s:i, s:s, s:i, s:i, s:I, s:s, s:o}", "schema", DEMO_SCHEMA, "cluster", cluster,
                  "copies", (int)demo->copies, "reactors", (int)demo->reactors, "size_bytes",
                  (json_int_t)demo->size_bytes, "mount", demo->mount, "nodes", nodes);
    assert(root);
    const char *file = demo_path(demo, "cluster.json");
    const char *fresh = demo_path(demo, "cluster.json.new");
    int result = json_dump_file(root, fresh, JSON_INDENT(2));
    json_decref(root);
    if (result < 0)
        return -EIO;
    return rename(fresh, file) == 0 ? 0 : -errno;
}

int demo_dir_require(const char *dir, struct demo *ret_demo)
{
    char path[DEMO_PATH_MAX];
    const char *why = NULL;
    int result = demo_dir_resolve(dir, path);
    if (result == 0)
        result = demo_dir_load(path, ret_demo, &why);
    if (result == -ENOENT)
        return report_error(EX_NOINPUT, &(struct report){.what = "no demo cluster here",
                                                         .where = report_text("%s", path),
                                                         .why = "there is no cluster.json",
                                                         .fix = "claudefs demo up, or --dir DIR"});
    if (result < 0)
        return report_error(
            EX_CONFIG, &(struct report){
                           .what = "cannot read the demo cluster's description",
                           .where = report_text("%s/cluster.json", path),
                           .why = why ? why : strerror(-result),
                           .effect = "its nodes, if any, are left alone",
                           .fix = "restore the file, or stop the nodes and remove the directory"});
    return 0;
}
