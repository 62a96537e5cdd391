/* SPDX-License-Identifier: MIT */
#ifndef CFS_BASE_LIST_H
#define CFS_BASE_LIST_H

/* Intrusive doubly linked ring. A node that is in no list points at itself (list_init). */

#include "base/assert.h"
#include "base/defs.h"

struct list {
    struct list *next;
    struct list *prev;
};

static inline void list_init(struct list *head)
{
    head->next = head;
    head->prev = head;
}
static inline bool list_empty(const struct list *head)
{
    return head->next == head;
}
static inline void list_add_between(struct list *node, struct list *prev, struct list *next)
{
    node->prev = prev;
    node->next = next;
    prev->next = node;
    next->prev = node;
}
static inline void list_push_back(struct list *head, struct list *node)
{
    list_add_between(node, head->prev, head);
}
static inline void list_push_front(struct list *head, struct list *node)
{
    list_add_between(node, head, head->next);
}
/* Harmless on a node that is in no list. */
static inline void list_remove(struct list *node)
{
    node->prev->next = node->next;
    node->next->prev = node->prev;
    list_init(node);
}
/* NULL if empty. */
static inline struct list *list_pop_front(struct list *head)
{
    if (list_empty(head))
        return NULL;
    struct list *node = head->next;
    list_remove(node);
    return node;
}

#define list_entry(pointer, type, member) container_of(pointer, type, member)
#define list_first(head, type, member)    list_entry((head)->next, type, member)
#define list_last(head, type, member)     list_entry((head)->prev, type, member)
#define list_for_each(item, head, member)                                                          \
    for (item = list_entry((head)->next, __typeof__(*item), member); &item->member != (head);      \
         item = list_entry(item->member.next, __typeof__(*item), member))
/* The current item may be removed (and freed) in the body. */
#define list_for_each_safe(item, after, head, member)                                              \
    for (item = list_entry((head)->next, __typeof__(*item), member),                               \
        after = list_entry(item->member.next, __typeof__(*item), member);                          \
         &item->member != (head);                                                                  \
         item = after, after = list_entry(item->member.next, __typeof__(*item), member))

#endif
