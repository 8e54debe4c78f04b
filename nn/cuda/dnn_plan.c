/* The graphs.
 *
 *   forward     s = scale Q K^T, masked;   p = exp(s - max) / sum;   O = p V;   lse = max + log(sum)
 *   backward    sums = rowsum(dO o O);     p = exp(s - lse);   dV = p^T dO
 *               ds = scale p (dO V^T - sums);   dK = ds^T Q;   dQ = ds K
 *
 * Keys beyond a sequence's length are masked by length, which cuDNN also skips; an added mask would be read like any
 * other tensor. dQ is written by its product and never summed across blocks in float, so its bits repeat. */
#include "nn/cuda/dnn_plan.h"
#include <dlfcn.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* --- the library --- */

su_status su_dnn_load(su_dnn *dnn, su_error *err)
{
    const struct {
        const char *name;
        void *to;
    } functions[] = {
        {"cudnnCreate", &dnn->create},
        {"cudnnDestroy", &dnn->destroy},
        {"cudnnSetStream", &dnn->set_stream},
        {"cudnnGetLastErrorString", &dnn->last_error},
        {"cudnnBackendCreateDescriptor", &dnn->descriptor_new},
        {"cudnnBackendDestroyDescriptor", &dnn->descriptor_free},
        {"cudnnBackendSetAttribute", &dnn->set},
        {"cudnnBackendGetAttribute", &dnn->get},
        {"cudnnBackendFinalize", &dnn->finalise},
        {"cudnnBackendExecute", &dnn->execute},
    };
    dnn->library = dlopen("libcudnn.so.9", RTLD_NOW | RTLD_LOCAL);
    if (!dnn->library) return su_fail(err, SU_ENOTFOUND, "%s", dlerror());
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
        void *symbol = dlsym(dnn->library, functions[i].name);
        if (!symbol) return su_fail(err, SU_EMISMATCH, "%s", dlerror());
        memcpy(functions[i].to, &symbol, sizeof symbol);
    }
    return SU_OK;
}

/* --- descriptors --- */

typedef struct {
    const su_dnn *dnn;
    su_dnn_plan *plan;
    cudnnBackendDescriptor_t operations[32];
    int count;
    int64_t next; /* name of the next tensor that stays inside */
    cudnnStatus_t failed;
    const char *where;
} graph;

typedef cudnnBackendDescriptor_t node;

static void note(graph *g, cudnnStatus_t status, const char *where)
{
    if (!status || g->failed) return;
    g->failed = status;
    g->where = where;
}

static node make(graph *g, cudnnBackendDescriptorType_t type, const char *where)
{
    node d = NULL;
    if (g->plan->count == (int)(sizeof g->plan->kept / sizeof *g->plan->kept))
        note(g, CUDNN_STATUS_INTERNAL_ERROR, "too many descriptors");
    if (g->failed) return NULL;
    note(g, g->dnn->descriptor_new(type, &d), where);
    if (d) g->plan->kept[g->plan->count++] = d;
    return d;
}

static void put(graph *g, node d, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                int64_t count, const void *values, const char *where)
{
    if (!g->failed) note(g, g->dnn->set(d, name, type, count, values), where);
}

static void put_node(graph *g, node d, cudnnBackendAttributeName_t name, node value, const char *where)
{
    put(g, d, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &value, where);
}

static void finish(graph *g, node d, const char *where)
{
    if (!g->failed) note(g, g->dnn->finalise(d), where);
}

typedef struct {
    int64_t dims[4], strides[4];
} shape;

static shape packed(int64_t b, int64_t h, int64_t rows, int64_t columns)
{
    return (shape){{b, h, rows, columns}, {h * rows * columns, rows * columns, columns, 1}};
}

static const shape scalar = {{1, 1, 1, 1}, {1, 1, 1, 1}};

/* name 0: a tensor between two operations. */
static node tensor(graph *g, su_dnn_name name, cudnnDataType_t type, shape s, bool by_value)
{
    const bool inside = name == 0;
    const int64_t uid = inside ? g->next++ : (int64_t)name, align = 16;
    node d = make(g, CUDNN_BACKEND_TENSOR_DESCRIPTOR, "a tensor");
    put(g, d, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &uid, "a tensor's name");
    put(g, d, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type, "a tensor's type");
    put(g, d, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, s.dims, "a tensor's extents");
    put(g, d, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, s.strides, "a tensor's strides");
    put(g, d, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, &align, "a tensor's alignment");
    put(g, d, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, &inside, "a tensor inside");
    put(g, d, CUDNN_ATTR_TENSOR_IS_BY_VALUE, CUDNN_TYPE_BOOLEAN, 1, &by_value, "a tensor by value");
    finish(g, d, "a tensor");
    return d;
}

