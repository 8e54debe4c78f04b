/* Chooses float32 for the kernel source included next. No guard: see nn/cpu/internal.h. */
#undef real
#undef F
#define real float
#define F(name) SU_CPU_NAME(name, f32, SU_CPU_LEVEL)
