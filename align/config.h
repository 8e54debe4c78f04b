/* Configuration of a model and of its training: one JSON document, presets, and the checks on both.
 *
 * A configuration starts from a preset, then a --config file's members, then the command line. The resolved
 * document is written into the run, so that a run says everything about itself. Unknown members are errors. */
#ifndef SU_ALIGN_CONFIG_H
#define SU_ALIGN_CONFIG_H

#include "align/tower.h"
#include "datasets/dataset.h"
#include "datasets/loader.h"

typedef struct {
    char name[64]; /* "image", "text", "frontal": the dataset's stream */
    su_tower_config tower;
    double lr_factor; /* of the peak learning rate for this tower; 0 freezes it */
    char init[1024];  /* folder of a model whose tower of the same kind this one starts from; "" : random */
} su_stream_config;

typedef struct {
    int streams;
    su_stream_config stream[SU_MAX_STREAMS];
    int anchor;  /* index of the stream that the others are aligned to: text by default */
    int32_t dim; /* of the shared space; 0: towers' own width, no projection (imported sentence encoders) */
    su_image_recipe recipe; /* of the stored squares that it was trained on; size 0: none yet */
} su_model_config;

typedef struct {
    char name[32];                                /* "clip-lt", "clip-ft", "closegap", or "custom" */
    double lambda_infonce, lambda_atp, lambda_cu; /* weights of InfoNCE, L_ATP and L_CU */
    double temperature;                           /* tau, at the start when it is learned */
    bool learn_temperature;                       /* s = log(1/tau) is a parameter, 1/tau <= 100 */
    double temperature_lr;                        /* its own learning rate; 0: the peak rate */
    su_centroids centroids;                       /* "normalised" (default) or "raw" */
    /* Optional schedule: both weights change linearly from their value at epoch `from` to `to`'s value at its
     * end. */
    double atp_end, cu_end;   /* weights at the last epoch; negative: constant */
    double atp_from, cu_from; /* share of training after which the change starts, 0..1 */
} su_objective;

typedef struct {
    su_model_config model;
    su_objective objective;
    char preset[32];
    int64_t epochs;
    int32_t batch, micro_batch;                                    /* micro_batch 0: the batch */
    double lr, weight_decay, beta1, beta2, eps, warmup, clip_norm; /* warmup: share of all steps */
    uint64_t seed;
    double holdout; /* share of the training groups kept out to choose the best epoch, 0: none, the last epoch
                       counts */
    bool keep_best; /* model.safetensors is the epoch with the best holdout MRR; false: the last */
    int64_t checkpoint_steps; /* a resumable checkpoint every so many steps, besides those at the ends of
                                 epochs (align/run.h); 0: these only */
    su_augment augment;
} su_train_config;

/* "tiny", "small", "base", "eva-g". SU_EINVAL names them. Objective closegap. */
su_status su_config_preset(const char *preset, su_train_config *c, su_error *err);
/* clip-lt, clip-ft, closegap: sets lambdas, temperature and whether it is learned. */
su_status su_config_objective(const char *name, su_objective *o, su_error *err);
/* Members of `json` override c. where: file name for messages. */
su_status su_config_merge(const json_t *json, const char *where, su_train_config *c, su_error *err);
/* Ranges and combinations; vocabulary is checked when the tokenizer is known. */
su_status su_config_check(const su_train_config *c, su_error *err);

json_t *su_config_json(const su_train_config *c); /* the whole document, new reference, NULL without memory */
json_t *
su_model_config_json(const su_model_config *c); /* {"streams":[...],"dim":...,"anchor":...,"recipe":{...}} */
su_status su_model_config_parse(const json_t *json, const char *where, su_model_config *c, su_error *err);

#endif
