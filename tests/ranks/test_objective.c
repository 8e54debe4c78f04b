/* Several ranks equal one: the loss and every gradient of a whole batch, and what optimiser steps make of it. Sums of
 * gradients that begin beside the backward pass are those behind it, to the bit. */
#include "tests/align/models.h"
#include "tests/ranks/ranks.h"
#include "base/file.h"
#include <unistd.h>

enum { SAMPLES = 24, STEPS = 6 };

static const su_objective objective = {.name = "closegap",
                                       .lambda_infonce = 1,
                                       .lambda_atp = 0.5,
                                       .lambda_cu = 0.8,
                                       .temperature = 0.07,
                                       .learn_temperature = true,
                                       .atp_end = -1,
                                       .cu_end = -1};

/* Two towers with everything random on. */
static su_model_config towers(bool frozen)
{
    su_model_config c = golden_config(2);
    for (int i = 0; i < 2; i++) {
        c.stream[i].tower.dropout = 0.1;
        c.stream[i].tower.attention_dropout = 0.1;
        c.stream[i].tower.drop_path = 0.2;
    }
    c.stream[0].tower.patch_dropout = 0.3;
    if (frozen) c.stream[0].lr_factor = 0.0;
    return c;
}

/* This rank's part of a batch. */
static su_step_batch part_of(const su_model_config *c, const su_step_batch *whole, const su_comm *comm)
{
    su_step_batch b = *whole;
    b.count = whole->count / su_comm_ranks(comm);
    size_t first = (size_t)b.count * (size_t)su_comm_rank(comm);
    for (int m = 0; m < c->streams; m++) {
        const su_tower_config *t = &c->stream[m].tower;
        if (t->kind == SU_TOWER_VIT) {
            b.images[m] += first * (size_t)t->image_size * (size_t)t->image_size * (size_t)t->channels;
        } else {
            b.ids[m] += first * (size_t)t->max_tokens;
            b.lengths[m] += first;
        }
    }
    return b;
}

/* --- a communicator that looks on ------------------------------------------------------------------------ */

/* It takes down what sums are begun of, forms none of them before the wait, and there all at once. Then nothing may
 * have changed since it was begun, nor have been begun twice. */
enum { BEGUN = 1000 };

static struct {
    const su_comm_ops *real;
    bool sums; /* false: the wait leaves every rank's gradients as they are */
    int count;
    int64_t elements, block;
    void *x;
    struct {
        int64_t first, n;
        void *then;
    } range[BEGUN];
} seen;

static void look_on_reduce(su_comm *c, void *x, int64_t block, int64_t first, int64_t n)
{
    size_t acc = su_dtype_size(c->device->acc);
    assert_true(n > 0 && first >= 0 && first + n <= block * c->ranks);
    for (int i = 0; i < seen.count; i++)
        if (first < seen.range[i].first + seen.range[i].n && seen.range[i].first < first + n)
            fail_msg("elements %lld to %lld are begun twice", (long long)first, (long long)(first + n));
    assert_true(seen.count < BEGUN);
    seen.x = x;
    seen.block = block;
    seen.elements += n;
    seen.range[seen.count].first = first;
    seen.range[seen.count].n = n;
    seen.range[seen.count].then = su_alloc((size_t)n, acc);
    memcpy(seen.range[seen.count++].then, su_acc_at(c->device, x, first), (size_t)n * acc);
}

static su_status look_on_wait(su_comm *c, su_error *err)
{
    size_t acc = su_dtype_size(c->device->acc);
    for (int i = 0; i < seen.count; i++) {
        int64_t first = seen.range[i].first, n = seen.range[i].n;
        if (memcmp(seen.range[i].then, su_acc_at(c->device, seen.x, first), (size_t)n * acc) != 0)
            fail_msg("elements %lld to %lld are begun too early", (long long)first, (long long)(first + n));
        su_free(seen.range[i].then);
    }
    if (seen.count && seen.sums) seen.real->reduce(c, seen.x, seen.block, 0, seen.block * c->ranks);
    seen.count = 0;
    return seen.real->wait(c, err);
}

static void look_on(bool sums)
{
    static su_comm_ops ops;
    seen.real = ranks_comm->ops;
    seen.sums = sums;
    ops = *seen.real;
    ops.reduce = look_on_reduce;
    ops.wait = look_on_wait;
    ranks_comm->ops = &ops;
}

static void look_away(void)
{
    ranks_comm->ops = seen.real;
    seen.real = NULL;
}

static int64_t worth; /* see su_params */

