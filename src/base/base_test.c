/* SPDX-License-Identifier: MIT */
/* Goal: the small pieces that everything else trusts. Method: known answers (CRC, errors), and
 * comparison with a trivial model under random operations (hash table, cursors, heap counts). */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/errors.h"
#include "base/htable.h"
#include "base/list.h"
#include "base/mem.h"
#include "base/random.h"

static void crc_known_answers(void **state)
{
    (void)state;
    uint8_t zeroes[32] = {0};
    /* RFC 3720 B.4 */
    assert_int_equal(crc32c(0, zeroes, sizeof zeroes), 0x8a9136aa);
    assert_int_equal(crc32c(0, "123456789", 9), 0xe3069283);
    assert_int_equal(crc32c(crc32c(0, "1234", 4), "56789", 5), 0xe3069283);
}

static void errors_translate(void **state)
{
    (void)state;
    assert_int_equal(error_to_errno(-ENOENT), ENOENT);
    assert_int_equal(error_to_errno(-ERR_CORRUPT_DATA), EIO);
    assert_string_equal(error_name(-ERR_NOT_PRIMARY), "ERR_NOT_PRIMARY");
    assert_string_equal(error_name(-ENOSPC), "ENOSPC");
    assert_int_equal(error_retry_class(-ERR_WRONG_EPOCH), RETRY_REMAP);
    assert_int_equal(error_retry_class(-EEXIST), RETRY_NEVER);
}

struct item {
    struct htable_node node;
    uint64_t id;
    bool present;
};

static void htable_against_array(void **state)
{
    (void)state;
    enum { ITEMS = 500, STEPS = 20000 };
    static struct item items[ITEMS];
    struct htable table;
    struct random random;
    uint64_t present = 0;
    htable_init(&table);
    random_init(&random, 1);
    for (uint64_t i = 0; i < ITEMS; i++)
        items[i] = (struct item){.id = i};
    for (uint32_t step = 0; step < STEPS; step++) {
        struct item *item = &items[random_below(&random, ITEMS)];
        uint64_t hash = item->id % 97; /* many equal hashes */
        if (item->present) {
            htable_remove(&table, &item->node);
            present--;
        } else {
            htable_insert(&table, &item->node, hash);
            present++;
        }
        item->present = !item->present;
        struct item *probe = &items[random_below(&random, ITEMS)];
        bool found = false;
        for (struct htable_node *n = htable_first(&table, probe->id % 97); n; n = htable_next(n))
            found |= container_of(n, struct item, node) == probe;
        assert_true(found == probe->present);
        assert_int_equal(table.count, present);
    }
    uint64_t walked = 0;
    for (struct htable_node *n = htable_walk(&table, NULL); n; n = htable_walk(&table, n))
        walked++;
    assert_int_equal(walked, present);
    htable_fini(&table);
}

static void cursors_are_sticky(void **state)
{
    (void)state;
    uint8_t room[10];
    struct writer writer;
    writer_init(&writer, room, sizeof room);
    writer_u64(&writer, 0x0102030405060708ull);
    assert_true(writer_ok(&writer));
    writer_u32(&writer, 1);
    assert_false(writer_ok(&writer));
    writer_u16(&writer, 1); /* would fit, but the error sticks */
    assert_false(writer_ok(&writer));
    assert_int_equal(writer_bytes(&writer), 8);
    struct reader reader;
    reader_init(&reader, room, 8);
    assert_int_equal(reader_u32(&reader), 0x05060708);
    assert_null(reader_take(&reader, 5));
    assert_int_equal(reader_u32(&reader), 0);
    assert_false(reader_ok(&reader));
}

static void keys_compare_as_numbers(void **state)
{
    (void)state;
    uint8_t a[8], b[8];
    be64_store(a, 255);
    be64_store(b, 256);
    assert_true(slice_compare(slice_of(a, 8), slice_of(b, 8)) < 0);
    assert_true(slice_compare(slice_of(a, 7), slice_of(a, 8)) < 0);
    assert_int_equal(be64_load(b), 256);
}

static void heap_counts_and_frees_all(void **state)
{
    (void)state;
    struct mem_heap *heap = mem_heap_new(true);
    struct mem_heap *before = mem_heap_set(heap);
    char *kept = mem_strdup("kept");
    void *aligned = mem_alloc_aligned(100, 4096);
    assert_int_equal((uintptr_t)aligned % 4096, 0);
    void *grown = mem_realloc(mem_alloc(10), 1000);
    assert_int_equal(mem_heap_bytes(heap), 5 + 100 + 1000);
    mem_heap_set(before);
    mem_free(grown); /* returns to the heap it came from */
    assert_int_equal(mem_heap_bytes(heap), 105);
    assert_string_equal(kept, "kept");
    mem_heap_destroy(heap);
}

static void bufs_are_aligned_and_reused(void **state)
{
    (void)state;
    struct buf *first = buf_new(5000);
    assert_int_equal((uintptr_t)first->data % BUF_ALIGN, 0);
    assert_int_equal(first->bytes, 5000);
    assert_true(first->size >= 5000);
    uint8_t *place = first->data;
    buf_get(first);
    buf_put(first);
    buf_put(first);
    struct buf *second = buf_new(8192);
    assert_ptr_equal(second->data, place);
    buf_put(second);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crc_known_answers),           cmocka_unit_test(errors_translate),
        cmocka_unit_test(htable_against_array),        cmocka_unit_test(cursors_are_sticky),
        cmocka_unit_test(keys_compare_as_numbers),     cmocka_unit_test(heap_counts_and_frees_all),
        cmocka_unit_test(bufs_are_aligned_and_reused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
