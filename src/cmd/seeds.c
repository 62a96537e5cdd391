/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <string.h>

#include "cmd/session.h"

int session_parse_seeds(const char *text, struct session_seeds *ret_seeds)
{
    struct session_seeds seeds = {.text = text};
    for (const char *at = text; at; at = strchr(at, ',')) {
        char addr[NET_ADDR_TEXT_MAX];
        if (*at == ',')
            at++;
        size_t bytes = strcspn(at, ",");
        if (bytes >= sizeof addr || seeds.count == SESSION_SEEDS_MAX)
            return -EINVAL;
        memcpy(addr, at, bytes);
        addr[bytes] = '\0';
        int result = net_addr_parse(addr, &seeds.addrs[seeds.count]);
        if (result < 0)
            return result;
        seeds.count++;
    }
    *ret_seeds = seeds;
    return 0;
}
