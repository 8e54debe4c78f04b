/* Matrix products.
 *
 * A tile of c is held in registers while the sum runs: 6 rows by 4 registers where there are 32 of them, by 2
 * where there are 16. A large product takes b in panels as wide as a tile and SUM_LENGTH deep, copied (or
 * transposed) so that the tile reads them in order; all rows of a walk past a panel before the next one. a is
 * read in place, or, when it is stored transposed, from a transposed copy of at most STRIP_ROWS rows. */
#include "nn/cpu/blas.h"
#include "nn/cpu/internal.h"

enum {
    PRODUCT_ROWS = 6,
    PRODUCT_TALL = 12, /* of a tile one register wide */
    PRODUCT_ACROSS = SU_CPU_REGISTERS == 32 ? 4 : 2,
    STRIP_ROWS = 264
};

#include "nn/cpu/f32.h"
#include "nn/cpu/product.inc"
#include "nn/cpu/f64.h"
#include "nn/cpu/product.inc"
