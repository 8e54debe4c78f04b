#include "dicom/decoder/sandbox.h"
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__x86_64__)
#define ARCHITECTURE AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCHITECTURE AUDIT_ARCH_AARCH64
#endif

#if !defined(ARCHITECTURE) || defined(__SANITIZE_ADDRESS__)

const char *su_sandbox(void)
{
    return "seccomp: not in this build";
}

#else

enum { PROGRAM_MAX = 160, LOW_HALF = 0 /* little endian machines */ };

#define LOAD(FIELD) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, FIELD))
#define LOAD_ARGUMENT(N) \
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args) + 8 * (N) + LOW_HALF)
#define RETURN(WHAT) BPF_STMT(BPF_RET | BPF_K, WHAT)
#define REFUSE RETURN(SECCOMP_RET_ERRNO | EPERM)
#define ALLOW RETURN(SECCOMP_RET_ALLOW)

/* Reading and writing what is open, memory, time, and the ways to end. */
static const int calls[] = {
    __NR_read,           __NR_write,        __NR_recvfrom,      __NR_sendto,
    __NR_recvmsg,        __NR_sendmsg,      __NR_close,         __NR_munmap,
    __NR_mremap,         __NR_brk,          __NR_madvise,       __NR_futex,
    __NR_getrandom,      __NR_sched_yield,  __NR_clock_gettime, __NR_gettimeofday,
    __NR_rt_sigprocmask, __NR_rt_sigaction, __NR_rt_sigreturn,  __NR_getpid,
    __NR_gettid,         __NR_fstat,        __NR_lseek,         __NR_sched_getaffinity,
    __NR_exit,           __NR_exit_group,
};

const char *su_sandbox(void)
{
    static char missing[120];
    struct sock_filter program[PROGRAM_MAX];
    unsigned short n = 0;
#define ADD(...)                                     \
    do {                                             \
        const struct sock_filter step = __VA_ARGS__; \
        program[n++] = step;                         \
    } while (0)
    ADD(LOAD(arch));
    ADD(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCHITECTURE, 1, 0));
    ADD(RETURN(SECCOMP_RET_KILL_PROCESS));
    ADD(LOAD(nr));
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        ADD(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)calls[i], 0, 1));
        ADD(ALLOW);
    }
    /* Memory that is not executable. */
    const int mappings[] = {__NR_mmap, __NR_mprotect};
    for (size_t i = 0; i < 2; i++) {
        ADD(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)mappings[i], 0, 4));
        ADD(LOAD_ARGUMENT(2));
        ADD(BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, PROT_EXEC, 0, 1));
        ADD(REFUSE);
        ADD(ALLOW);
    }
    /* Signals to itself: abort(). */
    ADD(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_tgkill, 0, 4));
    ADD(LOAD_ARGUMENT(0));
    ADD(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)getpid(), 0, 1));
    ADD(ALLOW);
    ADD(REFUSE);
    ADD(REFUSE);
#undef ADD
    const struct sock_fprog filter = {.len = n, .filter = program};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter, 0, 0) != 0)
        snprintf(missing, sizeof missing, "seccomp: %s", strerror(errno));
    return missing;
}

#endif
