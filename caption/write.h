/* Writing captions for many images, from pixels to words. */
#ifndef SU_CAPTION_WRITE_H
#define SU_CAPTION_WRITE_H

#include "caption/captioner.h"

/* One finished caption; everything is valid during the call that hands it over. */
typedef struct {
    const su_generated *generated;
    const char *text;        /* words and spaces (caption/words.h) */
    const int64_t *evidence; /* rows of the captioner's evidence that it was offered, the nearest first */
    const float *scores;     /* cosines with the image */
    int32_t pieces;
} su_written;

typedef struct {
    /* Fills up to `room` images, [image_size, image_size, channels] each of pixels, numbers that are the
     * caller's, and who they are (for evidence; the strings live until the caption is written). Sets *count:
     * 0 is the end. */
    su_status (*next)(void *context, int32_t room, uint8_t *pixels, int64_t *numbers, su_identity *who,
                      int32_t *count, su_error *err);
    /* Every caption once, when it is finished: in any order. */
    su_status (*written)(void *context, const su_written *written, su_error *err);
    void *context;
} su_caption_work;

/* Captions everything, at most `slots` images at a time. rules->start and ->end are set here; control tokens
 * are forbidden whether rules->forbidden names them or not (su_phrases_new with `control`). evidence 0: none
 * is offered, though the decoder was trained with it. */
su_status su_caption_write(su_captioner *c, const su_generation *rules, int32_t slots, int32_t evidence,
                           const su_caption_work *work, su_error *err);

#endif
