/* What the parts of bench_gpu share. Each is a command of its own: it prints "plan BYTES" (the device memory that
 * it plans), then a line "round SECONDS ..." a round, the first of which is a warm-up. See run.py. */
#ifndef SU_BENCH_GPU_BENCH_H
#define SU_BENCH_GPU_BENCH_H

#include "align/tower.h"

/* Each takes main's arguments: argv[1] is the command, argv[2] the device. */
int bench_step(int argc, char **argv);
int bench_loss(int argc, char **argv);
int bench_search(int argc, char **argv);
int bench_caption(int argc, char **argv);

/* A failure ends the program: 77 when there is no such device, 3 when memory is short. */
void check(su_status st, const su_error *err);
double now(void); /* seconds */
void *take(su_device *d, size_t bytes);
void told(double seconds, double x, double y); /* the line of a round, with all digits of x and y */
int usage(const char *arguments);

/* base (ViT-B/16 at 224 px, BERT-base at 77 tokens), large (ViT-L/14, BERT-base at 256), giant (ViT-g/14,
 * BERT-base at 128), or small, for trying it out. */
void choose_towers(const char *model, su_tower_config *image, su_tower_config *text);

/* Number i of a sequence within -1/2 .. 1/2 that pytorch.py makes as well. */
static inline float noise(uint64_t i)
{
    uint32_t u = (uint32_t)i * 2654435761u ^ (uint32_t)(i >> 32) * 3266489917u;
    u ^= u >> 15;
    u *= 2246822519u;
    u ^= u >> 13;
    return (float)(u >> 8) * 0x1p-24F - 0.5F;
}

#endif
