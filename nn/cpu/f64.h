/* Chooses float64 for the kernel source included next. No guard: see nn/cpu/internal.h. */
#undef real
#undef F
#define real double
#define F(name) su_cpu_##name##_f64
