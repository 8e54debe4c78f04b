/* A model's parameters: a table of named tensors over four flat arrays on one device.
 *
 *   master  acc   the weights, in the optimiser's precision
 *   compute act   what matmuls read; the same memory as master when act == acc
 *   grad    acc   sums of gradients
 *   m, v    acc   AdamW's moments (only when a training asks for them)
 *
 * Parameters of a frozen group have a weight and nothing else: grad, m and v hold the others, in the same
 * order.
 *
 *   +----------------+----------------+---+--------------------------+---
 *   | query.weight   | key.weight     |...| next parameter (aligned) | ...     offsets count elements
 *   +----------------+----------------+---+--------------------------+---
 *
 * Several ranks (device->comm) each hold all weights and gradients, but the moments of one part of the elements
 * alone (ZeRO-1): a step adds up the ranks' gradients part by part, each rank updates the weights of its part, and
 * all get them. Parts are equal, whatever parameters they hold; files hold every parameter whole, under its name,
 * so a run goes on with any number of ranks.
 *
 *   grad   [ rank 0's part | rank 1's part | ... ]      parts of `shard` elements
 *   m, v                   [ rank 1's part ]            on rank 1
 *
 * Sums of gradients begin while the backward pass still runs: it says which parameters nothing more is added to
 * (su_params_ready), and the step adds up what is left.
 *
 * A parameter added with `packed` follows its predecessor without a gap, so that query, key and value weights
 * can be read as one [3 width, width] matrix while each keeps the name it has in Hugging Face. */
#ifndef SU_NN_PARAMS_H
#define SU_NN_PARAMS_H

#include "base/safetensors.h"
#include "nn/comm.h"

/* SU_INIT_GRID: a position table [1, 1 + g*g, width]: zero for the class token, then for each patch of a g x
 * g grid sin and cos of its column, sin and cos of its row, each at width/4 frequencies from 1 down to
 * 1/10000. */
typedef enum { SU_INIT_ZERO, SU_INIT_ONE, SU_INIT_NORMAL, SU_INIT_CONSTANT, SU_INIT_GRID } su_init;

typedef struct {
    char *name;
    int rank;
    int64_t shape[4];
    int64_t offset, count; /* elements */
    int64_t state;         /* offset in grad, m and v; -1: frozen. Set by commit */
    bool summing;          /* the sum of the ranks' gradients has begun */
    bool decay; /* weight decay applies: matrices yes; biases, norms, embeddings of single rows no */
    int group;  /* learning-rate group, chosen by the model */
    su_init init;
    double scale; /* SU_INIT_NORMAL: standard deviation, cut at two of them; SU_INIT_CONSTANT: the value */
} su_param;

typedef struct {
    su_device *device;
    su_param *items;
    int64_t count, capacity;
    int64_t elements; /* of each flat array, alignment gaps included */
    int64_t learning; /* elements that have a gradient */
    int64_t shard;    /* of these, elements of m and v here: all; with several ranks a rank's part */
    uint32_t frozen;  /* a bit a learning-rate group */
    int64_t worth;    /* elements that are worth a sum over the ranks before the step */
    int64_t ready, ready_end; /* parameters that are ready, and not worth one by themselves */
    void *master, *compute, *grad, *m, *v;
    bool failed; /* an addition ran out of memory; su_params_commit reports it */
} su_params;

void su_params_init(su_params *p, su_device *device);
void su_params_free(su_params *p);

/* Adds a parameter and returns its index (its offset is items[index].offset). A failure is kept until commit. */
int64_t su_params_add(su_params *p, const char *name, int rank, const int64_t *shape, bool decay, int group,
                      su_init init, double scale, bool packed);
/* Before commit: the group's parameters will not learn. */
void su_params_freeze(su_params *p, int group);
/* Allocates the arrays (gradients and moments too when `training`); weights are zero until initialised or
 * loaded. */
su_status su_params_commit(su_params *p, bool training, su_error *err);
size_t su_params_bytes(su_params *p, bool training); /* what commit would allocate */
/* Collective: all ranks get rank 0's weights, to the bit. One rank: nothing. */
su_status su_params_share(su_params *p, su_error *err);
/* Draws every parameter keyed by (seed, its name): adding a parameter never changes the others' start. */
su_status su_params_randomise(su_params *p, uint64_t seed, su_error *err);
/* Brings compute up to date with master; call after every change of master. */
void su_params_refresh(su_params *p);

int64_t su_params_find(const su_params *p, const char *name);          /* index, or -1 */
static inline void *su_param_weight(const su_params *p, int64_t index) /* act */
{
    return su_act_at(p->device, p->compute, p->items[index].offset);
}
static inline void *su_param_grad(const su_params *p, int64_t index) /* acc */
{
    return su_acc_at(p->device, p->grad, p->items[index].state);
}
static inline bool su_param_learns(const su_params *p, int64_t index)
{
    return p->items[index].state >= 0;
}

/* One parameter's master values from and to host doubles (count of them). */
su_status su_params_get(const su_params *p, int64_t index, double *values, su_error *err);
su_status su_params_set(su_params *p, int64_t index, const double *values, su_error *err);

/* Writes master as F32 tensors under their names (and with moments: "adam.m/NAME", "adam.v/NAME"). Atomic. With
 * moments it is collective, and rank 0 writes. */
su_status su_params_save(const su_params *p, const char *path, bool moments, const char *const *metadata,
                         su_error *err);
/* Reads them back; every parameter must be there with its shape (SU_ENOTFOUND, SU_EMISMATCH name it). With moments
 * it is collective: rank 0 gives the file, the others NULL. */
su_status su_params_load(su_params *p, const su_safetensors *file, bool moments, su_error *err);
/* The first `count` parameters' weights alone. */
su_status su_params_load_first(su_params *p, int64_t count, const su_safetensors *file, su_error *err);

/* --- optimiser ------------------------------------------------------------------------------------------ */

enum { SU_LR_GROUPS = 9 };

typedef struct {
    double lr[SU_LR_GROUPS]; /* a group's peak learning rate */
    double beta1, beta2, eps, weight_decay;
    double clip_norm;      /* global gradient norm is cut to this; 0: never */
    int64_t warmup, steps; /* linear warm-up over `warmup` steps, then half a cosine down to 0 at `steps` */
} su_optimiser;

/* Schedule factor of step (1-based): step/warmup up to warmup, then 0.5 (1 + cos(pi
 * (step-1-warmup)/(steps-warmup))). */
double su_schedule(const su_optimiser *o, int64_t step);
/* Nothing more is added to the gradients of parameters [first, end) before the next step: their sum over the ranks may
 * begin. All ranks say it of the same ones in the same order. What is not worth a sum waits for those just in front
 * of it, or for the step. */
void su_params_ready(su_params *p, int64_t first, int64_t end);
/* One AdamW step over the whole table, with the sum of the ranks' gradients; then compute is refreshed and gradients
 * are zeroed. norm: the gradient's norm before cutting. SU_ENUMERIC when it is not finite: no weight was changed.
 * Collective. */
su_status su_optimiser_step(const su_optimiser *o, su_params *p, int64_t step, double *norm, su_error *err);

#endif
