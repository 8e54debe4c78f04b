/* Do the classes of the samples show in the shared space? k-means with V-measure, and nearest neighbours. */
#ifndef SU_EVAL_CLUSTERING_H
#define SU_EVAL_CLUSTERING_H

#include "base/error.h"
#include "base/threads.h"
#include "eval/tiles.h"

typedef struct {
    int32_t *cluster; /* [n] 0 .. k-1, owned by the caller */
    double inertia;   /* sum of squared distances to the centroids */
    int32_t iterations;
} su_kmeans_result;

/* Lloyd's algorithm from k-means++ starts [Arthur & Vassilvitskii 2007], the restart with the least inertia
 * (the first among equals). A cluster that loses its last point takes the point farthest from its centroid. A
 * restart ends when no point changes its cluster, or after 300 iterations. 1 <= k <= n. The same bits for any
 * thread count. */
su_status su_kmeans(const su_rows *x, int64_t n, int32_t width, int32_t k, int32_t restarts, uint64_t seed,
                    su_pool *pool, su_kmeans_result *result, su_error *err);

/* Harmonic mean of homogeneity and completeness [Rosenberg & Hirschberg 2007]; classes 0 .. class_count-1. */
su_status su_v_measure(const int32_t *class_of, int32_t class_count, const int32_t *cluster,
                       int32_t cluster_count, int64_t n, double *v, su_error *err);

/* Share of the rows with tested[i] whose class is the commonest among their k nearest rows without tested[i]
 * (by inner product; the earlier row among equals). When classes tie, the one with the nearest neighbour
 * wins. k is cut to the number of neighbours there are; NAN when either side is empty. 1 <= k <= 64. */
su_status su_knn_accuracy(const su_rows *x, int64_t n, int32_t width, const int32_t *class_of,
                          const bool *tested, int32_t k, su_pool *pool, double *accuracy, su_error *err);

#endif
