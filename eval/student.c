#include "eval/student.h"
#include <math.h>

/* P(|T| <= t) for a whole number of degrees v, a finite sum with theta = atan(t / sqrt(v))  [Abramowitz &
 * Stegun 26.7.3, 26.7.4] v odd:  2/pi (theta + sin (cos + 2/3 cos^3 + ... + 2*4*..(v-3) / (3*5*..(v-2))
 * cos^(v-2))) v even: sin (1 + 1/2 cos^2 + ... + 1*3*..(v-3) / (2*4*..(v-2)) cos^(v-2)) */
static double within(double t, int64_t v)
{
    double theta = atan(t / sqrt((double)v)), c2 = cos(theta) * cos(theta);
    double term = v % 2 ? cos(theta) : 1, sum = 0;
    for (int64_t k = v % 2 ? 1 : 0; k <= v - 2; k += 2) {
        sum += term;
        term *= c2 * (double)(k + 1) / (double)(k + 2);
    }
    sum *= sin(theta);
    return v % 2 ? M_2_PI * (theta + sum) : sum;
}

double su_student_critical(int64_t degrees)
{
    enum { NORMAL = 10000 }; /* from here on t differs from the normal distribution by less than 3e-4 */
    if (degrees > NORMAL) degrees = NORMAL;
    double low = 0, high = 16;
    for (int step = 0; step < 64; step++) {
        double middle = 0.5 * (low + high);
        if (within(middle, degrees) < 0.95)
            low = middle;
        else
            high = middle;
    }
    return 0.5 * (low + high);
}

void su_student_interval(const double *values, int64_t n, double *mean, double ci95[2])
{
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < n; i++) sum += values[i];
    *mean = sum / (double)n;
    ci95[0] = ci95[1] = NAN;
    if (n < 2) return;
    for (int64_t i = 0; i < n; i++) squares += (values[i] - *mean) * (values[i] - *mean);
    double half = su_student_critical(n - 1) * sqrt(squares / (double)(n - 1) / (double)n);
    ci95[0] = *mean - half;
    ci95[1] = *mean + half;
}