/* A step of AdamW; all of the gradients are added up in it, once. */
static void step_on(su_params *p, int64_t number, int steps)
{
    su_error err = {0};
    double norm = 0.0;
    su_optimiser o = {
        .beta1 = 0.9, .beta2 = 0.98, .eps = 1e-6, .weight_decay = 0.1, .clip_norm = 1.0, .steps = steps};
    for (int g = 0; g < SU_LR_GROUPS; g++) o.lr[g] = 1e-3;
    ok(su_optimiser_step(&o, p, number, &norm, &err), &err);
    if (seen.real) assert_int_equal(seen.elements, p->learning);
    seen.elements = 0;
}

/* --- a model --------------------------------------------------------------------------------------------- */

/* The sum over the ranks of a parameter's gradient, before ranks_comm adds it up. */
static double *summed_gradient(const su_params *p, int64_t i)
{
    su_comm *c = p->device->comm;
    su_error err = {0};
    int64_t n = p->items[i].count;
    double *own = gradient_values(p, i);
    if (!c) return own;
    double *all = check_zeros(n * c->ranks);
    memcpy(all + c->rank * n, own, (size_t)n * sizeof *all);
    ok(su_comm_gather_host(c, all, (size_t)n * sizeof *all, &err), &err);
    for (int r = 1; r < c->ranks; r++)
        for (int64_t k = 0; k < n; k++) all[k] += all[r * n + k];
    return all;
}

typedef struct {
    double *values; /* every parameter's, one behind the other */
    int64_t count;
    su_losses losses;
} result;

static void collect(result *r, const su_params *p, double *(*get)(const su_params *, int64_t))
{
    r->count = 0;
    for (int64_t i = 0; i < p->count; i++) r->count += p->items[i].count;
    r->values = check_zeros(r->count);
    int64_t at = 0;
    for (int64_t i = 0; i < p->count; i++) {
        if (get != summed_gradient || su_param_learns(p, i))
            memcpy(r->values + at, get(p, i), (size_t)p->items[i].count * sizeof(double));
        at += p->items[i].count;
    }
}

/* Behind a backward pass: what is worth a sum is begun, and no more. */
static void check_begun(const su_params *p, bool frozen)
{
    if (!worth || worth > p->learning)
        assert_int_equal(seen.count, 0);
    else if (worth == 1) /* two blocks of each tower, a text's embeddings, and an image's with its last norm */
        assert_int_equal(seen.count, frozen ? 3 : 7);
    else
        assert_true(seen.count > 0 && seen.count < (frozen ? 3 : 7));
    for (int i = 0; i < seen.count; i++) assert_true(seen.range[i].n >= worth);
}

/* steps 0: loss and gradients; else the weights after so many AdamW steps. several: on all ranks, else this one
 * alone. */
static result trained(su_dtype type, bool several, bool frozen, int32_t micro, int steps)
{
    result r = {0};
    su_error err = {0};
    su_model_config c = towers(frozen);
    su_device *d = check_device(type, 1);
    if (several) ranks_lend(d);
    su_model *m = new_model(&c, d, true, 3);
    int32_t own = SAMPLES / su_comm_ranks(d->comm);
    su_step *step = new_step(m, own, micro);
    if (worth) m->params.worth = worth;
    for (int k = 1; k <= (steps ? steps : 1); k++) {
        su_step_batch whole = random_batch(&c, SAMPLES, (uint64_t)k), b = part_of(&c, &whole, d->comm);
        b.train = true;
        b.step = k;
        ok(su_step_run(step, &b, &objective, 0.0, &r.losses, &err), &err);
        if (several && seen.real) check_begun(&m->params, frozen);
        if (steps) step_on(&m->params, k, STEPS);
    }
    collect(&r, &m->params, steps ? weight_values : summed_gradient);
    su_step_free(step);
    su_model_free(m);
    if (several) ranks_lend(ranks_first);
    su_device_close(d);
    return r;
}

static void loss_and_gradients_equal_one_large_batch(void **state)
{
    (void)state;
    for (int wide = 0; wide < 2; wide++) {
        su_dtype type = wide ? SU_DTYPE_F64 : SU_DTYPE_F32;
        double tolerance = su_tolerance(wide ? "align.f64.pieces" : "align.f32.pieces");
        for (int k = 0; k < 3; k++) { /* whole parts, parts in pieces, a frozen tower */
            result one = trained(type, false, k == 2, 0, 0);
            look_on(false);
            result many = trained(type, true, k == 2, k == 1 ? 4 : 0, 0);
            look_away();
            assert_int_equal(one.count, many.count);
            check_close(
                "losses",
                (const double[]){many.losses.total, many.losses.infonce, many.losses.atp, many.losses.cu},
                (const double[]){one.losses.total, one.losses.infonce, one.losses.atp, one.losses.cu}, 4,
                tolerance);
            check_close("gradients", many.values, one.values, one.count, tolerance);
            check_free_all();
        }
    }
}

