/* SPDX-License-Identifier: MIT */
/* Text form of addresses. inet_pton and inet_ntop do the IP part; ports are ours. */
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "env/env.h"

enum { IPV4_AT = 12 };

static const uint8_t ipv4_prefix[IPV4_AT] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

static int port_parse(const char *text, uint16_t *ret_port)
{
    uint32_t value = 0;
    if (!*text || strlen(text) > 5)
        return -EINVAL;
    for (const char *digit = text; *digit; digit++) {
        if (*digit < '0' || *digit > '9')
            return -EINVAL;
        value = value * 10 + (uint32_t)(*digit - '0');
    }
    if (value > UINT16_MAX)
        return -EINVAL;
    *ret_port = (uint16_t)value;
    return 0;
}

must_check int net_addr_parse(const char *text, struct net_addr *ret_addr)
{
    const char *colon = strrchr(text, ':');
    bool bracketed = text[0] == '[';
    char host[INET6_ADDRSTRLEN];
    struct net_addr addr = {0};
    if (!colon || colon == text)
        return -EINVAL;
    const char *start = text + bracketed;
    const char *end = colon - bracketed;
    if (bracketed && (end <= start || *end != ']'))
        return -EINVAL;
    size_t bytes = (size_t)(end - start);
    if (bytes == 0 || bytes >= sizeof host)
        return -EINVAL;
    memcpy(host, start, bytes);
    host[bytes] = 0;
    if (bracketed) {
        if (inet_pton(AF_INET6, host, addr.ip) != 1)
            return -EINVAL;
    } else {
        memcpy(addr.ip, ipv4_prefix, IPV4_AT);
        if (inet_pton(AF_INET, host, addr.ip + IPV4_AT) != 1)
            return -EINVAL;
    }
    int error = port_parse(colon + 1, &addr.port);
    if (error)
        return error;
    *ret_addr = addr;
    return 0;
}

void net_addr_print(const struct net_addr *addr, char text[NET_ADDR_TEXT_MAX])
{
    char host[INET6_ADDRSTRLEN];
    bool ipv4 = memcmp(addr->ip, ipv4_prefix, IPV4_AT) == 0;
    const void *ip = ipv4 ? addr->ip + IPV4_AT : addr->ip;
    const char *printed = inet_ntop(ipv4 ? AF_INET : AF_INET6, ip, host, sizeof host);
    assert(printed);
    int bytes =
        snprintf(text, NET_ADDR_TEXT_MAX, ipv4 ? "%s:%u" : "[%s]:%u", host, (unsigned)addr->port);
    assert(bytes > 0 && bytes < NET_ADDR_TEXT_MAX);
}
