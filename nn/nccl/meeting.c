#include "nn/nccl/meeting.h"
#include "base/memory.h"
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { HELLO_SECONDS = 5 }; /* that a connection may take to say who it is */

struct su_meeting {
    int count; /* connections: rank 0 has one to every other rank, the others to rank 0 */
    int socket[];
};

typedef struct {
    char magic[8];
    uint32_t rank, ranks; /* network order */
} hello;

static const char magic[8] = "SUTURE01";

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static bool send_all(int s, const void *data, size_t size)
{
    for (size_t done = 0; done < size;) {
        ssize_t n = send(s, (const char *)data + done, size - done, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) continue;
        if (n < 1) return false;
        done += (size_t)n;
    }
    return true;
}

static bool receive_all(int s, void *data, size_t size, int seconds)
{
    struct timeval limit = {.tv_sec = seconds > 0 ? seconds : 1};
    setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    for (size_t done = 0; done < size;) {
        ssize_t n = recv(s, (char *)data + done, size - done, 0);
        if (n < 0 && errno == EINTR) continue;
        if (n < 1) return false;
        done += (size_t)n;
    }
    return true;
}

static struct addrinfo *resolve(const char *host, int port, int flags, const char **why)
{
    char service[16];
    struct addrinfo *list = NULL, hints = {.ai_socktype = SOCK_STREAM, .ai_flags = flags | AI_NUMERICSERV};
    snprintf(service, sizeof service, "%d", port);
    int code = getaddrinfo(host, service, &hints, &list);
    *why = code ? gai_strerror(code) : NULL;
    return code ? NULL : list;
}

/* A listening socket, or -1 with errno. */
static int listen_at(const struct addrinfo *list, int most)
{
    int s = -1, on = 1;
    for (const struct addrinfo *a = list; a && s < 0; a = a->ai_next) {
        s = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC, a->ai_protocol);
        if (s < 0) continue;
        setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        if (bind(s, a->ai_addr, a->ai_addrlen) == 0 && listen(s, most) == 0) break;
        int code = errno;
        close(s);
        errno = code;
        s = -1;
    }
    return s;
}

static su_status open_door(const su_launch *l, int *door, su_error *err)
{
    const char *why = NULL;
    struct addrinfo *list = resolve(l->host, l->port, 0, &why);
    if (!list) return su_fail(err, SU_EIO, "MASTER_ADDR %s: %s", l->host, why);
    *door = listen_at(list, l->ranks);
    freeaddrinfo(list);
    if (*door < 0 && errno == EADDRNOTAVAIL) { /* another's address, which leads here */
        list = resolve(NULL, l->port, AI_PASSIVE, &why);
        *door = list ? listen_at(list, l->ranks) : -1;
        if (list) freeaddrinfo(list);
    }
    if (*door < 0)
        return su_fail(err, SU_EIO, "rank 0 cannot listen at %s:%d: %s; set MASTER_PORT to a free port",
                       l->host, l->port, strerror(errno));
    return SU_OK;
}

/* Who has connected: its rank, or -1 when it is none of us. */
static int greet(int s, const su_launch *l)
{
    hello h;
    if (!receive_all(s, &h, sizeof h, HELLO_SECONDS) || memcmp(h.magic, magic, sizeof magic) != 0) return -1;
    uint32_t rank = ntohl(h.rank), ranks = ntohl(h.ranks);
    return ranks == (uint32_t)l->ranks && rank > 0 && rank < ranks ? (int)rank : -1;
}

static su_status receive_ranks(su_meeting *m, const su_launch *l, double end, const void *gift, size_t size,
                               su_error *err)
{
    int door = -1, missing = m->count;
    su_status st = open_door(l, &door, err);
    while (!st && missing) {
        struct pollfd p = {.fd = door, .events = POLLIN};
        double left = end - now();
        int ready = left > 0 ? poll(&p, 1, (int)(left * 1000) + 1) : 0;
        if (ready < 0 && errno == EINTR) continue;
        if (ready < 1) {
            int first = 0;
            while (m->socket[first] >= 0) first++;
            st = su_fail(err, SU_EIO, "%d of %d ranks did not come to %s:%d, the first of them rank %d",
                         missing, l->ranks, l->host, l->port, first + 1);
            break;
        }
        int s = accept4(door, NULL, NULL, SOCK_CLOEXEC), rank = s < 0 ? -1 : greet(s, l);
        if (rank > 0 && m->socket[rank - 1] < 0 && send_all(s, gift, size)) {
            m->socket[rank - 1] = s;
            missing--;
        } else if (s >= 0) {
            close(s);
        }
    }
    if (door >= 0) close(door);
    return st;
}

static int connect_to(const su_launch *l, const char **why)
{
    int s = -1;
    struct addrinfo *list = resolve(l->host, l->port, 0, why);
    for (const struct addrinfo *a = list; a && s < 0; a = a->ai_next) {
        s = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC, a->ai_protocol);
        if (s < 0 || connect(s, a->ai_addr, a->ai_addrlen) == 0) continue;
        *why = strerror(errno);
        close(s);
        s = -1;
    }
    if (list) freeaddrinfo(list);
    return s;
}

static su_status join(su_meeting *m, const su_launch *l, double end, void *gift, size_t size, su_error *err)
{
    hello h = {.rank = htonl((uint32_t)l->rank), .ranks = htonl((uint32_t)l->ranks)};
    const char *why = "it does not answer";
    memcpy(h.magic, magic, sizeof magic);
    for (;;) {
        int s = connect_to(l, &why), left = (int)(end - now());
        if (s >= 0 && send_all(s, &h, sizeof h) && receive_all(s, gift, size, left)) {
            m->socket[0] = s;
            return SU_OK;
        }
        if (s >= 0) close(s);
        if (now() >= end) break;
        nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
    }
    return su_fail(err, SU_EIO, "rank %d does not reach rank 0 at %s:%d: %s", l->rank, l->host, l->port, why);
}

su_status su_meeting_open(const su_launch *l, int seconds, void *gift, size_t size, su_meeting **meeting,
                          su_error *err)
{
    *meeting = NULL;
    if (!*l->host)
        return su_fail(err, SU_EINVAL, "set MASTER_ADDR to the host of rank 0: GPU ranks meet there");
    int count = l->rank ? 1 : l->ranks - 1;
    su_meeting *m = su_calloc(1, sizeof *m + (size_t)count * sizeof m->socket[0]);
    if (!m) return su_fail(err, SU_ENOMEM, "no memory to meet %d ranks", l->ranks);
    m->count = count;
    for (int i = 0; i < count; i++) m->socket[i] = -1;
    double end = now() + seconds;
    su_status st = l->rank ? join(m, l, end, gift, size, err) : receive_ranks(m, l, end, gift, size, err);
    if (st)
        su_meeting_close(m);
    else
        *meeting = m;
    return st;
}

void su_meeting_close(su_meeting *m)
{
    if (!m) return;
    for (int i = 0; i < m->count; i++)
        if (m->socket[i] >= 0) close(m->socket[i]);
    su_free(m);
}

bool su_meeting_broken(su_meeting *m)
{
    for (int i = 0; i < m->count; i++) {
        char byte;
        ssize_t n = recv(m->socket[i], &byte, 1, MSG_PEEK | MSG_DONTWAIT);
        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)) return true;
    }
    return false;
}
