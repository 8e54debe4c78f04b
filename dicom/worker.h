/* Worker processes: where foreign code meets foreign bytes.
 *
 * Decoders, and DCMTK's reading of files whose structure is not plain (scan.h), run in processes of their
 * own: the program suture-decode, started when it is first needed, kept for the next job, one for each thread
 * that asks at the same time. A worker has limits on memory and processor time, set anew for every job, and,
 * where the kernel has seccomp, no right to open, write or talk to anything but the socket that it was given.
 * What aborts, loops or swells there costs one job: the worker is killed, the caller gets an error that says
 * so.
 *
 *     caller                                   suture-decode
 *     job, file descriptor of shared memory -> | compressed frame | decoded frame |
 *     status, message                       <- decoded in place
 *
 * suture-decode is looked for where SUTURE_DECODE says, beside the program, and in ../libexec/suture. */
#ifndef SU_DICOM_WORKER_H
#define SU_DICOM_WORKER_H

#include "dicom/codec.h"
#include <stddef.h>

/* Decodes a compressed frame. data [job->length], out [job->frame_bytes]. name: the file, for messages.
 * SU_EFORMAT (damaged; or its decoder crashed), SU_ELIMIT (needed more time or memory than a frame of that
 * size may), SU_ENOTFOUND, SU_EIO (there is no worker), SU_ENOMEM. Any thread. */
su_status su_worker_decode(const su_codec_job *job, const uint8_t *data, void *out, const char *name,
                           su_error *err);

/* Reads a data set's elements [length] as su_dicom_open would, without keeping them. Errors as above. */
su_status su_worker_vet(const uint8_t *data, uint64_t length, bool implicit, bool big, const char *name,
                        su_error *err);

/* Ends the workers that are idle. They end by themselves with the process. */
void su_workers_close(void);

/* What holds a worker, for `suture doctor`: "" when all of it does, else what does not. NULL: no worker can
 * be started (err says why). */
const char *su_worker_limits(su_error *err);

#endif
