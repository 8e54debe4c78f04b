/* Configuration of a caption training: that of an alignment training (the towers, the objective for joint
 * training, epochs, rates, augmentation, holdout), with a member "caption". */
#ifndef SU_CAPTION_CONFIG_H
#define SU_CAPTION_CONFIG_H

#include "align/config.h"
#include "caption/decoder.h"

typedef struct {
    su_train_config
        train; /* stream[i].lr_factor: 0 freezes a tower; all are frozen unless the configuration says else */
    char from[1024];           /* folder of the alignment */
    char from_sha256[65];      /* of its weights */
    su_decoder_config decoder; /* vocabulary, positions, types and memory_width follow from the rest */
    bool warm; /* start from the text tower's weights; the decoder must have its width, heads and mlp */
    bool whole_vocabulary;   /* false: only the tokens that training captions use, and single characters */
    int32_t max_tokens;      /* of a caption, [SEP] included */
    int32_t evidence;        /* captions of so many nearest training images are offered in front; 0: none */
    int32_t evidence_tokens; /* each is cut to */
    double label_smoothing;
    double weight; /* of the caption loss */
    bool joint;    /* the alignment's objective, with its own weights, is trained on as well */
} su_caption_config;

/* The defaults for an alignment: its towers, frozen; a decoder like its text tower. */
su_status su_caption_config_from(const char *folder, su_caption_config *c, su_error *err);
/* Members of `json` override c. where: file name for messages. */
su_status su_caption_config_merge(const json_t *json, const char *where, su_caption_config *c, su_error *err);
/* Ranges and combinations; sets what follows from the rest, but for the vocabulary. */
su_status su_caption_config_check(su_caption_config *c, su_error *err);
json_t *su_caption_config_json(const su_caption_config *c); /* new reference, NULL without memory */

json_t *su_decoder_config_json(const su_decoder_config *c);
su_status su_decoder_config_parse(const json_t *o, const char *where, su_decoder_config *c, su_error *err);

#endif
