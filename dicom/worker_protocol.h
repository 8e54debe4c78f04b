/* What crosses the socket between worker.c and suture-decode. Both are built together: no versions. */
#ifndef SU_DICOM_WORKER_PROTOCOL_H
#define SU_DICOM_WORKER_PROTOCOL_H

#include "dicom/codec.h"

enum { SU_WORKER_SOCKET = 3 }; /* its number in the worker */

typedef enum {
    SU_WORKER_DECODE,
    SU_WORKER_VET,
    SU_WORKER_LIMITS, /* the reply's message says what limit is not in force */
} su_worker_order;

/* Shared memory, whose descriptor comes along where it is another than before: the compressed frame, or the
 * data set, at 0, the decoded frame at `out`. */
typedef struct {
    su_worker_order order;
    uint64_t shared, out; /* bytes mapped; where pixels go */
    uint64_t length;      /* VET: of the data set */
    bool implicit, big;   /* VET */
    su_codec_job job;     /* DECODE */
} su_worker_request;

/* The message is about one file, and does not name it. */
typedef struct {
    int32_t status;
    char message[244];
} su_worker_reply;

#endif
