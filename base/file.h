/* Files: whole-file reads with a limit, and atomic writes.
 *
 * A writer makes PATH.tmp-PID-N in the same folder, writes, fsyncs, renames it to PATH and fsyncs the folder:
 * under the final name there is either the old content or the whole new one, whatever kills the process. What
 * a killed writer left is removed by the next writer of the same PATH: a writer holds a lock on its temporary
 * file, so one that can be locked has no owner. A symbolic link is followed and stays; a device or a pipe
 * (/dev/stdout, a shell's >(...)) is written in place. */
#ifndef SU_BASE_FILE_H
#define SU_BASE_FILE_H

#include "base/error.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Reads a file (or a pipe, to its end) of at most max bytes; *data is NUL-terminated and freed with su_free.
 * SU_ENOTFOUND, SU_EIO (also: is a folder), SU_ELIMIT. */
su_status su_file_read(const char *path, size_t max, char **data, size_t *length, su_error *err);

typedef struct su_writer su_writer;
su_status su_writer_open(const char *path, su_writer **w, su_error *err);
su_status su_writer_add(su_writer *w, const void *data, size_t length, su_error *err);
su_status su_writer_printf(su_writer *w, su_error *err, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Frees w in any case. After a failure the old file, if any, is untouched. */
su_status su_writer_commit(su_writer *w, su_error *err);
void su_writer_abort(su_writer *w); /* removes the temporary file; NULL accepted */

su_status su_file_write(const char *path, const void *data, size_t length, su_error *err); /* atomic, whole */

su_status su_mkdirs(const char *path, su_error *err); /* like mkdir -p */
/* Keeps a folder to one process: SU_EIO when another holds it ("what": "training"). The lock goes with the
 * process, or by su_folder_unlock. File systems without locks let everyone pass. */
su_status su_folder_lock(const char *path, const char *what, int *lock, su_error *err);
void su_folder_unlock(int lock); /* a negative one is nothing */

bool su_file_exists(const char *path);
bool su_is_folder(const char *path);
/* folder + "/" + name, freed with su_free; NULL without memory. An absolute name is returned as it is. */
char *su_path_join(const char *folder, const char *name);
const char *su_path_name(const char *path); /* what follows the last '/' */

/* A read-only memory map of a regular file (anything else is SU_EIO, and never waited for). An empty file
 * gives length 0 and data that is not NULL. */
typedef struct {
    const uint8_t *data;
    size_t length;
} su_map;
su_status su_map_open(const char *path, su_map *map, su_error *err);
void su_map_close(su_map *map);

#endif
