/* Starting points: towers taken from another model's folder. */
#ifndef SU_ALIGN_INIT_H
#define SU_ALIGN_INIT_H

#include "align/model.h"

/* For every stream with `init`: the tower's architecture (width, depth, heads, mlp, activation, eps, pooling,
 * patch, vocabulary, positions, types, mean, std) becomes that of the first tower of the same kind in that
 * folder; what training chooses (dropout, image_size, max_tokens, ...) stays. *vocabulary: freed with
 * su_free, the path of the text init's vocab.txt, or NULL. */
su_status su_init_configure(su_model_config *c, char **vocabulary, su_error *err);

/* Copies those towers' weights into m (projections are not taken over). A ViT's positions are interpolated
 * when the number of patches differs. */
su_status su_init_load(su_model *m, su_error *err);

/* Reads a BERT encoder from a Hugging Face folder (config.json, model.safetensors, vocab.txt;
 * 1_Pooling/config.json when it is a sentence-transformers model) and writes it as a model of one text stream
 * without projection into `out`. SU_EUNSUPPORTED names what this is instead of a BERT. */
su_status su_import_bert(const char *folder, const char *out, su_device *device, su_error *err);

#endif
