/* SPDX-License-Identifier: MIT */
/* Slots: what makes a request that is sent again the same one (I1 in client.c). The slot given back
 * last is taken first, so that servers have few to remember. */
#include "client/client_internal.h"

#include "base/assert.h"

void slots_init(struct client_slots *slots)
{
    list_init(&slots->free);
    waitq_init(&slots->wait);
    for (uint32_t i = 0; i < CLIENT_SLOTS; i++) {
        slots->all[i] = (struct client_slot){.index = i};
        list_init(&slots->all[i].link);
        list_push_back(&slots->free, &slots->all[i].link);
    }
    slots->next_index = CLIENT_SLOTS;
}

struct client_slot *slot_take(struct client_slots *slots)
{
    while (list_empty(&slots->free))
        (void)waitq_wait(&slots->wait, 0); /* every request ends, so a slot comes free */
    struct client_slot *slot = list_entry(list_pop_front(&slots->free), struct client_slot, link);
    slot->seq++;
    return slot;
}

void slot_give(struct client_slots *slots, struct client_slot *slot)
{
    assert(slot >= slots->all && slot < slots->all + CLIENT_SLOTS && slot->seq > 0);
    list_push_front(&slots->free, &slot->link);
    waitq_wake_one(&slots->wait);
}

void slot_retire(struct client_slots *slots, struct client_slot *slot)
{
    assert(slots->next_index >= CLIENT_SLOTS);
    slot->index = slots->next_index++;
    slot->seq = 0;
    list_push_front(&slots->free, &slot->link);
    waitq_wake_one(&slots->wait);
}
