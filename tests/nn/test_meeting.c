/* GPU ranks meet by TCP before NCCL knows them; here they are processes without GPUs. */
#include "tests/nn/check.h"
#include "nn/nccl/meeting.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* A port that nobody listens at. */
static int free_port(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof at;
    int s = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(s, (struct sockaddr *)&at, size), 0);
    assert_int_equal(getsockname(s, (struct sockaddr *)&at, &size), 0);
    close(s);
    return ntohs(at.sin_port);
}

static su_launch launch_of(int rank, int ranks, int port)
{
    return (su_launch){.rank = rank,
                       .ranks = ranks,
                       .local_rank = rank,
                       .local_ranks = ranks,
                       .host = "127.0.0.1",
                       .port = port};
}

/* One that says nothing sensible, and one that says nothing at all and leaves. */
static void disturb(int port)
{
    struct sockaddr_in at = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    for (int i = 0; i < 2;) {
        int s = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(s, (struct sockaddr *)&at, sizeof at) == 0) {
            if (i == 0) send(s, "GET / HTTP/1.1\r\n\r\n", 18, MSG_NOSIGNAL);
            i++;
        }
        close(s);
    }
}

enum { RANKS = 4 };

/* A rank in a process of its own: meets, checks the gift, says so, and waits until the meeting is broken. */
static pid_t child(int rank, int port, int told)
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid) return pid;
    char gift[32] = "";
    su_meeting *m = NULL;
    su_error err = {0};
    su_launch l = launch_of(rank, RANKS, port);
    if (rank == 3) disturb(port);
    if (su_meeting_open(&l, 60, gift, sizeof gift, &m, &err) || strcmp(gift, "an identifier") != 0) _exit(1);
    if (write(told, "", 1) != 1) _exit(2);
    while (!su_meeting_broken(m)) nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    su_meeting_close(m);
    _exit(0);
}

static void ranks_meet_and_notice_who_leaves(void **state)
{
    (void)state;
    int port = free_port(), told[2], status = 0;
    pid_t pids[RANKS];
    char gift[32] = "an identifier", byte;
    su_meeting *m = NULL;
    su_error err = {0};
    su_launch l = launch_of(0, RANKS, port);
    assert_int_equal(pipe(told), 0);
    for (int r = 1; r < RANKS; r++) pids[r] = child(r, port, told[1]);
    su_status st = su_meeting_open(&l, 60, gift, sizeof gift, &m, &err);
    if (st) fail_msg("%s", err.message);
    for (int r = 1; r < RANKS; r++) assert_int_equal(read(told[0], &byte, 1), 1);
    assert_false(su_meeting_broken(m));
    kill(pids[2], SIGKILL);
    assert_int_equal(waitpid(pids[2], &status, 0), pids[2]);
    while (!su_meeting_broken(m)) nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    su_meeting_close(m); /* rank 0 leaves: the others see that */
    for (int r = 1; r < RANKS; r++) {
        if (r == 2) continue;
        assert_int_equal(waitpid(pids[r], &status, 0), pids[r]);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    close(told[0]);
    close(told[1]);
}

static void who_does_not_come_is_named(void **state)
{
    (void)state;
    char gift[8] = "";
    su_meeting *m = NULL;
    su_error err = {0};
    su_launch l = launch_of(0, 3, free_port());
    assert_int_equal(su_meeting_open(&l, 0, gift, sizeof gift, &m, &err), SU_EIO);
    assert_non_null(strstr(err.message, "2 of 3 ranks did not come"));
    l.rank = 1;
    assert_int_equal(su_meeting_open(&l, 0, gift, sizeof gift, &m, &err), SU_EIO);
    assert_non_null(strstr(err.message, "rank 1 does not reach rank 0 at 127.0.0.1"));
    l.host[0] = '\0';
    assert_int_equal(su_meeting_open(&l, 0, gift, sizeof gift, &m, &err), SU_EINVAL);
    assert_non_null(strstr(err.message, "MASTER_ADDR"));
    assert_null(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranks_meet_and_notice_who_leaves),
        cmocka_unit_test(who_does_not_come_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
