/* Files that come with Suture and are looked for at run time: its decoder program, its CUDA part, its
 * vocabulary. */
#ifndef SU_BASE_COMPANION_H
#define SU_BASE_COMPANION_H

/* What the environment's `variable` says, whether it is there or not, if it says something. Else the first of
 * FOLDER/name, FOLDER/../name (a build folder) and FOLDER/../installed/name that is there, where FOLDER is
 * the program's and then, in a program of somebody else, that of libsuture.so. Freed with su_free; NULL when
 * it is nowhere. */
char *su_companion(const char *variable, const char *name, const char *installed);

#endif
