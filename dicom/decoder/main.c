/* suture-decode: a worker process (see dicom/worker.h). It is started by the library, not by people. */
#include "dicom/decoder/sandbox.h"
#include "dicom/worker_protocol.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

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

static su_status follow(const su_worker_request *r, uint8_t *shared, su_error *err)
{
    if (!shared) return su_fail(err, SU_ENOMEM, "no shared memory");
    return r->order == SU_WORKER_VET ? su_codec_vet(shared, r->length, r->implicit, r->big, err)
                                     : su_codec_run(&r->job, shared, shared + r->out, err);
}

int main(void)
{
    static su_worker_request request;
    su_worker_reply reply;
    uint8_t *shared = NULL;
    uint64_t mapped = 0;
    int fd;
    const struct rlimit no_core = {0, 0};
    close_range(SU_WORKER_SOCKET + 1, ~0u, 0);
    setrlimit(RLIMIT_CORE, &no_core); /* it would hold a patient's pixels */
    su_codec_prepare();
    const char *missing = su_sandbox();
    while (receive(&request, &fd)) {
        su_error err = {0};
        memset(&reply, 0, sizeof reply);
        if (fd >= 0) {
            if (shared) munmap(shared, mapped);
            mapped = request.shared;
            shared = mmap(NULL, mapped, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
            if (shared == MAP_FAILED) shared = NULL;
            close(fd);
        }
        if (request.order == SU_WORKER_LIMITS) {
            snprintf(reply.message, sizeof reply.message, "%s", missing);
        } else {
            reply.status = follow(&request, shared, &err);
            snprintf(reply.message, sizeof reply.message, "%.*s", (int)sizeof reply.message - 1, err.message);
        }
        if (write(SU_WORKER_SOCKET, &reply, sizeof reply) != (ssize_t)sizeof reply) break;
    }
    _exit(0);
}