static void operation(graph *g, node d, const char *where)
{
    finish(g, d, where);
    if (g->count == (int)(sizeof g->operations / sizeof *g->operations))
        note(g, CUDNN_STATUS_INTERNAL_ERROR, "too many operations");
    if (!g->failed) g->operations[g->count++] = d;
}

/* y = x op b; BINARY_SELECT: t ? x : b. axis: of GEN_INDEX. */
static void pointwise(graph *g, cudnnPointwiseMode_t mode, cudnnDataType_t compute, node x, node b, node t,
                      node y, int64_t axis)
{
    node p = make(g, CUDNN_BACKEND_POINTWISE_DESCRIPTOR, "a pointwise step");
    put(g, p, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &mode, "its mode");
    put(g, p, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, 1, &compute, "its precision");
    if (mode == CUDNN_POINTWISE_GEN_INDEX)
        put(g, p, CUDNN_ATTR_POINTWISE_AXIS, CUDNN_TYPE_INT64, 1, &axis, "its axis");
    finish(g, p, "a pointwise step");
    node d = make(g, CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR, "a pointwise operation");
    put_node(g, d, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, p, "a pointwise operation");
    put_node(g, d, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, x, "its first operand");
    if (b) put_node(g, d, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, b, "its second operand");
    if (t) put_node(g, d, CUDNN_ATTR_OPERATION_POINTWISE_TDESC, t, "its condition");
    put_node(g, d, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, y, "its result");
    operation(g, d, "a pointwise operation");
}

/* c = a b; m, n, k: lengths by sequence, or NULL. */
static void product(graph *g, node a, node b, node c, node m, node n, node k)
{
    const cudnnDataType_t compute = CUDNN_DATA_FLOAT;
    node p = make(g, CUDNN_BACKEND_MATMUL_DESCRIPTOR, "a product");
    put(g, p, CUDNN_ATTR_MATMUL_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &compute, "its precision");
    finish(g, p, "a product");
    node d = make(g, CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR, "a product");
    put_node(g, d, CUDNN_ATTR_OPERATION_MATMUL_DESC, p, "a product");
    put_node(g, d, CUDNN_ATTR_OPERATION_MATMUL_ADESC, a, "its first factor");
    put_node(g, d, CUDNN_ATTR_OPERATION_MATMUL_BDESC, b, "its second factor");
    put_node(g, d, CUDNN_ATTR_OPERATION_MATMUL_CDESC, c, "its result");
    if (m) put_node(g, d, CUDNN_ATTR_OPERATION_MATMUL_GEMM_M_OVERRIDE_DESC, m, "its rows by sequence");
    if (n) put_node(g, d, CUDNN_ATTR_OPERATION_MATMUL_GEMM_N_OVERRIDE_DESC, n, "its columns by sequence");
    if (k) put_node(g, d, CUDNN_ATTR_OPERATION_MATMUL_GEMM_K_OVERRIDE_DESC, k, "its depth by sequence");
    operation(g, d, "a product");
}

static void reduction(graph *g, cudnnReduceTensorOp_t how, node x, node y)
{
    const cudnnDataType_t compute = CUDNN_DATA_FLOAT;
    node p = make(g, CUDNN_BACKEND_REDUCTION_DESCRIPTOR, "a reduction");
    put(g, p, CUDNN_ATTR_REDUCTION_OPERATOR, CUDNN_TYPE_REDUCTION_OPERATOR_TYPE, 1, &how, "its operator");
    put(g, p, CUDNN_ATTR_REDUCTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &compute, "its precision");
    finish(g, p, "a reduction");
    node d = make(g, CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR, "a reduction");
    put_node(g, d, CUDNN_ATTR_OPERATION_REDUCTION_DESC, p, "a reduction");
    put_node(g, d, CUDNN_ATTR_OPERATION_REDUCTION_XDESC, x, "its operand");
    put_node(g, d, CUDNN_ATTR_OPERATION_REDUCTION_YDESC, y, "its result");
    operation(g, d, "a reduction");
}

static void reshape(graph *g, node x, node y)
{
    node d = make(g, CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR, "a transposition");
    put_node(g, d, CUDNN_ATTR_OPERATION_RESHAPE_XDESC, x, "its operand");
    put_node(g, d, CUDNN_ATTR_OPERATION_RESHAPE_YDESC, y, "its result");
    operation(g, d, "a transposition");
}

