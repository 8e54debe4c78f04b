/* Rank 1 fails in the middle of a backward pass, when it has begun sums over the ranks, and leaves: see CMakeLists.txt.
 * It waits for those, though rank 0 comes to them later, before it lets go of the gradients. The others wait for sums
 * that it never begins, until it ends them. */
#include "tests/align/models.h"
#include "tests/ranks/ranks.h"
#include <unistd.h>

static const su_objective objective = {
    .name = "clip-ft", .lambda_infonce = 1, .temperature = 0.07, .atp_end = -1, .cu_end = -1};

static char came[64]; /* a file that is there when rank 0 has come */

static su_status fail_behind_the_text(void *context, int stream, int32_t first, int32_t count,
                                      const void **d_tokens, su_error *err)
{
    (void)context;
    (void)first;
    (void)count;
    *d_tokens = NULL;
    if (stream == 1 && ranks_comm->rank == 0) {
        usleep(500000);
        fclose(fopen(came, "w"));
    }
    if (stream == 0 && ranks_comm->rank == 1) return su_fail(err, SU_EIO, "it fails");
    return SU_OK;
}

int main(void)
{
    su_error err = {0};
    su_losses losses;
    double norm = 0.0;
    int starter = getpid();
    su_optimiser o = {.steps = 1};
    if (!ranks_join()) return 1;
    ok(su_comm_broadcast_host(ranks_comm, &starter, sizeof starter, &err), &err);
    snprintf(came, sizeof came, "/tmp/suture-ranks-%d-came", starter);
    su_model_config c = golden_config(2);
    su_model *m = new_model(&c, ranks_first, true, 3);
    su_step *step = new_step(m, 8, 0);
    su_step_batch b = random_batch(&c, 8, 1);
    su_step_extra extra = {fail_behind_the_text, NULL};
    m->params.worth = 1;
    b.extra = &extra;
    b.train = true;
    su_status st = su_step_run(step, &b, &objective, 0.0, &losses, &err);
    if (!st) st = su_optimiser_step(&o, &m->params, 1, &norm, &err);
    su_step_free(step);
    su_model_free(m);
    fprintf(stderr, "rank %d %s\n", ranks_comm->rank,
            !st ? "goes on" : unlink(came) ? "let go too early" : "leaves in the middle");
    su_comm_close(ranks_first, st);
    return 1;
}
