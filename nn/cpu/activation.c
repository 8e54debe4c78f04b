/* Activation functions, forward (as the end of a linear layer) and backward. */
#include "nn/cpu/internal.h"
#include "nn/cpu/math.h"
#include <string.h>

enum { ACTIVATION_BLOCK = 16384 }; /* elements a task: 64 KiB of float each way */

#include "nn/cpu/f32.h"
#include "nn/cpu/activation.inc"
#include "nn/cpu/f64.h"
#include "nn/cpu/activation.inc"
