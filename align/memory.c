#include "align/memory.h"
#include <string.h>

su_status su_memory_choose(const su_memory_limit *limit, su_device *d, size_t taken, su_memory_plan *plan,
                           void *context, su_checkpointing *level, su_error *err)
{
    const char *name = limit->checkpointing;
    int first = SU_CHECKPOINTING_NONE, last = SU_CHECKPOINTING_LEVELS - 1;
    if (name && strcmp(name, "auto") != 0) {
        while (first <= last && strcmp(name, su_checkpointing_names[first]) != 0) first++;
        if (first > last)
            return su_fail(err, SU_EINVAL, "--checkpointing %s: choose auto, none, selective or full", name);
        last = first;
    }
    size_t room = limit->gigabytes > 0.0 ? (size_t)(limit->gigabytes * 1e9) : d->ops->room(d);
    if (limit->gigabytes <= 0.0 && room < SIZE_MAX - taken) room += taken;
    while (first < last && plan(context, (su_checkpointing)first) > room) first++;
    *level = (su_checkpointing)first;
    size_t bytes = plan(context, *level);
    if (limit->gigabytes > 0.0 && bytes > room)
        return su_fail(err, SU_ENOMEM,
                       "%.1f MB are planned with --checkpointing %s, more than --memory %g (GB) allows; a "
                       "smaller --micro-batch needs less",
                       (double)bytes / 1e6, su_checkpointing_names[first], limit->gigabytes);
    return SU_OK;
}
