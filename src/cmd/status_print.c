/* SPDX-License-Identifier: MIT */
/* A status for people (80 columns, 24 lines for up to eight nodes) and for programs. */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "cmd/report.h"
#include "cmd/status_internal.h"

enum { STATUS_SCHEMA = 1, COLUMNS = 80, REASONS_SHOWN = 4 };

static const char *const health_names[] = {"ok", "warn", "error"};

static const struct status_node *find_node(const struct status_view *view, uint32_t id)
{
    for (uint32_t i = 0; i < view->node_count; i++) {
        if (view->nodes[i].id == id)
            return &view->nodes[i];
    }
    return NULL;
}

static const char *node_name(const struct status_view *view, uint32_t id)
{
    const struct status_node *node = find_node(view, id);
    return node ? node->name : "?";
}

struct totals {
    uint64_t size_bytes;
    uint64_t used_bytes;
    uint64_t data_errors;
    uint64_t data_repairs;
    uint64_t data_losses;
    uint64_t node_errors;
    uint64_t node_repairs;
    uint64_t wire_refused;
    uint32_t up;
    uint32_t voters;
    uint32_t voters_up;
};

static struct totals totals_of(const struct status_view *view)
{
    struct totals totals = {0};
    for (uint32_t i = 0; i < view->node_count; i++) {
        const struct wire_status_rep *reply = &view->nodes[i].reply;
        bool up = strcmp(view->nodes[i].state, "up") == 0;
        totals.size_bytes += reply->size_bytes;
        totals.used_bytes += reply->used_bytes;
        totals.data_errors += reply->data_errors;
        totals.data_repairs += reply->data_repairs;
        totals.data_losses += reply->data_losses;
        totals.node_errors += reply->node_errors;
        totals.node_repairs += reply->node_repairs;
        totals.wire_refused += reply->wire_refused;
        totals.up += up;
        totals.voters += view->nodes[i].voter;
        totals.voters_up += view->nodes[i].voter && up;
    }
    return totals;
}

/* ---- text ----------------------------------------------------------------------------------- */

static void print_head(const struct status_view *view)
{
    static const char *const words[] = {"OK", "WARN", "ERROR"};
    char cluster[37];
    uuid_print(&view->map.cluster, cluster);
    cluster[8] = '\0';
    int used =
        printf("claudefs  %s  map %" PRIu64, view->has_map ? cluster : "?", view->map.version);
    printf("%*s\n", COLUMNS - used, words[view->health]);
    printf("  health    %s\n", view->reason_count ? view->reasons[0] : "ok");
    for (uint32_t i = 1; i < view->reason_count && i < REASONS_SHOWN; i++)
        printf("            %s\n", view->reasons[i]);
    if (view->reason_count > REASONS_SHOWN)
        printf("            and %u more (--json has all)\n", view->reason_count - REASONS_SHOWN);
}

static void print_protect(const struct status_view *view)
{
    const struct status_protect *protect = &view->protect;
    uint64_t all = protect->full_bytes + protect->degraded_bytes + protect->lost_bytes;
    uint32_t groups = protect->full_groups + protect->degraded_groups + protect->lost_groups;
    double percent = all      ? 100.0 * (double)protect->full_bytes / (double)all
                     : groups ? 100.0 * protect->full_groups / groups
                              : 0.0;
    if (percent > 99.99 && protect->full_bytes < all)
        percent = 99.99;
    if (!view->has_map)
        return;
    printf("  protect   %.2f %% full (%s)   %s degraded   %s lost\n", percent,
           report_bytes(protect->full_bytes), report_bytes(protect->degraded_bytes),
           report_bytes(protect->lost_bytes));
}

static void print_jobs(const struct status_view *view)
{
    uint64_t done = 0;
    uint64_t total = 0;
    uint64_t rate = 0;
    if (view->job_count == 0) {
        printf("  jobs      none\n");
        return;
    }
    for (uint32_t i = 0; i < view->job_count; i++) {
        done += view->jobs[i].group.catch_up_done_bytes;
        total += view->jobs[i].group.catch_up_total_bytes;
        rate += view->jobs[i].group.catch_up_rate;
    }
    printf("  jobs      catch-up of %u groups", view->job_count);
    if (total > 0)
        printf("   %.0f %%   %s of %s", 100.0 * (double)done / (double)total, report_bytes(done),
               report_bytes(total));
    if (rate > 0)
        printf("   %s/s", report_bytes(rate));
    if (rate > 0 && total > done)
        printf("   eta %s", report_duration((total - done) * 1000 / rate));
    printf("\n");
}

