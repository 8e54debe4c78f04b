#include "dicom/worker.h"
#include "base/companion.h"
#include "base/file.h"
#include "base/memory.h"
#include "dicom/worker_protocol.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* What a job may use, by what it decodes to and by what it decodes from: an empty frame must not cost what a
 * full one may. JPEG 2000 is the slowest and the greediest: 10 ns a value where nothing is coded, 50 where
 * code-blocks are of 4 x 4, and 200 ns a byte of code; 4 bytes a value, in tiles 8, and twice the code. Small
 * code-blocks take more memory, 12 bytes a value (8 x 8) or 28 (4 x 4): up to what every job may use. */
enum {
    JOB_SECONDS = 10,
    VALUES_A_SECOND = 16 << 20,
    CODE_BYTES_A_SECOND = 512 << 10,
    BYTES_A_VALUE = 8,
    BYTES_A_CODE_BYTE = 4,
    VET_BYTES_A_SECOND = 1 << 20, /* a data set of empty elements: DCMTK takes 200 bytes for each of 8 */
    VET_BYTES_A_BYTE = 32,
    PAGE = 4096,
};
static const uint64_t JOB_MEMORY = (uint64_t)512 << 20;
static const uint64_t KEPT_BYTES = (uint64_t)64 << 20; /* shared memory of an idle worker */

typedef struct worker {
    struct worker *next; /* idle ones */
    pid_t pid;
    int socket, memory; /* memory: shared, -1: none yet */
    uint8_t *shared;
    uint64_t mapped;
} worker;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static worker *idle;

/* --- starting and ending ------------------------------------------------------------------------------ */

/* Nothing of the caller's environment goes along but what finds libraries and steers sanitizers. */
static int pick_environment(char **picked, int most)
{
    static const char *const wanted[] = {
        "LD_LIBRARY_PATH=", "DCMDICTPATH=", "ASAN_OPTIONS=", "UBSAN_OPTIONS=", "LSAN_OPTIONS="};
    int n = 0;
    for (char **e = environ; e && *e; e++)
        for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
            if (n + 1 < most && strncmp(*e, wanted[i], strlen(wanted[i])) == 0) picked[n++] = *e;
    picked[n] = NULL;
    return n;
}

static int spawn(const char *program, int socket, pid_t *pid)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t none, all;
    char *environment[16], *arguments[] = {(char *)(uintptr_t) "suture-decode", NULL};
    pick_environment(environment, 16);
    int code = posix_spawn_file_actions_init(&actions);
    if (code) return code;
    if ((code = posix_spawnattr_init(&attributes))) {
        posix_spawn_file_actions_destroy(&actions);
        return code;
    }
    /* A session of its own: what interrupts this program at its terminal is this program's to handle. */
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawnattr_setflags(&attributes,
                             POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &all);
    code = posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDWR, 0);
    if (!code) code = posix_spawn_file_actions_adddup2(&actions, 0, 1);
#ifndef __SANITIZE_ADDRESS__
    if (!code) code = posix_spawn_file_actions_adddup2(&actions, 0, 2);
#endif
    if (!code) code = posix_spawn_file_actions_adddup2(&actions, socket, SU_WORKER_SOCKET);
    if (!code) code = posix_spawn_file_actions_addclosefrom_np(&actions, SU_WORKER_SOCKET + 1);
    if (!code) code = posix_spawn(pid, program, &actions, &attributes, arguments, environment);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    return code;
}

static worker *start(su_error *err)
{
    int pair[2];
    char *program = su_companion("SUTURE_DECODE", "suture-decode", "libexec/suture");
    if (!program) {
        su_fail(err, SU_ENOTFOUND,
                "the program suture-decode, in which compressed pixels are decoded, is neither beside this "
                "program nor in ../libexec/suture: install it there, or name it in SUTURE_DECODE");
        return NULL;
    }
    worker *w = su_calloc(1, sizeof *w);
    if (!w || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair)) {
        su_fail(err, w ? SU_EIO : SU_ENOMEM, "no worker for decoding can be started: %s",
                strerror(w ? errno : ENOMEM));
    } else {
        /* A socket that has the worker's number already would keep its close-on-exec flag. */
        int theirs =
            pair[1] == SU_WORKER_SOCKET ? fcntl(pair[1], F_DUPFD_CLOEXEC, SU_WORKER_SOCKET + 1) : pair[1];
        const int code = theirs < 0 ? errno : spawn(program, theirs, &w->pid);
        if (theirs != pair[1] && theirs >= 0) close(theirs);
        close(pair[1]);
        if (!code) {
            w->socket = pair[0];
            w->memory = -1;
            su_free(program);
            return w;
        }
        close(pair[0]);
        su_fail(err, SU_EIO, "%s, in which compressed pixels are decoded, cannot be started: %s", program,
                strerror(code));
    }
    su_free(program);
    su_free(w);
    return NULL;
}