/* --- attention --- */

typedef struct {
    int64_t b, h, tq, tk, dim;
    shape q, k_turned, v, v_turned, o, scores, rows;
    node length_q, length_kv, minus_infinity, scale;
} parts;

static shape rows_of(const su_attention *a, int64_t tokens, int64_t stride)
{
    return (shape){{a->batch, a->heads, tokens, a->dim}, {tokens * stride, a->dim, stride, 1}};
}

static shape turned(shape s)
{
    return (shape){{s.dims[0], s.dims[1], s.dims[3], s.dims[2]},
                   {s.strides[0], s.strides[1], s.strides[3], s.strides[2]}};
}

static node inside(graph *g, cudnnDataType_t type, shape s)
{
    return tensor(g, 0, type, s, false);
}

static parts parts_of(graph *g, const su_attention *a)
{
    parts p = {.b = a->batch, .h = a->heads, .tq = a->tq, .tk = a->tk, .dim = a->dim};
    const shape by_sequence = {{a->batch, 1, 1, 1}, {1, 1, 1, 1}};
    p.q = rows_of(a, a->tq, a->q_stride);
    p.v = rows_of(a, a->tk, a->kv_stride);
    p.k_turned = p.v_turned = turned(p.v);
    p.o = rows_of(a, a->tq, a->o_stride);
    p.scores = packed(p.b, p.h, p.tq, p.tk);
    p.rows = packed(p.b, p.h, p.tq, 1);
    p.scale = tensor(g, SU_DNN_SCALE, CUDNN_DATA_FLOAT, scalar, true);
    p.minus_infinity = tensor(g, SU_DNN_MINUS_INFINITY, CUDNN_DATA_FLOAT, scalar, true);
    p.length_q = tensor(g, SU_DNN_LENGTH_Q, CUDNN_DATA_INT32, by_sequence, false);
    p.length_kv = tensor(g, SU_DNN_LENGTH_KV, CUDNN_DATA_INT32, by_sequence, false);
    return p;
}

static node index_of(graph *g, const parts *p, node s, int64_t axis)
{
    node index = inside(g, CUDNN_DATA_INT32, p->scores);
    pointwise(g, CUDNN_POINTWISE_GEN_INDEX, CUDNN_DATA_INT32, s, NULL, NULL, index, axis);
    return index;
}

static node compared(graph *g, const parts *p, cudnnPointwiseMode_t mode, node x, node y)
{
    node to = inside(g, CUDNN_DATA_BOOLEAN, p->scores);
    pointwise(g, mode, CUDNN_DATA_BOOLEAN, x, y, NULL, to, 0);
    return to;
}

/* s where `seen`, else minus infinity */
static node masked(graph *g, const parts *p, node s, node seen)
{
    node to = inside(g, CUDNN_DATA_FLOAT, p->scores);
    pointwise(g, CUDNN_POINTWISE_BINARY_SELECT, CUDNN_DATA_FLOAT, s, p->minus_infinity, seen, to, 0);
    return to;
}

static node by_length(graph *g, const parts *p, node s)
{
    node row = compared(g, p, CUDNN_POINTWISE_CMP_LT, index_of(g, p, s, 2), p->length_q);
    node column = compared(g, p, CUDNN_POINTWISE_CMP_LT, index_of(g, p, s, 3), p->length_kv);
    return masked(g, p, s, compared(g, p, CUDNN_POINTWISE_LOGICAL_AND, row, column));
}

static node by_cause(graph *g, const parts *p, node s)
{
    node row = index_of(g, p, s, 2);
    return masked(g, p, s, compared(g, p, CUDNN_POINTWISE_CMP_GE, row, index_of(g, p, s, 3)));
}

static node scaled_scores(graph *g, const parts *p, node q, node k)
{
    node raw = inside(g, CUDNN_DATA_FLOAT, p->scores), s = inside(g, CUDNN_DATA_FLOAT, p->scores);
    product(g, q, k, raw, p->length_q, p->length_kv, NULL);
    pointwise(g, CUDNN_POINTWISE_MUL, CUDNN_DATA_FLOAT, raw, p->scale, NULL, s, 0);
    return s;
}

static node elementwise(graph *g, cudnnPointwiseMode_t mode, node x, node y, cudnnDataType_t type, shape s)
{
    node to = inside(g, type, s);
    pointwise(g, mode, CUDNN_DATA_FLOAT, x, y, NULL, to, 0);
    return to;
}

