/* The operations of the table on a GPU; included by internal.h. nn/device.h says what they do. */

/* record.c */
bool su_cuda_repeat(su_device *d, su_recorded **recorded, void (*work)(void *context), void *context);
void su_cuda_forget(su_device *d, su_recorded *recorded);

/* linear.cu */
void su_cuda_linear(su_device *d, void *y, void *pre, const void *x, const void *w, const void *b,
                    su_activation f, int64_t rows, int32_t out, int32_t in);
void su_cuda_linear_add(su_device *d, void *y, const void *residual, const void *x, const void *w, const void *b,
                        int64_t rows, int32_t out, int32_t in);
void su_cuda_linear_backward(su_device *d, void *dx, bool add, void *dw, void *db, const void *dy, const void *x,
                             const void *w, int64_t rows, int32_t out, int32_t in);
void su_cuda_linear_act_backward(su_device *d, void *dpre, void *y, void *db, const void *dy, const void *w, const void *pre,
                                 su_activation f, int64_t rows, int32_t out, int32_t in);

/* activation.cu */
void su_cuda_act_backward(su_device *d, void *dpre, void *y, void *db, const void *dy, const void *pre, su_activation f,
                          int64_t rows, int32_t width);
/* v = f(pre + bias), row by row; bias [width] may be NULL, and pre and y the same. kept: where pre + bias is
 * written, or NULL. */
void su_cuda_activate(su_cuda *c, void *y, void *kept, const void *pre, const void *bias, su_activation f,
                      int64_t rows, int32_t width);

/* attention.cu, attend.cu */
void su_cuda_attention(su_device *d, const su_attention *a, void *o, void *lse, const void *q, const void *k,
                       const void *v);
void su_cuda_attention_backward(su_device *d, const su_attention *a, void *dq, void *dk, void *dv, void *dbq, void *dbv,
                                const void *d_o, const void *o, const void *lse, const void *q, const void *k,
                                const void *v);
void su_cuda_attend(su_device *d, const su_attend *a, void *o, const void *q, const void *k, const void *v);

/* norm.cu */
void su_cuda_norm(su_device *d, void *y, void *sum, void *mean, void *rstd, const void *x, const void *residual,
                  const void *gamma, const void *beta, double eps, int64_t rows, int32_t width);
void su_cuda_norm_backward(su_device *d, void *dx, bool add, void *sums, void *dgamma, void *dbeta, const void *dy,
                           const void *s, const void *mean, const void *rstd, const void *gamma, int64_t rows,
                           int32_t width);
/* sums[j] += sum over rows of x[row][j]; x act, its rows `stride` apart, sums acc. */
void su_cuda_column_sums(su_cuda *c, float *sums, const void *x, int64_t rows, int32_t width, int64_t stride);
/* sums[k][j] += sum over `count` rows of parts [count][lists][width]; one to three lists, of which any may be NULL. */
void su_cuda_join(su_cuda *c, float *const *sums, int lists, const float *parts, int64_t count, int32_t width);
/* dpre = dy f'(pre), y = f(pre) unless it is NULL, and sums as above of dpre. */
void su_cuda_slopes_and_sums(su_cuda *c, void *dpre, void *y, float *sums, const void *dy, const void *pre,
                             su_activation f, int64_t rows, int32_t width);

/* rows.cu */
void su_cuda_convert(su_device *d, void *to, su_dtype to_type, const void *from, su_dtype from_type, int64_t n);
void su_cuda_add(su_device *d, void *y, const void *a, const void *b, int64_t n);
void su_cuda_dropout(su_device *d, void *y, const void *x, double p, su_rng_key key, int64_t n);
void su_cuda_drop_path(su_device *d, void *y, const void *x, double p, su_rng_key key, int64_t samples,
                       int64_t sample);
void su_cuda_gather(su_device *d, void *y, bool add, const void *x, const int32_t *index, int64_t rows,
                    int32_t width);
void su_cuda_scatter(su_device *d, void *table, const void *y, const int32_t *index, int64_t rows, int32_t width);
void su_cuda_mean_pool(su_device *d, void *y, const void *x, const int32_t *lengths, int32_t batch,
                       int32_t tokens, int32_t first, int32_t width);
void su_cuda_mean_pool_backward(su_device *d, void *dx, const void *dy, const int32_t *lengths, int32_t batch,
                                int32_t tokens, int32_t first, int32_t width);
void su_cuda_patches(su_device *d, void *out, const uint8_t *images, const su_patches *p);
void su_cuda_normalise(su_device *d, void *z, void *norm, const void *x, int64_t rows, int32_t width);
void su_cuda_normalise_backward(su_device *d, void *dx, const void *dz, const void *z, const void *norm,
                                int64_t rows, int32_t width);

/* scatter.cu */
void su_cuda_scatter_add(su_device *d, void *table, int64_t places, bool to_acc, const void *y, const int32_t *index,
                         int64_t rows, int32_t width);

/* loss.cu */
void su_cuda_cross_entropy(su_device *d, void *loss, void *losses, void *dlogits, const void *logits,
                           const int32_t *targets, double smoothing, double weight, int64_t rows,
                           int32_t classes);
void su_cuda_atp(su_device *d, void *loss, void *dx, void *dy, const void *x, const void *y, double weight,
                 int64_t n, int32_t width);
/* *loss += weight * sum of values[n], summed in double; values double, loss acc. */
void su_cuda_add_loss(su_cuda *c, void *loss, double weight, const double *values, int64_t n);

/* infonce.cu, cu.cu */
su_status su_cuda_infonce(su_device *d, void *loss, void *dx, void *dy, void *d_log_scale, const void *x,
                          const void *y, const void *log_scale, double weight, int64_t n, int32_t width,
                          su_error *err);
su_status su_cuda_cu(su_device *d, void *loss, void *const *dz, const void *const *z, int streams,
                     su_centroids form, double weight, int64_t n, int32_t width, su_error *err);

/* optimiser.cu */
void su_cuda_sum_squares(su_device *d, double *result, const void *x, int64_t n);
void su_cuda_adamw(su_device *d, void *w, void *narrow, void *m, void *v, const void *g, const su_adamw *o,
                   const su_adamw_run *runs, int32_t count);

/* search.cu */
su_status su_cuda_top_k(su_device *d, int64_t *rows, float *scores, const void *queries, const void *x, su_dtype type,
                        double longest, int64_t nq, int64_t n, int32_t width, int32_t k, su_error *err);
void su_cuda_largest(su_device *d, int32_t *which, float *values, float *log_sums, const void *x, int64_t rows,
                     int32_t classes, int32_t k);
