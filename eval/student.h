/* The mean of a few runs and its interval, by Student's t. */
#ifndef SU_EVAL_STUDENT_H
#define SU_EVAL_STUDENT_H

#include <stdint.h>

/* Two-sided 95 % critical value of t: 12.706 for 1 degree of freedom, 1.960 for many. degrees >= 1. */
double su_student_critical(int64_t degrees);

/* Mean of n >= 1 values, and mean -+ critical(n - 1) s / sqrt(n); the interval is NAN when n is 1. */
void su_student_interval(const double *values, int64_t n, double *mean, double ci95[2]);

#endif
