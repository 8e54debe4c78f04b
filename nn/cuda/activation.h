/* f(x) and f'(x) of one number, for kernels. nn/device.h names the functions; f is an su_activation. */
#ifndef SU_NN_CUDA_ACTIVATION_H
#define SU_NN_CUDA_ACTIVATION_H

#include "nn/cuda/kernel.h"

extern "C" {
#include "nn/device.h"
}

/* e^x and a/b, by the special function unit where the result is rounded to bf16 anyway. */
template <class T> DEVICE float exp_of(float x)
{
    return sizeof(T) == 2 ? __expf(x) : expf(x);
}
template <class T> DEVICE float quotient(float a, float b)
{
    return sizeof(T) == 2 ? __fdividef(a, b) : a / b;
}

/* Phi(x) and the density phi(x). For a = |x| and t = 1/(1 + 0.34 a), Phi(-a) = e^(-a^2/2) (c1 t + ... + c9 t^9):
 * the CPU device's fit (nn/cpu/activation.inc, 3.7e-7 relative), which keeps the lower tail's digits and costs
 * half of erfcf. */
template <class T> DEVICE void normal(float x, float &integral, float &density)
{
    const float a = fabsf(x), e = exp_of<T>(-0.5f * x * x), t = quotient<T>(1.0f, 1.0f + 0.34f * a);
    float p = fmaf(-0.0258761328f, t, 0.138355628f);
    p = fmaf(p, t, -0.270868152f);
    p = fmaf(p, t, 0.199714467f);
    p = fmaf(p, t, -0.0431042425f);
    p = fmaf(p, t, 0.11471279f);
    p = fmaf(p, t, 0.115351893f);
    p = fmaf(p, t, 0.136092201f);
    p = fmaf(p, t, 0.135621578f);
    p *= t;
    p *= e;
    integral = x < 0 ? p : 1.0f - p;
    density = e * 0.39894228040143267794f;
}

/* x Phi(x) and its slope where both are rounded to bf16: a special function or two, and few multiplications, because products
 * do this beside tensor cores (hopper_product.h). With t = x^2, Phi(x) is 1/(1 + 2^(-x P(t))), and the slope Phi(x) + x Phi(x) Phi(-x) Q(t).
 * P is log2(Phi(x)/Phi(-x))/x, fitted by us; bf16 itself keeps 2e-3 of a number:
 *
 *     x Phi(x)   within 1.8e-4 of itself from x = -3 on, and within 8e-7 everywhere below
 *     slope      within 1e-4, absolute */
DEVICE float gelu_half(float x, float &integral)
{
    const float t = x * x;
    float p = fmaf(1.72062761e-06f, t, -4.94542259e-05f);
    p = fmaf(p, t, -6.73313167e-04f);
    p = fmaf(p, t, 1.06106534e-01f);
    p = fmaf(p, t, 2.30142160f);
    integral = reciprocal(1.0f + power_of_two(-x * p));
    return x * integral;
}

template <class T> DEVICE float gelu(float x)
{
    float integral, density;
    if (sizeof(T) == 2) return gelu_half(x, integral);
    normal<T>(x, integral, density);
    return x * integral;
}

template <class T> DEVICE void gelu_and_slope(float x, float &value, float &rise)
{
    float integral, density;
    if (sizeof(T) == 2) {
        const float t = x * x;
        value = gelu_half(x, integral);
        rise = fmaf(value * (1.0f - integral), fmaf(fmaf(-0.0035835786f, t, 0.222532069f), t, 1.59448887f), integral);
    } else {
        normal<T>(x, integral, density);
        value = x * integral;
        rise = integral + x * density;
    }
}

template <class T> DEVICE float sigmoid(float x)
{
    return quotient<T>(1.0f, 1.0f + exp_of<T>(-x));
}

template <class T> DEVICE float activated(float x, int f)
{
    if (f == SU_ACT_GELU) return gelu<T>(x);
    if (f == SU_ACT_GELU_TANH) /* (1 + tanh u)/2 = sigmoid(2u) */
        return x * sigmoid<T>((x + x * x * x * 0.044715f) * 1.59576912160573071176f);
    if (f == SU_ACT_QUICK_GELU) return x * sigmoid<T>(1.702f * x);
    if (f == SU_ACT_TANH) return tanhf(x);
    return x;
}

template <class T> DEVICE float slope(float x, int f)
{
    if (f == SU_ACT_GELU) {
        float value, rise;
        gelu_and_slope<T>(x, value, rise);
        return rise;
    }
    if (f == SU_ACT_GELU_TANH) {
        const float c = 1.59576912160573071176f, a = 0.044715f; /* 2 sqrt(2/pi) */
        const float s = sigmoid<T>((x + x * x * x * a) * c);
        return s + x * s * (1.0f - s) * (c + x * x * (3 * a * c));
    }
    if (f == SU_ACT_QUICK_GELU) {
        const float s = sigmoid<T>(1.702f * x);
        return s + x * s * (1.0f - s) * 1.702f;
    }
    if (f == SU_ACT_TANH) {
        const float t = tanhf(x);
        return 1.0f - t * t;
    }
    return 1.0f;
}

#endif
