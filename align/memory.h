/* What a training may take of the device's memory, and which activations it keeps so that it stays within that. */
#ifndef SU_ALIGN_MEMORY_H
#define SU_ALIGN_MEMORY_H

#include "nn/stack.h"

typedef struct {
    const char *checkpointing; /* a level's name (nn/stack.h); NULL or "auto": the lowest level that fits */
    double gigabytes; /* most that weights, gradients, moments and activations may take; 0: what is free */
} su_memory_limit;

/* Bytes that a training would take in all at that level. */
typedef size_t su_memory_plan(void *context, su_checkpointing level);

/* The level to train at; `taken` bytes of the plan are on the device already. What is free may differ from run to
 * run: results do not. SU_EINVAL: there is no such level. SU_ENOMEM: the plan is above limit->gigabytes at every
 * level that may be chosen. Where what is free does not suffice, the highest level is chosen, and taking the
 * memory will tell. */
su_status su_memory_choose(const su_memory_limit *limit, su_device *d, size_t taken, su_memory_plan *plan,
                           void *context, su_checkpointing *level, su_error *err);

#endif