static void forward(graph *g, const su_attention *a)
{
    const parts p = parts_of(g, a);
    node q = tensor(g, SU_DNN_Q, CUDNN_DATA_BFLOAT16, p.q, false),
         k = tensor(g, SU_DNN_K, CUDNN_DATA_BFLOAT16, p.k_turned, false);
    node v = tensor(g, SU_DNN_V, CUDNN_DATA_BFLOAT16, p.v, false),
         o = tensor(g, SU_DNN_O, CUDNN_DATA_BFLOAT16, p.o, false);
    node lse = tensor(g, SU_DNN_LSE, CUDNN_DATA_FLOAT, p.rows, false);
    node s = scaled_scores(g, &p, q, k);
    if (a->causal) s = by_cause(g, &p, s);
    s = by_length(g, &p, s);
    node most = inside(g, CUDNN_DATA_FLOAT, p.rows), total = inside(g, CUDNN_DATA_FLOAT, p.rows);
    reduction(g, CUDNN_REDUCE_TENSOR_MAX, s, most);
    node e = elementwise(g, CUDNN_POINTWISE_EXP,
                         elementwise(g, CUDNN_POINTWISE_SUB, s, most, CUDNN_DATA_FLOAT, p.scores), NULL,
                         CUDNN_DATA_FLOAT, p.scores);
    reduction(g, CUDNN_REDUCE_TENSOR_ADD, e, total);
    node log = elementwise(g, CUDNN_POINTWISE_LOG, total, NULL, CUDNN_DATA_FLOAT, p.rows);
    pointwise(g, CUDNN_POINTWISE_ADD, CUDNN_DATA_FLOAT, most, log, NULL, lse, 0);
    node shares = elementwise(g, CUDNN_POINTWISE_DIV, e, total, CUDNN_DATA_BFLOAT16, p.scores);
    product(g, shares, v, o, p.length_q, NULL, p.length_kv);
}

static void backward_graph(graph *g, const su_attention *a)
{
    const parts p = parts_of(g, a);
    const shape scores_turned = {{p.b, p.h, p.tk, p.tq}, {p.h * p.tq * p.tk, p.tq * p.tk, 1, p.tk}};
    node q = tensor(g, SU_DNN_Q, CUDNN_DATA_BFLOAT16, p.q, false),
         k = tensor(g, SU_DNN_K, CUDNN_DATA_BFLOAT16, p.k_turned, false);
    node v = tensor(g, SU_DNN_V, CUDNN_DATA_BFLOAT16, p.v_turned, false),
         o = tensor(g, SU_DNN_O, CUDNN_DATA_BFLOAT16, p.o, false);
    node d_o = tensor(g, SU_DNN_DO, CUDNN_DATA_BFLOAT16, p.o, false),
         lse = tensor(g, SU_DNN_LSE, CUDNN_DATA_FLOAT, p.rows, false);
    node dq = tensor(g, SU_DNN_DQ, CUDNN_DATA_BFLOAT16, p.q, false),
         dk = tensor(g, SU_DNN_DK, CUDNN_DATA_BFLOAT16, p.v, false);
    node dv = tensor(g, SU_DNN_DV, CUDNN_DATA_BFLOAT16, p.v, false),
         sums = tensor(g, SU_DNN_SUMS, CUDNN_DATA_FLOAT, p.rows, false);
    node one = tensor(g, SU_DNN_ONE, CUDNN_DATA_FLOAT, scalar, true);
    /* sums */
    node each = elementwise(g, CUDNN_POINTWISE_MUL, d_o, o, CUDNN_DATA_FLOAT, packed(p.b, p.h, p.tq, p.dim));
    node sum = inside(g, CUDNN_DATA_FLOAT, p.rows);
    reduction(g, CUDNN_REDUCE_TENSOR_ADD, each, sum);
    pointwise(g, CUDNN_POINTWISE_MUL, CUDNN_DATA_FLOAT, sum, one, NULL, sums, 0);
    /* p, and dv */
    node s = by_length(g, &p, scaled_scores(g, &p, q, k));
    s = elementwise(g, CUDNN_POINTWISE_SUB, s, lse, CUDNN_DATA_FLOAT, p.scores);
    if (a->causal) s = by_cause(g, &p, s);
    node shares = elementwise(g, CUDNN_POINTWISE_EXP, s, NULL, CUDNN_DATA_FLOAT, p.scores);
    node shares_turned = inside(g, CUDNN_DATA_BFLOAT16, scores_turned);
    reshape(g, shares, shares_turned);
    product(g, shares_turned, d_o, dv, p.length_kv, NULL, p.length_q);
    /* ds, and dk and dq */
    node dp = inside(g, CUDNN_DATA_FLOAT, p.scores);
    product(g, d_o, v, dp, p.length_q, p.length_kv, NULL);
    node ds = elementwise(g, CUDNN_POINTWISE_SUB, dp, sums, CUDNN_DATA_FLOAT, p.scores);
    ds = elementwise(g, CUDNN_POINTWISE_MUL, ds, shares, CUDNN_DATA_FLOAT, p.scores);
    ds = elementwise(g, CUDNN_POINTWISE_MUL, ds, p.scale, CUDNN_DATA_BFLOAT16, p.scores);
    node ds_turned = inside(g, CUDNN_DATA_BFLOAT16, scores_turned);
    reshape(g, ds, ds_turned);
    product(g, ds_turned, q, dk, p.length_kv, NULL, p.length_q);
    node k_plain = inside(g, CUDNN_DATA_BFLOAT16, p.v);
    reshape(g, k, k_plain);
    product(g, ds, k_plain, dq, p.length_q, NULL, p.length_kv);
}

