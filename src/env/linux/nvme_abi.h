/* SPDX-License-Identifier: MIT */
#ifndef CFS_ENV_LINUX_NVME_ABI_H
#define CFS_ENV_LINUX_NVME_ABI_H

/* The part of the NVMe specifications (base 2.0, NVM, zoned namespaces 1.1, TP4146 placement) that
 * linux_nvme.c uses. All values little-endian. */

#include "base/defs.h"

enum nvme_admin_opcode { NVME_ADMIN_IDENTIFY = 0x06 };
enum nvme_opcode {
    NVME_FLUSH = 0x00,
    NVME_WRITE = 0x01,
    NVME_READ = 0x02,
    NVME_DATASET_MANAGEMENT = 0x09,
    NVME_IO_MANAGEMENT_RECEIVE = 0x12,
    NVME_ZONE_SEND = 0x79,
    NVME_ZONE_RECEIVE = 0x7a,
};
enum nvme_identify {
    NVME_IDENTIFY_NAMESPACE = 0x00,
    NVME_IDENTIFY_CONTROLLER = 0x01,
    NVME_IDENTIFY_NAMESPACE_OF_SET = 0x05, /* of a command set */
    NVME_SET_ZONED = 2,
};
enum {
    NVME_PAGE = 4096,
    NVME_DEALLOCATE = 1 << 2,         /* Dataset Management, dword 11 */
    NVME_RUH_STATUS = 1,              /* I/O Management Receive, dword 10 */
    NVME_DIRECTIVE_PLACEMENT = 2,     /* write, dword 12, bits 20 to 23 */
    NVME_FORCE_UNIT_ACCESS = 1 << 30, /* write, dword 12 */
    NVME_ZONE_FINISH = 2,             /* Zone Management Send, dword 13 */
    NVME_ZONE_RESET = 4,              /* the same */
    NVME_FEATURE_ATOMICS = 1 << 1,    /* namespace, features: its own atomic sizes count */
    NVME_COMMAND_DEALLOCATE = 1 << 2  /* controller, optional commands */
};

struct nvme_controller_data {
    uint8_t ignored0[4];
    char serial[20];
    char model[40];
    char firmware[8];
    uint8_t ignored72[5];
    uint8_t transfer_max; /* 2^n pages; 0: no limit */
    uint8_t ignored78[442];
    uint16_t optional_commands;
    uint8_t ignored522[4];
    uint16_t atomic;            /* blocks - 1, in normal operation */
    uint16_t atomic_power_fail; /* blocks - 1, also when the power fails */
    uint8_t ignored530[3566];
};
_Static_assert(offsetof(struct nvme_controller_data, transfer_max) == 77, "MDTS");
_Static_assert(offsetof(struct nvme_controller_data, optional_commands) == 520, "ONCS");
_Static_assert(offsetof(struct nvme_controller_data, atomic_power_fail) == 528, "AWUPF");
_Static_assert(sizeof(struct nvme_controller_data) == NVME_PAGE, "identify controller");

struct nvme_format {
    uint16_t metadata_bytes;
    uint8_t block_shift;
    uint8_t performance;
};
struct nvme_namespace_data {
    uint64_t size; /* blocks */
    uint64_t capacity;
    uint64_t used;
    uint8_t features;
    uint8_t format_count;
    uint8_t format; /* bits 0 to 3, and 5 to 6 above them */
    uint8_t ignored27[7];
    uint16_t atomic;
    uint16_t atomic_power_fail;
    uint8_t ignored38[90];
    struct nvme_format formats[64];
    uint8_t ignored384[3712];
};
_Static_assert(offsetof(struct nvme_namespace_data, atomic_power_fail) == 36, "NAWUPF");
_Static_assert(offsetof(struct nvme_namespace_data, formats) == 128, "LBAF");
_Static_assert(sizeof(struct nvme_namespace_data) == NVME_PAGE, "identify namespace");

struct nvme_zoned_format {
    uint64_t zone_blocks;
    uint64_t ignored;
};
struct nvme_zoned_data {
    uint16_t zone_operation;
    uint16_t optional;
    uint32_t active_max; /* - 1; all ones: no limit */
    uint32_t open_max;   /* the same */
    uint8_t ignored12[2804];
    struct nvme_zoned_format formats[64];
    uint8_t ignored3840[256];
};
_Static_assert(offsetof(struct nvme_zoned_data, formats) == 2816, "LBAFE");
_Static_assert(sizeof(struct nvme_zoned_data) == NVME_PAGE, "identify zoned namespace");

enum nvme_zone_state {
    NVME_ZONE_EMPTY = 0x1,
    NVME_ZONE_OPEN_IMPLICIT = 0x2,
    NVME_ZONE_OPEN_EXPLICIT = 0x3,
    NVME_ZONE_CLOSED = 0x4,
    NVME_ZONE_READ_ONLY = 0xd,
    NVME_ZONE_FULL = 0xe,
    NVME_ZONE_OFFLINE = 0xf,
};
struct nvme_zone {
    uint8_t type;
    uint8_t state; /* bits 4 to 7 */
    uint8_t ignored2[6];
    uint64_t capacity; /* blocks */
    uint64_t start;
    uint64_t pointer;
    uint8_t ignored32[32];
};
enum { NVME_ZONES_PER_REPORT = NVME_PAGE / 64 - 1 };
struct nvme_zone_report {
    uint64_t count;
    uint8_t ignored8[56];
    struct nvme_zone zones[NVME_ZONES_PER_REPORT];
};
_Static_assert(sizeof(struct nvme_zone_report) == NVME_PAGE, "report zones");

struct nvme_placement {
    uint16_t identifier;
    uint16_t handle;
    uint8_t ignored4[28];
};
enum { NVME_PLACEMENTS_PER_REPORT = (NVME_PAGE - 16) / 32 };
struct nvme_placement_report {
    uint8_t ignored[14];
    uint16_t count;
    struct nvme_placement placements[NVME_PLACEMENTS_PER_REPORT];
    uint8_t rest[16];
};
_Static_assert(sizeof(struct nvme_placement_report) == NVME_PAGE, "reclaim unit handle status");

#endif