static void print_scrubs(const struct status_view *view)
{
    uint64_t done = 0, total = 0, rate = 0;
    uint32_t count = 0;
    for (uint32_t i = 0; i < view->target_count; i++) {
        const struct wire_status_rep *reply = &view->targets[i].reply;
        count += reply->scrub_total_bytes > 0;
        done += reply->scrub_done_bytes;
        total += reply->scrub_total_bytes;
        rate += reply->scrub_total_bytes ? reply->scrub_rate : 0;
    }
    if (count == 0)
        return;
    printf("            scrub of %u target%s   %.0f %%   %s of %s   %s/s\n", count,
           count == 1 ? "" : "s", 100.0 * (double)done / (double)total, report_bytes(done),
           report_bytes(total), report_bytes(rate));
}

static void print_nodes(const struct status_view *view)
{
    printf("NODE     STATE     PID  ADDR                       USED       SIZE     MEMORY\n");
    for (uint32_t i = 0; i < view->node_count; i++) {
        const struct status_node *node = &view->nodes[i];
        const struct wire_status_rep *reply = &node->reply;
        const char *pid = reply->pid ? report_text("%u", reply->pid) : "-";
        printf("%-8.8s %-7.7s %5.7s  %-20.21s %10s %10s %10s\n", node->name, node->state, pid,
               node->addr, node->answered ? report_bytes(reply->used_bytes) : "-",
               reply->size_bytes ? report_bytes(reply->size_bytes) : "-",
               node->answered ? report_bytes(reply->memory_bytes) : "-");
        if (node->note)
            printf("         %s\n", node->note);
    }
}

void status_print_text(const struct status_view *view)
{
    struct totals totals = totals_of(view);
    print_head(view);
    if (view->has_map) {
        printf("  data      %s raw   %s used   %s free   %u %s\n", report_bytes(totals.size_bytes),
               report_bytes(totals.used_bytes),
               report_bytes(totals.size_bytes - MIN(totals.used_bytes, totals.size_bytes)),
               view->wanted_copies, view->wanted_copies == 1 ? "copy" : "copies");
        print_protect(view);
        printf("  nodes     %u of %u up   map leader %s   %u of %u voters up\n", totals.up,
               view->node_count, view->leader ? node_name(view, view->leader) : "none",
               totals.voters_up, totals.voters);
        printf("  clients   %u%s%.50s\n", view->client_count, view->client_count ? "   " : "",
               view->client_count ? view->clients[0].name : "");
        printf("  damage    found %" PRIu64 " data blocks, %" PRIu64
               " metadata nodes; repaired %" PRIu64 ", %" PRIu64 "; lost %" PRIu64 "\n",
               totals.data_errors, totals.node_errors, totals.data_repairs, totals.node_repairs,
               totals.data_losses);
        print_jobs(view);
        print_scrubs(view);
    }
    print_nodes(view);
}

/* ---- JSON ----------------------------------------------------------------------------------- */

static json_t *json_u64(uint64_t value)
{
    return json_integer((json_int_t)value);
}

/* What a target's scrubs have found, and how much it writes for each byte that it is given. */
static json_t *json_device(const struct wire_status_rep *reply)
{
    uint64_t all = reply->written_data + reply->written_moved + reply->written_meta;
    double times = reply->written_data ? (double)all / (double)reply->written_data : 0.0;
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o}", "scrubs", json_u64(reply->scrubs),
                     "scrub_found", json_u64(reply->scrub_found), "written_data_bytes",
                     json_u64(reply->written_data), "written_moved_bytes",
                     json_u64(reply->written_moved), "written_metadata_bytes",
                     json_u64(reply->written_meta), "write_amplification",
                     reply->written_data ? json_real(times) : json_null());
}

static json_t *json_targets(const struct status_view *view, uint32_t host)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < view->target_count; i++) {
        const struct status_target *target = &view->targets[i];
        if (target->host != host)
            continue;
        json_array_append_new(
            list,
            json_pack("{s:i, s:s, s:s, s:o, s:o, s:i, s:i, s:o}", "id", (int)target->id, "addr",
                      target->addr, "state", target->state, "used_bytes",
                      json_u64(target->reply.used_bytes), "size_bytes",
                      json_u64(target->reply.size_bytes), "groups", (int)target->groups,
                      "primaries", (int)target->primaries, "device", json_device(&target->reply)));
    }
    return list;
}

