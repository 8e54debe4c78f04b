/* What a file says of its picture, and what Suture would make of it: for people before they render, and for
 * scripts. */
#ifndef SU_DICOM_INFO_H
#define SU_DICOM_INFO_H

#include "base/error.h"
#include <jansson.h>
#include <stdbool.h>

/* One JSON object, a new reference; a member that the file says nothing of is null.
 *
 *   schema "suture.dicom.info/1", file, transfer_syntax, transfer_syntax_name, character_set, sop_class,
 *   sop_class_name, modality, body_part, view, laterality, burned_in_annotation
 *   pixels        null, or {rows, columns, frames, samples, photometric, type, bits_allocated, bits_stored,
 *                 high_bit, signed}
 *   decodes       true, or false and `reason`: of the frame that `dicom render` shows, number `frame` from 1
 *   values        [least, greatest] of that frame, in the units of the Modality LUT, padding left out
 *   fragments     how frames are found in compressed pixel data
 *   modality_lut  {slope, intercept, unit} or {entries, bits}
 *   windows       [{centre, width}, ...], voi_function, voi_tables
 *   padding       [low, high]       inverted       true or false
 *   spacing       {row, column, from}: millimetres, and the attribute that says so
 *   slice         {position, orientation, thickness}
 *   overlays      how many are left out        notes   what the file says wrongly, as a sentence
 *   recipes       [{recipe, shows} or {recipe, refused}, ...]
 *   people        {patient_name, patient_id, ...}: what is there is "masked", unless phi. Codes that are no
 *                 codes are null unless phi, for anything may stand in them
 *
 * name: the path, for output: UTF-8. Pixels that cannot be decoded are no error. Errors: those of
 * su_dicom_open; SU_ENOMEM. */
su_status su_dicom_info(const char *path, const char *name, bool phi, json_t **info, su_error *err);

#endif
