/* The decoders of the golden files (tests/golden/make_caption.py), on devices of either type. */
#ifndef SU_TESTS_CAPTION_DECODERS_H
#define SU_TESTS_CAPTION_DECODERS_H

#include "tests/align/golden.h"
#include "base/memory.h"
#include "caption/decoder.h"

#define CAPTIONS SU_SOURCE_DIR "/tests/golden/caption/"

static const su_decoder_config decoder_golden CHECK_UNUSED = {.width = 24,
                                                              .depth = 2,
                                                              .heads = 3,
                                                              .mlp = 40,
                                                              .memory_width = 24,
                                                              .vocabulary = 61,
                                                              .positions = 20,
                                                              .types = 3,
                                                              .act = SU_ACT_GELU,
                                                              .eps = 1e-12};

static const su_decoder_config generate_golden CHECK_UNUSED = {.width = 32,
                                                               .depth = 2,
                                                               .heads = 4,
                                                               .mlp = 48,
                                                               .memory_width = 32,
                                                               .vocabulary = 83,
                                                               .positions = 44,
                                                               .types = 1,
                                                               .act = SU_ACT_GELU,
                                                               .eps = 1e-12};

typedef struct {
    su_device *device;
    su_params params;
    su_decoder *decoder;
    su_checkpointing level;
    void *arena;
} fixture;

CHECK_UNUSED static void begin(fixture *f, const su_decoder_config *c, su_dtype type, int threads,
                               bool training)
{
    su_error err = {0};
    *f = (fixture){.device = check_device(type, threads)};
    su_params_init(&f->params, f->device);
    ok(su_decoder_new(c, "decoder.", 0, &f->params, &f->decoder, &err), &err);
    ok(su_params_commit(&f->params, training, &err), &err);
    ok(su_params_randomise(&f->params, 3, &err), &err);
}

CHECK_UNUSED static void plan(fixture *f, int32_t batch, int32_t tokens, int32_t memory, bool backward)
{
    su_arena a;
    f->device->ops->release(f->device, f->arena);
    su_arena_measure(&a);
    su_decoder_plan(f->decoder, &a, batch, tokens, memory, backward, f->level);
    size_t size = a.peak;
    f->arena = check_room(f->device, size);
    su_arena_init(&a, f->arena, size);
    su_decoder_plan(f->decoder, &a, batch, tokens, memory, backward, f->level);
    assert_false(a.overflow);
}

CHECK_UNUSED static void end(fixture *f)
{
    f->device->ops->release(f->device, f->arena);
    su_decoder_free(f->decoder);
    su_params_free(&f->params);
    su_device_close(f->device);
    check_free_all();
}

#endif
