/* Chooses float64 for the kernel source included next. No guard: see nn/cpu/internal.h. */
#undef real
#undef F
#define real double
#define F(name) SU_CPU_NAME(name, f64, SU_CPU_LEVEL)
