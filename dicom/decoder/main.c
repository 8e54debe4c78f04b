/* suture-decode: a worker process (see dicom/worker.h). It is started by the library, not by people. */
#include "dicom/worker_protocol.h"
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static char missing[sizeof((su_worker_reply *)0)->message]; /* the limit that is not in force; "": none */

#if defined(__x86_64__)
#define OUR_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define OUR_ARCH AUDIT_ARCH_AARCH64
#endif

/* Memory, the given socket, the way out. Whatever else a decoder wants is answered with EPERM. Left out where
 * a sanitizer runs: it needs more. */
static void give_up_rights(void)
{
#if defined(OUR_ARCH) && !defined(__SANITIZE_ADDRESS__)
    static const int allowed[] = {
        __NR_read,   __NR_write,         __NR_recvmsg,      __NR_sendmsg,         __NR_close,  __NR_mmap,
        __NR_munmap, __NR_mremap,        __NR_mprotect,     __NR_madvise,         __NR_brk,    __NR_futex,
        __NR_exit,   __NR_exit_group,    __NR_rt_sigreturn, __NR_rt_sigprocmask,  __NR_getpid, __NR_gettid,
        __NR_tgkill, __NR_clock_gettime, __NR_getrandom,    __NR_restart_syscall,
    };
    enum { COUNT = sizeof allowed / sizeof *allowed };
    struct sock_filter code[COUNT + 6] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, OUR_ARCH, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
    };
    for (int i = 0; i < COUNT; i++) /* jumps over the rest and the refusal */
        code[4 + i] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)allowed[i],
                                                   (unsigned char)(COUNT - i), 0);
    code[4 + COUNT] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM);
    code[5 + COUNT] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    const struct sock_fprog program = {COUNT + 6, code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
        snprintf(missing, sizeof missing, "seccomp: %s", strerror(errno));
#else
    snprintf(missing, sizeof missing, "seccomp: not in this build");
#endif
}

/* false: the caller is gone. *fd: the descriptor that came along, or -1. */
static bool receive(su_worker_request *request, int *fd)
{
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec part = {request, sizeof *request};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    ssize_t n;
    do n = recvmsg(SU_WORKER_SOCKET, &message, 0);
    while (n < 0 && errno == EINTR);
    *fd = -1;
    const struct cmsghdr *c = CMSG_FIRSTHDR(&message);
    if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) memcpy(fd, CMSG_DATA(c), sizeof *fd);
    return n == (ssize_t)sizeof *request;
}

/* The message without the name of a file, which the worker does not know. */
static void answer(su_worker_reply *reply, su_status status, const su_error *err)
{
    static const char unnamed[] = "?: ";
    const char *text = status ? err->message : "";
    if (strncmp(text, unnamed, sizeof unnamed - 1) == 0) text += sizeof unnamed - 1;
    reply->status = status;
    snprintf(reply->message, sizeof reply->message, "%.*s", (int)sizeof reply->message - 1, text);
}

static void vet(const su_worker_request *request, int fd, su_worker_reply *reply)
{
    su_error err = {0};
    void *data =
        fd >= 0 && request->shared ? mmap(NULL, request->shared, PROT_READ, MAP_PRIVATE, fd, 0) : MAP_FAILED;
    if (data == MAP_FAILED) {
        answer(reply, su_fail(&err, SU_ENOMEM, "no memory to read it"), &err);
    } else {
        answer(reply, su_dcmtk_vet(data, request->shared, "?", &err), &err);
        munmap(data, request->shared);
    }
    if (fd >= 0) close(fd);
}

int main(void)
{
    static su_worker_request request;
    su_worker_reply reply;
    uint8_t *shared = NULL;
    uint64_t mapped = 0;
    int fd;
    close_range(SU_WORKER_SOCKET + 1, ~0u, 0);
    su_dcmtk_prepare();
    give_up_rights();
    while (receive(&request, &fd)) {
        su_error err = {0};
        memset(&reply, 0, sizeof reply);
        if (request.order == SU_WORKER_VET) {
            vet(&request, fd, &reply);
        } else if (request.order == SU_WORKER_LIMITS) {
            memcpy(reply.message, missing, sizeof reply.message);
        } else {
            if (fd >= 0) {
                if (shared) munmap(shared, mapped);
                mapped = request.shared;
                shared = mmap(NULL, mapped, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
                if (shared == MAP_FAILED) shared = NULL;
                close(fd);
            }
            const su_status st = shared ? su_codec_run(&request.job, shared, shared + request.out, "?", &err)
                                        : su_fail(&err, SU_ENOMEM, "no memory to decode it");
            answer(&reply, st, &err);
        }
        if (write(SU_WORKER_SOCKET, &reply, sizeof reply) != (ssize_t)sizeof reply) break;
    }
    _exit(0);
}
