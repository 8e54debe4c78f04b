/* Attention, one head of one sequence at a time, in blocks of queries; scores live in a worker's scratch
 * memory only.
 *
 *     +------ tk rounded up to lanes ------+
 *     | scores of a block of <= 128 rows   |   p, then (backward) dS; columns past a row's limit are zero
 *     +------------------------------------+
 *     K^T  [dim][tk]   the scores' right operand, transposed once per head (V^T for dP in the backward)
 *     V    [tk][dim]   read in place when a row of it is whole lanes, else copied with zeros behind
 *
 * The forward has a task for each (b, h, block). The backward has one for each (b, h), because dk and dv are
 * sums over the blocks; it forms p again from the kept log-sum-exp. */
#include "nn/cpu/internal.h"
#include "nn/cpu/math.h"
#include "nn/cpu/philox.h"
#include <assert.h>
#include <string.h>

enum { QUERY_ROWS = 128 };

/* Queries in nearly equal blocks of at most QUERY_ROWS. */
static int64_t query_block(int64_t tq)
{
    return tq > 0 ? su_cpu_tasks(tq, su_cpu_tasks(tq, QUERY_ROWS)) : 1;
}

static int64_t round_up(int64_t n, int64_t unit)
{
    return (n + unit - 1) / unit * unit;
}

/* Keys that query i of a sequence of `length` keys may see. */
static int64_t visible(const su_attention *a, int64_t length, int64_t i)
{
    if (!a->causal) return length;
    int64_t limit = i + a->tk - a->tq + 1;
    return limit < 0 ? 0 : su_cpu_min(limit, length);
}

static int64_t length_of(const su_attention *a, int64_t b)
{
    int64_t length = a->lengths ? a->lengths[b] : a->tk;
    assert(length >= 0 && length <= a->tk);
    return length;
}

#include "nn/cpu/f32.h"
#include "nn/cpu/attention.inc"
#include "nn/cpu/f64.h"
#include "nn/cpu/attention.inc"
