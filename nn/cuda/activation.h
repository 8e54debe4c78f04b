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

template <class T> DEVICE float sigmoid(float x)
{
    return quotient<T>(1.0f, 1.0f + exp_of<T>(-x));
}

template <class T> DEVICE float activated(float x, int f)
{
    if (f == SU_ACT_GELU) {
        float integral, density;
        normal<T>(x, integral, density);
        return x * integral;
    }
    if (f == SU_ACT_GELU_TANH) /* (1 + tanh u)/2 = sigmoid(2u) */
        return x * sigmoid<T>((x + x * x * x * 0.044715f) * 1.59576912160573071176f);
    if (f == SU_ACT_QUICK_GELU) return x * sigmoid<T>(1.702f * x);
    if (f == SU_ACT_TANH) return tanhf(x);
    return x;
}

template <class T> DEVICE float slope(float x, int f)
{
    if (f == SU_ACT_GELU) {
        float integral, density;
        normal<T>(x, integral, density);
        return integral + x * density;
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
