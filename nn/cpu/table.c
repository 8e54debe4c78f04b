/* The device's table of operations at this level. */
#include "nn/cpu/internal.h"

#include "nn/cpu/f32.h"
#include "nn/cpu/table.inc"
#include "nn/cpu/f64.h"
#include "nn/cpu/table.inc"
