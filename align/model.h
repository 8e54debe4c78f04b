/* A model: M towers, their projections into one space, the logit scale, the vocabulary and the recipe.
 *
 *   z_i^m = normalise(P_m tower_m(x_i^m))      P_m [dim, width], no bias; dim 0: no projection
 *
 * On disk, a folder (a training run is one too):
 *   model.json          {"schema":"suture.model/1","model":{...su_model_config...}}
 *   model.safetensors   every parameter under its name: "image.encoder.layer.0...", "image.projection.weight",
 *                       "logit_scale"
 *   vocab.txt           the tokenizer's vocabulary, when there is a text stream
 */
#ifndef SU_ALIGN_MODEL_H
#define SU_ALIGN_MODEL_H

#include "align/config.h"
#include "align/tower.h"
#include "text/wordpiece.h"

/* Learning-rate groups: a stream's own; projections; whatever stands on the towers (a caption decoder); the
 * logit scale. */
enum {
    SU_GROUP_STREAM = 0,
    SU_GROUP_DECODER = SU_LR_GROUPS - 3,
    SU_GROUP_PROJECTION = SU_LR_GROUPS - 2,
    SU_GROUP_LOGIT_SCALE = SU_LR_GROUPS - 1,
    SU_MAX_TRAINED_STREAMS = SU_GROUP_DECODER
};

typedef struct {
    su_model_config config;
    su_device *device; /* not owned */
    su_params params;
    su_tower *tower[SU_MAX_STREAMS];
    int64_t projection[SU_MAX_STREAMS]; /* parameter indexes */
    int64_t logit_scale;
    su_wordpiece *tokenizer; /* owned; NULL without a text stream */
    char sha256[65];         /* of model.safetensors, when opened from a folder */
    bool any_recipe; /* false; a caller sets it to take datasets of another recipe, of the same size */
    su_checkpointing checkpointing; /* NONE; a caller sets it before it plans: of towers that learn */
    bool tokens[SU_MAX_STREAMS];    /* false; a caller that reads su_tower_output sets it before it plans */
    /* buffers */
    void *arena_memory;
    int32_t planned; /* samples a call; 0: not planned */
    void *projected; /* act [planned, dim] */
    void *z, *norm;  /* acc [planned, dim], [planned]: for encoding */
} su_model;

/* What model.json says. */
su_status su_model_read_config(const char *folder, su_model_config *config, su_error *err);

/* Builds the table and draws the weights. tokenizer is taken over by the model, also on failure; NULL when
 * there is no text stream. */
su_status su_model_new(const su_model_config *config, su_device *device, su_wordpiece *tokenizer,
                       bool training, uint64_t seed, su_model **model, su_error *err);
/* The same in two steps: the table, without memory for it, so that what a model needs can be told first (see
 * su_params_bytes, su_step_bytes); then memory and weights. */
su_status su_model_table(const su_model_config *config, su_device *device, su_wordpiece *tokenizer,
                         su_model **model, su_error *err);
su_status su_model_start(su_model *m, bool training, uint64_t seed, su_error *err);
/* Opens a folder for encoding (training false), or to go on training. */
su_status su_model_open(const char *folder, su_device *device, bool training, su_model **model,
                        su_error *err);
/* The same in two steps, so that more can stand in the table beside the towers: read makes the table of
 * `config` (NULL: of model.json) and vocab.txt, without memory for it; the caller adds parameters and freezes
 * groups; load takes the first `count` parameters from model.safetensors and draws the others. */
su_status su_model_read(const char *folder, const su_model_config *config, su_device *device,
                        su_model **model, su_error *err);
su_status su_model_load(su_model *m, const char *folder, int64_t count, bool training, uint64_t seed,
                        su_error *err);
void su_model_free(su_model *m);
/* Writes the three files, model.json last. */
su_status su_model_save(const su_model *m, const char *folder, su_error *err);

/* Width of an embedding: config.dim, or the towers' width when dim is 0. */
int32_t su_model_width(const su_model *m);
/* lr_factor 0: the tower runs without dropout, keeps no activations and gets no gradient; its projection
 * learns. */
bool su_model_frozen(const su_model *m, int stream);
int su_model_stream(const su_model *m, const char *name);      /* index, or -1 */
int su_model_stream_of(const su_model *m, su_tower_kind kind); /* the first of that kind, or -1 */
/* SU_EMISMATCH when ds was packed by another recipe than the model was trained on, or lacks one of its
 * streams. */
su_status su_model_check_dataset(const su_model *m, const su_dataset *ds, su_error *err);

/* Plans buffers: `batch` samples a call. With backward, activations of all towers are kept, as m->checkpointing
 * says. *bytes: what was planned. */
su_status su_model_plan(su_model *m, int32_t batch, bool backward, size_t *bytes, su_error *err);
/* What it would plan. Buffers that were planned before are not valid any more. */
size_t su_model_bytes(su_model *m, int32_t batch, bool backward);

/* Pooled, projected, normalised: z acc [batch, width] and norm acc [batch] on the device (given by the
 * caller). */
su_status su_model_forward(su_model *m, int stream, const su_tower_input *in, void *z, void *norm,
                           su_error *err);
/* dz acc [batch, width], of the last forward of that stream. d_tokens: see su_tower_backward; may be NULL. */
su_status su_model_backward(su_model *m, int stream, const su_tower_input *in, const void *dz, const void *z,
                            const void *norm, const void *d_tokens, su_error *err);

/* Embeddings in host memory, float [batch, width], any number of samples (cut into planned calls, which are
 * planned when needed). images: [batch, image_size, image_size, channels] of that stream's tower. */
su_status su_model_encode_images(su_model *m, int stream, const uint8_t *images, int32_t batch, float *z,
                                 su_error *err);
su_status su_model_encode_texts(su_model *m, int stream, const char *const *texts, int32_t count, float *z,
                                su_error *err);
/* Rows already tokenised: ids [batch, max_tokens], lengths [batch]. */
su_status su_model_encode_ids(su_model *m, int stream, const int32_t *ids, const int32_t *lengths,
                              int32_t batch, float *z, su_error *err);
/* What the others are made of. Read of in: batch, and the images, the texts or what was pooled. */
su_status su_model_encode(su_model *m, int stream, const su_tower_input *in, float *z, su_error *err);

/* From what a frozen tower gave before (align/kept.h): pooled [batch, the tower's width]. */
su_status su_model_encode_pooled(su_model *m, int stream, const float *pooled, int32_t batch, float *z,
                                 su_error *err);

/* tau now. */
su_status su_model_temperature(const su_model *m, double *tau, su_error *err);

#endif