/* Ends it whatever it does, and returns how it ended (waitpid's status). One that has hung up gets a second
 * to end by itself, so that the reason is its own. */
static int finish(worker *w, bool hung_up)
{
    int status = 0;
    siginfo_t ended = {0};
    for (int i = 0; hung_up && i < 1000 && !ended.si_pid; i++) {
        if (waitid(P_PID, (id_t)w->pid, &ended, WEXITED | WNOWAIT | WNOHANG)) break;
        if (!ended.si_pid) usleep(1000);
    }
    close(w->socket);
    if (!ended.si_pid) kill(w->pid, SIGKILL);
    while (waitpid(w->pid, &status, 0) < 0 && errno == EINTR) {
    }
    if (w->shared) munmap(w->shared, w->mapped);
    if (w->memory >= 0) close(w->memory);
    su_free(w);
    return status;
}

static worker *take(su_error *err)
{
    pthread_mutex_lock(&lock);
    worker *w = idle;
    if (w) idle = w->next;
    pthread_mutex_unlock(&lock);
    if (!w) return start(err);
    struct pollfd p = {w->socket, POLLIN, 0};
    if (poll(&p, 1, 0) == 0) return w;
    finish(w, true); /* it has nothing to say yet: somebody ended it */
    return take(err);
}

static void give(worker *w)
{
    pthread_mutex_lock(&lock);
    w->next = idle;
    idle = w;
    pthread_mutex_unlock(&lock);
}

void su_workers_close(void)
{
    pthread_mutex_lock(&lock);
    worker *w = idle;
    idle = NULL;
    pthread_mutex_unlock(&lock);
    while (w) {
        worker *next = w->next;
        finish(w, false);
        w = next;
    }
}

/* --- jobs --------------------------------------------------------------------------------------------- */

static double processor_seconds(pid_t pid)
{
    clockid_t clock;
    struct timespec t = {0};
    if (clock_getcpuclockid(pid, &clock) || clock_gettime(clock, &t)) return 0;
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void limit(const worker *w, int64_t seconds, uint64_t memory)
{
    const rlim_t until = (rlim_t)(processor_seconds(w->pid) + 1.0) + (rlim_t)seconds;
    prlimit(w->pid, RLIMIT_CPU, &(struct rlimit){until, RLIM_INFINITY}, NULL);
#ifndef __SANITIZE_ADDRESS__ /* which maps terabytes */
    prlimit(w->pid, RLIMIT_AS, &(struct rlimit){memory, RLIM_INFINITY}, NULL);
#else
    (void)memory;
#endif
}

static bool send_request(const worker *w, const su_worker_request *request, int fd)
{
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control = {{0}};
    struct iovec part = {(void *)(uintptr_t)request, sizeof *request};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (fd >= 0) {
        message.msg_control = &control;
        message.msg_controllen = sizeof control;
        struct cmsghdr *c = CMSG_FIRSTHDR(&message);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof fd);
        memcpy(CMSG_DATA(c), &fd, sizeof fd);
    }
    ssize_t n;
    do n = sendmsg(w->socket, &message, MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    return n == (ssize_t)sizeof *request;
}

/* false: the worker ended, answers nonsense, or (late) the time by the clock is over. */
static bool receive_reply(const worker *w, su_worker_reply *reply, int64_t seconds, bool *late)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    const int64_t end = now.tv_sec + seconds;
    struct pollfd p = {w->socket, POLLIN, 0};
    for (;;) {
        const int ready = poll(&p, 1, 1000);
        if (ready > 0) break;
        if (ready < 0 && errno != EINTR) return false;
        clock_gettime(CLOCK_MONOTONIC, &now);
        if (now.tv_sec > end) {
            *late = true;
            return false;
        }
    }
    ssize_t n;
    do n = recv(w->socket, reply, sizeof *reply, 0);
    while (n < 0 && errno == EINTR);
    reply->message[sizeof reply->message - 1] = '\0';
    for (char *c = reply->message; *c; c++) /* it has read anybody's bytes */
        if (*c < ' ' || *c > '~') *c = '?';
    return n == (ssize_t)sizeof *reply;
}

static su_status explain_end(int status, bool late, int64_t seconds, const char *name, su_error *err)
{
    const int signal_number = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    if (late || signal_number == SIGXCPU)
        return su_fail(err, SU_ELIMIT,
                       "%s: given up after %lld s of processor time: damaged, or made to be endless", name,
                       (long long)seconds);
    if (signal_number && signal_number != SIGKILL)
        return su_fail(err, SU_EFORMAT, "%s: its decoder crashed (%s): damaged, or made to be harmful", name,
                       strsignal(signal_number));
    return su_fail(err, SU_EFORMAT, "%s: its decoder ended without an answer", name);
}

