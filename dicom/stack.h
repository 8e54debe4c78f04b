/* Stacks: which slices make a volume, in which order, on which grid.
 *
 * Slices belong together when they share series, size, spacing and orientation (PS3.3 C.7.6.2.1.1). A stack
 * is sorted along its normal, rows x columns, by Image Position (Patient); file names and instance numbers
 * say nothing.
 *
 *   position   o   o   o       o   o      one missing: the grid has a place for it, filled by interpolation
 *   grid       |   |   |   |   |   |      step: the median distance, refined so that first and last slice lie
 * on it
 *
 * Slices at one position are duplicates (the phases of a dynamic series, or a copy): the one of the lowest
 * instance number is kept. Nothing is silent: the counts stand in su_stack. */
#ifndef SU_DICOM_STACK_H
#define SU_DICOM_STACK_H

#include "base/error.h"
#include "dicom/volume.h"
#include <stdbool.h>
#include <stdint.h>

typedef struct {
    char series[66];       /* Series Instance UID, "" when there is none */
    int32_t rows, columns; /* pixels */
    double spacing[2];     /* between rows, between columns, mm */
    double orientation[6]; /* direction cosines of a row (along x), then of a column */
    double position[3];    /* of the first pixel's centre, mm */
    double thickness;      /* for a stack of one slice, mm; 0: unknown */
    int64_t number;        /* Instance Number, or the frame's */
    int64_t file;          /* the caller's: which file ... */
    int32_t frame;         /* ... and which of its frames, from 0 */
    double height;         /* along the normal, mm: set by su_stacks_sort */
} su_slice;

typedef struct {
    int64_t first, count; /* slices of the sorted array, duplicates left out */
    int64_t duplicates;   /* left out, at positions that others have */
    int32_t places, gaps; /* of the grid, and those without a slice */
    double step, normal[3];
    double worst;    /* largest distance of a slice from its place, mm */
    bool irregular;  /* worst is more than 2 % of a step: distances differ */
    double tilt;     /* degrees between the normal and the line of positions; 0: straight */
    double shift[3]; /* from one place to the next, mm: along the normal, or along the tilted line */
} su_stack;

/* SU_EINVAL when its geometry describes no plane: numbers that are not finite, a spacing that is not
 * positive, an orientation that is not two directions of length 1 at right angles, to 1 %. */
su_status su_slice_check(const su_slice *slice);

/* Sorts the slices by stack and within a stack along its normal, and describes the stacks, the one of most
 * slices first. A stack's duplicates stand behind its slices. *stacks is freed
 * with su_free. SU_EINVAL when there is no slice, or one whose geometry is not finite (its orientation must
 * be two directions of length 1 at right angles, to 1 %). SU_ENOMEM. */
su_status su_stacks_sort(su_slice *slices, int64_t count, su_stack **stacks, int *stack_count, su_error *err);

/* Slice -> [rows][columns] values in the Modality LUT's units. */
typedef su_status su_slice_reader(void *context, const su_slice *slice, float *out, su_error *err);

/* The stack's volume: each place's slice, or what lies between its neighbours in proportion to the distances.
 * SU_ELIMIT above SU_VOLUME_MAX_VOXELS; what the reader reports. */
su_status su_stack_assemble(const su_slice *slices, const su_stack *stack, su_slice_reader *read,
                            void *context, su_volume *v, su_error *err);

#endif
