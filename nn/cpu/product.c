/* A tile of c is held in registers: 6 rows by 4 lanes of 64 bytes where there are 32 registers of 64 bytes
 * (AVX-512), 6 rows by one elsewhere. */
#include "nn/cpu/product.h"
#include <string.h>

enum { PRODUCT_ROWS = 6 };

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define WIDE __attribute__((target("arch=x86-64-v4")))
#endif

#include "nn/cpu/f32.h"
#include "nn/cpu/product.inc"
#include "nn/cpu/f64.h"
#include "nn/cpu/product.inc"