static void optimiser_steps_equal_those_of_one_rank(void **state)
{
    (void)state;
    for (int wide = 0; wide < 2; wide++) {
        su_dtype type = wide ? SU_DTYPE_F64 : SU_DTYPE_F32;
        for (int frozen = 0; frozen < 2; frozen++) {
            result one = trained(type, false, frozen, 0, STEPS), many = trained(type, true, frozen, 4, STEPS);
            check_close("weights", many.values, one.values, one.count,
                        su_tolerance(wide ? "align.f64.train" : "align.f32.train"));
            check_free_all();
        }
    }
}

static void sums_beside_the_backward_pass_are_those_behind_it(void **state)
{
    (void)state;
    for (int k = 0; k < 8; k++) {
        su_dtype type = k & 1 ? SU_DTYPE_F64 : SU_DTYPE_F32;
        bool frozen = k & 2;
        int32_t micro = k & 4 ? 4 : 0;
        worth = 0; /* more than the model has */
        look_on(true);
        result behind = trained(type, true, frozen, micro, STEPS);
        for (worth = 1; worth < 10000; worth *= 4000) {
            result watched = trained(type, true, frozen, micro, STEPS);
            check_same_bits("weights, looked on", watched.values, behind.values, behind.count);
        }
        look_away();
        for (worth = 1; worth < 10000; worth *= 4000) {
            result beside = trained(type, true, frozen, micro, STEPS);
            check_same_bits("weights", beside.values, behind.values, behind.count);
        }
        check_free_all();
    }
    worth = 0;
}

/* Weights after a step with gradients that this rank makes up; said: parameters are ready as they come, some of them
 * with nobody beside them, some never. */
static double *stepped(su_dtype type, bool said, int64_t *count)
{
    static const int64_t sizes[] = {7, 33, 1, 64, 5000, 3, 129, 2, 700, 31};
    enum { PARAMETERS = sizeof sizes / sizeof *sizes };
    static const struct {
        int64_t first, end;
    } calls[] = {{9, 10}, {7, 9}, {3, 5}, {2, 3}, {0, 1}};
    su_device *d = check_device(type, 1);
    su_error err = {0};
    su_params p;
    char name[16];
    ranks_lend(d);
    su_params_init(&p, d);
    for (int i = 0; i < PARAMETERS; i++) {
        snprintf(name, sizeof name, "p%d", i);
        su_params_add(&p, name, 1, &sizes[i], i % 2, i == 2 || i == 7 || i == 8, SU_INIT_NORMAL, 0.02, i == 6);
    }
    su_params_freeze(&p, 1);
    if (worth) p.worth = worth;
    ok(su_params_commit(&p, true, &err), &err);
    ok(su_params_randomise(&p, 5, &err), &err);
    for (int i = 0; i < PARAMETERS; i++)
        for (int64_t k = 0; su_param_learns(&p, i) && k < sizes[i]; k++) {
            double x = su_rng_normal((su_rng_key){.seed = 9, .step = (uint32_t)i, .layer = (uint32_t)ranks_comm->rank},
                                     (uint64_t)k);
            if (type == SU_DTYPE_F64)
                ((double *)su_param_grad(&p, i))[k] = x;
            else
                ((float *)su_param_grad(&p, i))[k] = (float)x;
        }
    for (size_t i = 0; said && i < sizeof calls / sizeof *calls; i++)
        su_params_ready(&p, calls[i].first, calls[i].end);
    step_on(&p, 1, 1);
    result r;
    collect(&r, &p, weight_values);
    su_params_free(&p);
    ranks_lend(ranks_first);
    su_device_close(d);
    *count = r.count;
    return r.values;
}

static void parameters_that_are_ready_are_added_up_once(void **state)
{
    (void)state;
    int64_t count = 0;
    for (int wide = 0; wide < 2; wide++) {
        su_dtype type = wide ? SU_DTYPE_F64 : SU_DTYPE_F32;
        double *never = stepped(type, false, &count);
        for (worth = 1; worth < 100000; worth *= 37) {
            check_same_bits("weights", stepped(type, true, &count), never, count);
            look_on(true);
            check_same_bits("weights, looked on", stepped(type, true, &count), never, count);
            look_away();
        }
        check_free_all();
    }
    worth = 0;
}

