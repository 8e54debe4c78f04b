/* JSON Lines in the order of their inputs, from work that finishes in any order; an interrupted file goes on.
 *
 *   FILE.partial          the lines so far, each written whole as soon as all before it are there
 *   FILE.partial.json     what made them: lines of another model or other settings are never mixed
 *   FILE                  when the last line is there, by one rename
 *
 * A process that was killed leaves FILE.partial; opened again with `resume`, a torn last line is cut and the
 * others count as done. "-" is standard output, of which nothing can be resumed. */
#ifndef SU_CLI_ORDERED_H
#define SU_CLI_ORDERED_H

#include "base/error.h"
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct su_ordered su_ordered;

/* Called for every line when its turn has come. */
typedef void su_ordered_show(const json_t *line);

/* path NULL: no file. settings: what must be equal to go on. key: the member that names an input ("file").
 * show may be NULL. SU_EINVAL: FILE.partial is there and resume is false, or was made with other settings.
 * SU_EIO: another process writes it. */
su_status su_ordered_open(const char *path, const json_t *settings, const char *key, bool resume,
                          su_ordered_show *show, su_ordered **out, su_error *err);
/* The line of an earlier process for this input, or NULL. */
const json_t *su_ordered_before(const su_ordered *out, const char *name);
int64_t su_ordered_count_before(const su_ordered *out);
/* Lines are numbered 0, 1, 2, ... in the order in which they shall appear. Takes the reference. */
su_status su_ordered_put(su_ordered *out, int64_t number, json_t *line, su_error *err);
/* After the last line: gives FILE its name. */
su_status su_ordered_finish(su_ordered *out, su_error *err);
void su_ordered_close(su_ordered *out); /* leaves FILE.partial when it was not finished; NULL accepted */

#endif
