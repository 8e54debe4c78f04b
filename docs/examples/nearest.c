/* Which of these pictures is nearest to a sentence?
 *
 *   cc nearest.c -o nearest $(pkg-config --cflags --libs suture)
 *   ./nearest runs/closegap "pleural effusion" a.png b.dcm
 */
#include "align/model.h"
#include "base/memory.h"
#include "datasets/loader.h"
#include <stdio.h>

static int failed(const su_error *err)
{
    fprintf(stderr, "nearest: %s\n", err->message);
    return 1;
}

int main(int argc, char **argv)
{
    if (argc < 4) {
        fprintf(stderr, "usage: nearest RUN SENTENCE PICTURE...\n");
        return 2;
    }
    su_error err = {0};
    su_device *device = NULL;
    su_model *model = NULL;
    if (su_device_open("cpu", 0, &device, &err)) return failed(&err);
    if (su_model_open(argv[1], device, false, &model, &err)) return failed(&err);

    /* Unit rows in one space: a picture's and a sentence's inner product is their cosine. */
    int images = su_model_stream_of(model, SU_TOWER_VIT), texts = su_model_stream_of(model, SU_TOWER_BERT);
    if (images < 0 || texts < 0) {
        fprintf(stderr, "nearest: %s has no image tower or no text tower\n", argv[1]);
        return 1;
    }
    const su_tower_config *tower = &model->config.stream[images].tower;
    int32_t width = su_model_width(model);
    float *text = su_alloc((size_t)width, sizeof *text), *image = su_alloc((size_t)width, sizeof *image);
    uint8_t *pixels = su_alloc((size_t)tower->image_size * (size_t)tower->image_size, (size_t)tower->channels);
    const char *sentence = argv[2];
    if (!text || !image || !pixels) return 1;
    if (su_model_encode_texts(model, texts, &sentence, 1, text, &err)) return failed(&err);

    for (int i = 3; i < argc; i++) {
        if (su_image_prepare(argv[i], &model->config.recipe, tower->image_size, pixels, NULL, &err)) {
            fprintf(stderr, "nearest: skipped: %s\n", err.message); /* says which file, and why */
            continue;
        }
        if (su_model_encode_images(model, images, pixels, 1, image, &err)) return failed(&err);
        float cosine = 0;
        for (int32_t j = 0; j < width; j++) cosine += text[j] * image[j];
        printf("%6.3f  %s\n", cosine, argv[i]);
    }

    su_free(pixels);
    su_free(image);
    su_free(text);
    su_model_free(model);
    su_device_close(device);
    return 0;
}