static void the_same_ranks_give_the_same_bits_and_all_ranks_have_them(void **state)
{
    (void)state;
    su_error err = {0};
    result first = trained(SU_DTYPE_F32, true, false, 0, STEPS),
           again = trained(SU_DTYPE_F32, true, false, 0, STEPS);
    check_same_bits("weights", again.values, first.values, first.count);
    double *theirs = check_copy(first.values, first.count);
    ok(su_comm_broadcast_host(ranks_comm, theirs, (size_t)first.count * sizeof *theirs, &err), &err);
    check_same_bits("rank 0's weights", first.values, theirs, first.count);
    check_free_all();
}

/* Each moment is on one rank; a file holds all of them, and gives any number of ranks what it needs. */
static void a_checkpoint_holds_every_moment_by_name(void **state)
{
    (void)state;
    su_error err = {0};
    su_model_config c = towers(false);
    char path[2][64];
    for (int k = 0; k < 2; k++)
        snprintf(path[k], sizeof path[k], "/tmp/suture-ranks-%d-%d", (int)getpid(), k);
    su_device *d = check_device(SU_DTYPE_F32, 1);
    ranks_lend(d);
    su_model *m = new_model(&c, d, true, 3), *other = new_model(&c, d, true, 4);
    su_params *p = &m->params;
    assert_int_equal(p->shard % 32, 0);
    assert_true(p->shard >= (p->learning + ranks_comm->ranks - 1) / ranks_comm->ranks &&
                p->shard < p->learning);
    for (int64_t i = 0; i < p->shard; i++) { /* what says where it is */
        ((float *)p->m)[i] = (float)(p->shard * ranks_comm->rank + i);
        ((float *)p->v)[i] = -(float)(p->shard * ranks_comm->rank + i);
    }
    ok(su_params_save(p, path[0], true, NULL, &err), &err);
    bool reads = ranks_comm->rank == 0;
    su_safetensors *file = NULL;
    if (reads) {
        ok(su_safetensors_open(path[0], &file, &err), &err);
        for (int64_t i = 0; i < p->count; i++) {
            const su_param *q = &p->items[i];
            for (int sign = 1; sign >= -1; sign -= 2) {
                char name[512];
                const su_tensor_view *view = NULL;
                snprintf(name, sizeof name, "adam.%s/%s", sign > 0 ? "m" : "v", q->name);
                ok(su_safetensors_get(file, name, SU_DTYPE_F32, q->rank, q->shape, &view, &err), &err);
                for (int64_t k = 0; k < q->count; k++) {
                    float x;
                    memcpy(&x, (const char *)view->data + (size_t)k * sizeof x, sizeof x);
                    assert_true(x == (float)(sign * (double)(q->state + k)));
                }
            }
        }
    }
    ok(su_params_load(&other->params, file, true, &err), &err);
    su_safetensors_close(file);
    ok(su_params_save(&other->params, path[1], true, NULL, &err), &err);
    for (int64_t i = 0; i < p->count; i++)
        check_same_bits(p->items[i].name, weight_values(&other->params, i), weight_values(p, i),
                        p->items[i].count);
    ok(su_comm_agree(ranks_comm, SU_OK, &err), &err);
    if (reads) {
        char *text[2];
        size_t length[2];
        for (int k = 0; k < 2; k++) ok(su_file_read(path[k], 1 << 24, &text[k], &length[k], &err), &err);
        assert_int_equal(length[0], length[1]);
        assert_memory_equal(text[0], text[1], length[0]);
        for (int k = 0; k < 2; k++) {
            su_free(text[k]);
            unlink(path[k]);
        }
    }
    /* A file that lacks something: all ranks are told. */
    assert_int_equal(su_params_save(p, "/nowhere/at/all", true, NULL, &err), SU_ENOTFOUND);
    ranks_comm->agreed = false;
    su_model_free(m);
    su_model_free(other);
    ranks_lend(ranks_first);
    su_device_close(d);
    check_free_all();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(loss_and_gradients_equal_one_large_batch),
        cmocka_unit_test(optimiser_steps_equal_those_of_one_rank),
        cmocka_unit_test(sums_beside_the_backward_pass_are_those_behind_it),
        cmocka_unit_test(parameters_that_are_ready_are_added_up_once),
        cmocka_unit_test(the_same_ranks_give_the_same_bits_and_all_ranks_have_them),
        cmocka_unit_test(a_checkpoint_holds_every_moment_by_name),
    };
    return ranks_main(tests, sizeof tests / sizeof *tests);
}