static json_t *json_nodes(const struct status_view *view)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < view->node_count; i++) {
        const struct status_node *node = &view->nodes[i];
        const struct wire_status_rep *reply = &node->reply;
        json_array_append_new(
            list,
            json_pack("{s:s, s:i, s:s, s:i, s:s, s:o, s:o, s:o, s:o, s:b, s:b, s:o}", "name",
                      node->name, "id", (int)node->id, "state", node->state, "pid", (int)reply->pid,
                      "addr", node->addr, "used_bytes", json_u64(reply->used_bytes), "size_bytes",
                      json_u64(reply->size_bytes), "memory_bytes", json_u64(reply->memory_bytes),
                      "uptime_ms", json_u64(reply->uptime_ms), "voter", (int)node->voter, "leader",
                      view->leader == node->id, "targets", json_targets(view, node->id)));
    }
    return list;
}

static void json_scrubs(const struct status_view *view, json_t *list)
{
    for (uint32_t i = 0; i < view->target_count; i++) {
        const struct wire_status_rep *reply = &view->targets[i].reply;
        uint64_t left = reply->scrub_total_bytes - reply->scrub_done_bytes;
        if (reply->scrub_total_bytes == 0)
            continue;
        json_array_append_new(
            list,
            json_pack("{s:s, s:s, s:i, s:o, s:o, s:o, s:o}", "kind", "scrub", "node",
                      node_name(view, view->targets[i].host), "target", (int)view->targets[i].id,
                      "done_bytes", json_u64(reply->scrub_done_bytes), "total_bytes",
                      json_u64(reply->scrub_total_bytes), "rate_bytes_per_s",
                      json_u64(reply->scrub_rate), "eta_s",
                      reply->scrub_rate ? json_u64(left / reply->scrub_rate) : json_null()));
    }
}

static json_t *json_jobs(const struct status_view *view)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < view->job_count; i++) {
        const struct wire_status_group *group = &view->jobs[i].group;
        uint64_t left = group->catch_up_total_bytes -
                        MIN(group->catch_up_done_bytes, group->catch_up_total_bytes);
        json_array_append_new(
            list,
            json_pack("{s:s, s:s, s:i, s:o, s:o, s:o, s:o}", "kind", "catch-up", "node",
                      node_name(view, view->jobs[i].node), "group", (int)group->group, "done_bytes",
                      json_u64(group->catch_up_done_bytes), "total_bytes",
                      json_u64(group->catch_up_total_bytes), "rate_bytes_per_s",
                      json_u64(group->catch_up_rate), "eta_s",
                      group->catch_up_rate ? json_u64(left / group->catch_up_rate) : json_null()));
    }
    json_scrubs(view, list);
    return list;
}

static json_t *json_clients(const struct status_view *view)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < view->client_count; i++)
        json_array_append_new(list, json_pack("{s:s, s:o, s:o}", "name", view->clients[i].name,
                                              "session", json_u64(view->clients[i].session),
                                              "idle_ms", json_u64(view->clients[i].idle_ms)));
    return list;
}

static json_t *json_reasons(const struct status_view *view)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < view->reason_count; i++)
        json_array_append_new(list, json_string(view->reasons[i]));
    return list;
}

void status_print_json(const struct status_view *view)
{
    char cluster[37];
    struct totals totals = totals_of(view);
    const struct status_protect *protect = &view->protect;
    uuid_print(&view->map.cluster, cluster);
    json_t *root = json_pack("{s:i, s:s, s:o, s:s, s:o, s:i, s:o}", "schema", STATUS_SCHEMA,
                             "health", health_names[view->health], "reasons", json_reasons(view),
                             "cluster", cluster, "map_version", json_u64(view->map.version),
                             "copies", (int)view->wanted_copies, "nodes", json_nodes(view));
    json_object_set_new(root, "leader",
                        view->leader ? json_string(node_name(view, view->leader)) : json_null());
    json_object_set_new(
        root, "protect",
        json_pack("{s:o, s:o, s:o, s:i, s:i, s:i}", "full_bytes", json_u64(protect->full_bytes),
                  "degraded_bytes", json_u64(protect->degraded_bytes), "lost_bytes",
                  json_u64(protect->lost_bytes), "full_groups", (int)protect->full_groups,
                  "degraded_groups", (int)protect->degraded_groups, "lost_groups",
                  (int)protect->lost_groups));
    json_object_set_new(
        root, "damage",
        json_pack("{s:o, s:o, s:o, s:o, s:o, s:o}", "data_errors", json_u64(totals.data_errors),
                  "data_repairs", json_u64(totals.data_repairs), "data_losses",
                  json_u64(totals.data_losses), "metadata_errors", json_u64(totals.node_errors),
                  "metadata_repairs", json_u64(totals.node_repairs), "wire_refused",
                  json_u64(totals.wire_refused)));
    json_object_set_new(root, "jobs", json_jobs(view));
    json_object_set_new(root, "clients", json_clients(view));
    json_dumpf(root, stdout, JSON_INDENT(2));
    printf("\n");
    json_decref(root);
}
