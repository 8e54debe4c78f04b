/* Stands in for suture-decode, and does what a job's number of rows says. */
#include "dicom/worker_protocol.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

int main(void)
{
    static su_worker_request request;
    uint8_t *shared = NULL;
    for (;;) {
        char control[CMSG_SPACE(sizeof(int))] __attribute__((aligned(8)));
        struct iovec part = {&request, sizeof request};
        struct msghdr message = {
            .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
        su_worker_reply reply = {0};
        struct rlimit processor, memory;
        if (recvmsg(SU_WORKER_SOCKET, &message, 0) != (ssize_t)sizeof request) return 0;
        if (CMSG_FIRSTHDR(&message)) {
            int fd;
            memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd);
            shared = mmap(NULL, request.shared, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
            close(fd);
        }
        switch (request.job.rows) {
        case 1: /* decodes: 7, and the process's number as a proof of which one it was */
            memset(shared + request.out, 7, request.job.frame_bytes);
            break;
        case 2:
            abort();
        case 3:
            return 0;
        case 4:
            while (malloc(64 << 20)) {
            }
            reply.status = SU_ENOMEM;
            strcpy(reply.message, "no memory");
            break;
        case 5:
            for (volatile unsigned i = 0;; i++) {
            }
        case 6:
            reply.status = SU_EFORMAT;
            memset(reply.message, 'x', sizeof reply.message); /* without an end */
            break;
        case 8: /* says what it may use */
            getrlimit(RLIMIT_CPU, &processor);
            getrlimit(RLIMIT_AS, &memory);
            reply.status = SU_EFORMAT;
            snprintf(reply.message, sizeof reply.message, "%llu s %llu MiB",
                     (unsigned long long)processor.rlim_cur, (unsigned long long)memory.rlim_cur >> 20);
            break;
        default:
            if (write(SU_WORKER_SOCKET, &reply, 3) < 0) return 1;
            continue;
        }
        if (write(SU_WORKER_SOCKET, &reply, sizeof reply) < 0) return 1;
    }
}
