/* su_rng_block for many counters at once, in vector registers: what dropout draws from. */
#ifndef SU_NN_CPU_PHILOX_H
#define SU_NN_CPU_PHILOX_H

#include "nn/cpu/internal.h"

#define su_cpu_philox SU_CPU_NAME(philox, words, SU_CPU_LEVEL)

/* words[4*i + w] = word w of block first + i; words holds 4*blocks. */
void su_cpu_philox(su_rng_key key, uint64_t first, int64_t blocks, uint32_t *words);

#endif