/* One order to a worker that has not died since its last one. fd is sent along unless it is negative. */
static su_status order(worker **w, const su_worker_request *request, int fd, int64_t seconds, uint64_t memory,
                       su_worker_reply *reply, const char *name, su_error *err)
{
    bool late = false;
    limit(*w, seconds, memory);
    if (send_request(*w, request, fd) && receive_reply(*w, reply, 4 * seconds + 60, &late)) return SU_OK;
    struct pollfd p = {(*w)->socket, POLLIN, 0};
    const bool hung_up = poll(&p, 1, 0) > 0;
    const int status = finish(*w, hung_up);
    *w = NULL;
    return explain_end(status, late, seconds, name, err);
}

static su_status take_reply(const su_worker_reply *reply, const char *name, su_error *err)
{
    if (!reply->status) return SU_OK;
    if (reply->status == SU_ENOMEM)
        return su_fail(err, SU_ELIMIT, "%s: needs more memory to decode than a picture of its size may: %s",
                       name, reply->message);
    return su_fail(err, reply->status == SU_EUNSUPPORTED ? SU_EUNSUPPORTED : SU_EFORMAT, "%s: %s", name,
                   reply->message);
}

/* Shared memory of at least `bytes`. Sealed: whoever shrinks a mapped file ends those who read it. */
static su_status share(worker *w, uint64_t bytes, const char *name, su_error *err)
{
    if (w->mapped >= bytes) return SU_OK;
    if (w->shared) munmap(w->shared, w->mapped);
    if (w->memory >= 0) close(w->memory);
    w->shared = NULL;
    w->mapped = 0;
    w->memory = memfd_create("suture-decode", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    const uint64_t room = (bytes + (1u << 20)) & ~(uint64_t)0xfffff;
    if (w->memory < 0 || ftruncate(w->memory, (off_t)room) ||
        fcntl(w->memory, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL))
        return su_fail(err, SU_ENOMEM, "%s: no memory to decode it: %s", name, strerror(errno));
    void *p = mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_SHARED, w->memory, 0);
    if (p == MAP_FAILED) return su_fail(err, SU_ENOMEM, "%s: no memory to decode it", name);
    w->shared = p;
    w->mapped = room;
    return SU_OK;
}

/* `data` [length] to a worker with a request, and `out` [bytes] back. memory: beyond what is mapped. */
static su_status exchange(su_worker_request *request, const uint8_t *data, uint64_t length, void *out,
                          uint64_t bytes, int64_t seconds, uint64_t memory, const char *name, su_error *err)
{
    worker *w = take(err);
    if (!w) return err ? err->code : SU_EIO;
    su_worker_reply reply = {0};
    const uint64_t before = w->mapped;
    request->out = (length + PAGE - 1) & ~(uint64_t)(PAGE - 1);
    su_status st = share(w, request->out + bytes, name, err);
    if (!st) {
        request->shared = w->mapped;
        memcpy(w->shared, data, length);
        st = order(&w, request, w->mapped != before ? w->memory : -1, seconds,
                   JOB_MEMORY + 2 * w->mapped + memory, &reply, name, err);
    }
    if (!st) st = take_reply(&reply, name, err);
    if (!st && bytes) memcpy(out, w->shared + request->out, bytes);
    if (w && w->mapped && w->mapped <= KEPT_BYTES)
        give(w);
    else if (w)
        finish(w, false);
    return st;
}

su_status su_worker_decode(const su_codec_job *job, const uint8_t *data, void *out, const char *name,
                           su_error *err)
{
    const uint64_t values = (uint64_t)job->rows * (uint64_t)job->columns * (uint64_t)job->samples;
    su_worker_request request = {.order = SU_WORKER_DECODE, .job = *job};
    return exchange(&request, data, job->length, out, job->frame_bytes,
                    JOB_SECONDS + (int64_t)(values / VALUES_A_SECOND + job->length / CODE_BYTES_A_SECOND),
                    BYTES_A_VALUE * values + BYTES_A_CODE_BYTE * job->length, name, err);
}

su_status su_worker_vet(const uint8_t *data, uint64_t length, bool implicit, bool big, const char *name,
                        su_error *err)
{
    su_worker_request request = {.order = SU_WORKER_VET, .length = length, .implicit = implicit, .big = big};
    return exchange(&request, data, length, NULL, 0, JOB_SECONDS + (int64_t)(length / VET_BYTES_A_SECOND),
                    VET_BYTES_A_BYTE * length, name, err);
}

const char *su_worker_limits(su_error *err)
{
    static char missing[sizeof((su_worker_reply *)0)->message];
    worker *w = take(err);
    if (!w) return NULL;
    const su_worker_request request = {.order = SU_WORKER_LIMITS};
    su_worker_reply reply = {0};
    const su_status st = order(&w, &request, -1, JOB_SECONDS, JOB_MEMORY, &reply, "suture-decode", err);
    if (w) give(w);
    if (st) return NULL;
    snprintf(missing, sizeof missing, "%s", reply.message);
    return missing;
}