/* --- plans --- */

/* The first of cuDNN's proposals that can be finalised. */
static void choose(graph *g, cudnnHandle_t handle, node described)
{
    const cudnnBackendHeurMode_t mode = CUDNN_HEUR_MODE_A;
    int64_t found = 0;
    node all = make(g, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR, "the graph");
    put(g, all, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, g->count, g->operations,
        "the graph's operations");
    if (handle)
        put(g, all, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &handle, "the graph's handle");
    finish(g, all, "the graph");
    node heuristics = make(g, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR, "proposals");
    put_node(g, heuristics, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, all, "proposals");
    put(g, heuristics, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode, "proposals");
    if (described)
        put_node(g, heuristics, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, described, "proposals for the GPU");
    finish(g, heuristics, "proposals");
    node proposals[4];
    for (int i = 0; i < 4; i++) proposals[i] = make(g, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, "a proposal");
    if (!g->failed)
        note(g,
             g->dnn->get(heuristics, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, 4, &found,
                         proposals),
             "proposals");
    if (found < 1) note(g, CUDNN_STATUS_NOT_SUPPORTED, "proposals: none");
    for (int i = 0; i < found && !g->failed; i++) {
        node plan = make(g, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, "a plan");
        put_node(g, plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, proposals[i], "a plan");
        if (handle)
            put(g, plan, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, &handle, "a plan's handle");
        if (described) put_node(g, plan, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, described, "a plan's GPU");
        finish(g, plan, "a plan");
        if (!g->failed) {
            g->plan->plan = plan;
            note(g,
                 g->dnn->get(plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &found,
                             &g->plan->workspace),
                 "a plan's memory");
            return;
        }
        if (i + 1 < found) g->failed = CUDNN_STATUS_SUCCESS;
    }
}

void su_dnn_plan_free(const su_dnn *dnn, su_dnn_plan *plan)
{
    while (plan->count) dnn->descriptor_free(plan->kept[--plan->count]);
    plan->plan = NULL;
}

su_status su_dnn_plan_new(const su_dnn *dnn, cudnnHandle_t handle, const char *described_gpu,
                          const su_attention *a, bool backward, su_dnn_plan *plan, su_error *err)
{
    graph g = {.dnn = dnn, .plan = plan, .next = SU_DNN_NAMES};
    *plan = (su_dnn_plan){0};
    if (a->dropout > 0 || (a->causal && a->tq != a->tk))
        return su_fail(err, SU_EUNSUPPORTED,
                       "attention with dropout, or causal over other lengths, is left to our kernels");
    node described = NULL;
    if (!handle) {
        described = make(&g, CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR, "the description of a GPU");
        put(&g, described, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR,
            (int64_t)strlen(described_gpu), described_gpu, "the description of a GPU");
        finish(&g, described, "the description of a GPU");
    }
    if (backward)
        backward_graph(&g, a);
    else
        forward(&g, a);
    choose(&g, handle, described);
    if (!g.failed) return SU_OK;
    char text[400] = "";
    dnn->last_error(text, sizeof text);
    su_dnn_plan_free(dnn, plan);
    return su_fail(err, SU_EUNSUPPORTED, "cuDNN plans no attention of this shape: %s: %s", g.where, text);
}
