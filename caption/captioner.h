/* A model that writes captions: an alignment, and a decoder on its image tower.
 *
 *   RUN/model.json, vocab.txt           the alignment (align/model.h); the run is one too
 *   RUN/model.safetensors               its parameters and the decoder's ("decoder....")
 *   RUN/caption.json                    {"schema":"suture.caption/1","decoder":{...},"max_tokens","evidence",
 *                                        "evidence_tokens","vocabulary_sha256"}
 *   RUN/caption_vocab.txt               the decoder's own vocabulary
 *   RUN/evidence.safetensors, .jsonl    when it was trained with evidence (caption/evidence.h) */
#ifndef SU_CAPTION_CAPTIONER_H
#define SU_CAPTION_CAPTIONER_H

#include "align/model.h"
#include "caption/config.h"
#include "caption/evidence.h"
#include "caption/generate.h"
#include "caption/rows.h"

typedef struct {
    su_model *model;
    su_decoder *decoder;     /* its parameters stand in the model's table */
    su_wordpiece *tokenizer; /* the decoder's */
    su_evidence *evidence;   /* NULL: none was trained with */
    int stream;              /* the model's image stream */
    int32_t max_tokens, evidence_tokens;
    int32_t pieces; /* of evidence; 0: none */
} su_captioner;

/* SU_ENOTFOUND when the run has no decoder. */
su_status su_captioner_open(const char *folder, su_device *device, su_captioner **captioner, su_error *err);
void su_captioner_free(su_captioner *c);
su_status su_captioner_save(const su_captioner *c, const char *folder, su_error *err);

/* The start of a training: the alignment c->from with a new decoder over `tokenizer` (taken over, also on
 * failure), trainable, what is frozen frozen. */
su_status su_captioner_new(const su_caption_config *c, su_wordpiece *tokenizer, su_device *device,
                           su_captioner **captioner, su_error *err);

/* Tokens of one image: su_tower_tokens of the image tower. */
int32_t su_captioner_memory(const su_captioner *c);

#endif
