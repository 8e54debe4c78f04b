/* Plans of attention for cuDNN's graph interface: descriptors in, a finalised execution plan out. A plan can be made
 * for a GPU that is not here, from a description of it, so that every shape is planned in tests.
 *
 * Every tensor is [batch, heads, rows, columns] with strides of its own, so packed projections are read in place. */
#ifndef SU_NN_CUDA_DNN_PLAN_H
#define SU_NN_CUDA_DNN_PLAN_H

#include "nn/cuda/internal.h"
#include <cudnn.h>

/* cuDNN's functions that are called, taken from the library at run time. */
typedef struct {
    void *library;
    cudnnStatus_t (*create)(cudnnHandle_t *handle);
    cudnnStatus_t (*destroy)(cudnnHandle_t handle);
    cudnnStatus_t (*set_stream)(cudnnHandle_t handle, cudaStream_t stream);
    void (*last_error)(char *message, size_t size);
    cudnnStatus_t (*descriptor_new)(cudnnBackendDescriptorType_t type, cudnnBackendDescriptor_t *d);
    cudnnStatus_t (*descriptor_free)(cudnnBackendDescriptor_t d);
    cudnnStatus_t (*set)(cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name,
                         cudnnBackendAttributeType_t type, int64_t count, const void *values);
    cudnnStatus_t (*get)(cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name,
                         cudnnBackendAttributeType_t type, int64_t wanted, int64_t *count, void *values);
    cudnnStatus_t (*finalise)(cudnnBackendDescriptor_t d);
    cudnnStatus_t (*execute)(cudnnHandle_t handle, cudnnBackendDescriptor_t plan,
                             cudnnBackendDescriptor_t pack);
} su_dnn;

/* SU_ENOTFOUND: libcudnn.so.9 is not where the system looks for libraries. */
su_status su_dnn_load(su_dnn *dnn, su_error *err);

/* What a plan's tensors are called in the pack of pointers that it is executed with. */
typedef enum {
    SU_DNN_Q = 1,
    SU_DNN_K,
    SU_DNN_V,
    SU_DNN_O,
    SU_DNN_LSE,
    SU_DNN_DQ,
    SU_DNN_DK,
    SU_DNN_DV,
    SU_DNN_DO,
    SU_DNN_SUMS,
    SU_DNN_SCALE,
    SU_DNN_LENGTH_Q,
    SU_DNN_LENGTH_KV,
    SU_DNN_MINUS_INFINITY,
    SU_DNN_ONE,
    SU_DNN_NAMES
} su_dnn_name;

typedef struct {
    cudnnBackendDescriptor_t plan, kept[128]; /* all that the plan stands on; freed with it */
    int count;
    int64_t workspace; /* bytes */
} su_dnn_plan;

/* handle, or NULL and the description of a GPU. SU_EUNSUPPORTED: cuDNN has nothing for the shape; nothing is left to
 * free. Dropout is not planned: our kernels key it by element. */
su_status su_dnn_plan_new(const su_dnn *dnn, cudnnHandle_t handle, const char *described_gpu,
                          const su_attention *a, bool backward, su_dnn_plan *plan, su_error *err);
void su_dnn_plan_free(const su_dnn *dnn, su_dnn_plan *plan);

#endif
