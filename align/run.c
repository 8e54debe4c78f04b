#include "align/run.h"
#include "base/checksum.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/memory.h"
#include <errno.h>
#include <math.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static double seconds_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

double su_run_seconds(const su_run *r)
{
    return seconds_now() - r->started;
}

json_t *su_number_or_null(double x)
{
    return isfinite(x) ? json_real(x) : json_null();
}

/* --- configuration -------------------------------------------------------------------------------------- */

static su_comm *comm_of(const su_run *r)
{
    return r->options.params->device->comm;
}

static bool writes(const su_run *r)
{
    return su_comm_rank(comm_of(r)) == 0;
}

/* A folder that already holds a run is continued with the same configuration, or refused. */
static su_status settle_config(su_run *r, su_error *err)
{
    bool exists = su_file_exists(r->config_path) && su_file_exists(r->log_path); /* else it never began */
    json_t *mine = json_copy((json_t *)(uintptr_t)r->options.config), *theirs = NULL;
    su_status st = mine ? SU_OK : su_fail(err, SU_ENOMEM, "no memory for the configuration");
    if (!st) json_object_set_new(mine, "data_sha256", json_string(su_dataset_sha256(r->options.data)));
    if (!st) st = su_json_sha256(mine, r->config_sha256, err);
    if (!st && exists && !r->options.resume)
        st = su_fail(err, SU_EINVAL,
                     "%s already holds a run: add --resume to go on with it, or choose another --out",
                     r->options.folder);
    if (!st && exists) st = su_json_read(r->config_path, 1 << 20, &theirs, err);
    if (!st && exists) {
        const char *key;
        json_t *value;
        json_object_foreach(mine, key, value)
        {
            if (json_equal(value, json_object_get(theirs, key))) continue;
            st = su_fail(
                err, SU_EMISMATCH,
                "%s: \"%s\" differs from what this run was started with: a run goes on only as it began",
                r->config_path, key);
            break;
        }
    } else if (!st) {
        st = su_json_write(r->config_path, mine, err);
    }
    json_decref(mine);
    json_decref(theirs);
    return st;
}

/* --- checkpoint ----------------------------------------------------------------------------------------- */

static const char *best_key(const su_run *r, char key[64])
{
    snprintf(key, 64, "best_%s", r->options.score);
    return key;
}

static su_status save_checkpoint(su_run *r, su_error *err)
{
    char done[32], best[32], epoch[32], key[64];
    snprintf(done, sizeof done, "%lld", (long long)r->done);
    snprintf(best, sizeof best, "%.17g", r->best);
    snprintf(epoch, sizeof epoch, "%lld", (long long)r->best_epoch);
    su_status st = SU_OK;
    if (writes(r) && (fflush(r->log) || fsync(fileno(r->log))))
        st = su_fail(err, SU_EIO, "%s: %s: free space or choose another folder, then --resume", r->log_path,
                     strerror(errno));
    st = su_comm_agree(comm_of(r), st, err);
    if (st) return st;
    return su_params_save(r->options.params, r->checkpoint_path, true,
                          (const char *const[]){"format", "suture.checkpoint/1", "step", done,
                                                best_key(r, key), best, "best_epoch", epoch, "data",
                                                su_dataset_sha256(r->options.data), "config",
                                                r->config_sha256, NULL},
                          err);
}

/* An epoch's end writes no checkpoint before this many times what the last one took has passed: they take a
 * fiftieth of the time at most, however large the model and short the epoch. */
enum { CHECKPOINT_PAUSE = 50 };

static su_status checkpoint(su_run *r, su_error *err)
{
    double from = seconds_now();
    su_status st = save_checkpoint(r, err);
    double took = seconds_now() - from;
    r->saving_seconds += took;
    r->next_save = from + took + CHECKPOINT_PAUSE * took;
    return st;
}

/* Where a checkpoint stands. */
typedef struct {
    int64_t done, best_epoch;
    double best;
} position;

static su_status read_position(const su_run *r, su_safetensors **opened, position *at, su_error *err)
{
    su_status st = su_safetensors_open(r->checkpoint_path, opened, err);
    su_safetensors *file = *opened;
    if (!st) st = su_safetensors_verify(file, err);
    const char *step = NULL, *best = NULL, *epoch = NULL, *data = NULL, *config = NULL;
    char key[64];
    if (!st) {
        step = su_safetensors_metadata(file, "step");
        best = su_safetensors_metadata(file, best_key(r, key));
        epoch = su_safetensors_metadata(file, "best_epoch");
        data = su_safetensors_metadata(file, "data");
        config = su_safetensors_metadata(file, "config");
        if (!step || !best || !epoch || !data)
            st = su_fail(err, SU_EFORMAT, "%s is no checkpoint of a run", r->checkpoint_path);
        else if (strcmp(data, su_dataset_sha256(r->options.data)))
            st = su_fail(err, SU_EMISMATCH,
                         "%s is not the dataset that this run was started on (its manifest differs)",
                         su_dataset_folder(r->options.data));
        else if (config && strcmp(config, r->config_sha256))
            st = su_fail(
                err, SU_EMISMATCH,
                "%s is not what this run was started with (it was changed or damaged since): restore it, or "
                "start a new run",
                r->config_path);
    }
    if (!st)
        *at = (position){.done = strtoll(step, NULL, 10),
                         .best_epoch = strtoll(epoch, NULL, 10),
                         .best = strtod(best, NULL)};
    return st;
}

static su_status load_checkpoint(su_run *r, su_error *err)
{
    su_safetensors *file = NULL;
    position at = {0};
    su_status st = writes(r) ? read_position(r, &file, &at, err) : SU_OK;
    st = su_comm_agree(comm_of(r), st, err);
    if (!st) st = su_params_load(r->options.params, file, true, err);
    if (!st) st = su_comm_broadcast_host(comm_of(r), &at, sizeof at, err);
    if (!st) {
        r->done = at.done;
        r->best = at.best;
        r->best_epoch = at.best_epoch;
        if (r->done < 0 || r->done > r->steps)
            st = su_fail(err, SU_EMISMATCH, "%s is at step %lld of a run of %lld steps", r->checkpoint_path,
                         (long long)r->done, (long long)r->steps);
    }
    su_safetensors_close(file);
    return st;
}

bool su_run_score(su_run *r, int64_t epoch, double score)
{
    bool best = isnan(r->best) || (r->options.lower_is_better ? score < r->best : score > r->best);
    if (!best) return false;
    r->best = score;
    r->best_epoch = epoch;
    return true;
}

/* --- log ------------------------------------------------------------------------------------------------ */

typedef struct {
    int64_t done;
    su_writer *out;
} log_cut;

/* Lines past the checkpoint belong to steps that will be done again. */
static su_status keep_line(void *context, int64_t number, json_t *line, su_error *err)
{
    (void)number;
    log_cut *c = context;
    int64_t step = json_integer_value(json_object_get(line, "step"));
    if (step > c->done) return SU_OK;
    char *text = json_dumps(line, JSON_COMPACT | JSON_PRESERVE_ORDER);
    if (!text) return su_fail(err, SU_ENOMEM, "no memory to copy the log");
    su_status st = su_writer_printf(c->out, err, "%s\n", text);
    free(text);
    return st;
}

/* The last line of a killed run may be torn; everything up to the last newline is whole. */
static su_status cut_torn_line(const char *path, su_error *err)
{
    char *data = NULL;
    size_t length = 0;
    su_status st = su_file_read(path, (size_t)1 << 32, &data, &length, err);
    if (st) return st;
    size_t whole = length;
    while (whole > 0 && data[whole - 1] != '\n') whole--;
    if (whole < length) st = su_file_write(path, data, whole, err);
    su_free(data);
    return st;
}

static su_status open_log(su_run *r, su_error *err)
{
    su_status st = SU_OK;
    if (r->done > 0 && su_file_exists(r->log_path)) {
        log_cut cut = {.done = r->done};
        st = cut_torn_line(r->log_path, err);
        if (!st) st = su_writer_open(r->log_path, &cut.out, err);
        if (!st) st = su_jsonl_read(r->log_path, keep_line, &cut, err);
        if (!st)
            st = su_writer_commit(cut.out, err);
        else
            su_writer_abort(cut.out);
        if (st) return st;
    }
    r->log = fopen(r->log_path, r->done > 0 ? "a" : "w");
    if (!r->log) return su_fail(err, SU_EIO, "cannot write %s: %s", r->log_path, strerror(errno));
    return SU_OK;
}

su_status su_run_log(su_run *r, json_t *line, su_error *err)
{
    if (!line) return su_fail(err, SU_ENOMEM, "no memory for a log line");
    if (!writes(r)) {
        json_decref(line);
        return SU_OK;
    }
    int bad = json_dumpf(line, r->log, JSON_COMPACT | JSON_PRESERVE_ORDER);
    json_decref(line);
    if (bad || fputc('\n', r->log) == EOF)
        return su_fail(err, SU_EIO, "cannot write %s: %s", r->log_path, strerror(errno));
    return SU_OK;
}

/* --- open, train, finish -------------------------------------------------------------------------------- */

su_status su_run_open(const su_run_options *options, su_run *r, su_error *err)
{
    *r = (su_run){.options = *options,
                  .steps = options->batches * options->epochs,
                  .best = (double)NAN,
                  .started = seconds_now(),
                  .lock = -1};
    r->config_path = su_path_join(options->folder, "config.json");
    r->log_path = su_path_join(options->folder, "log.jsonl");
    r->checkpoint_path = su_path_join(options->folder, "checkpoint.safetensors");
    r->run_path = su_path_join(options->folder, "run.json");
    su_status st = r->config_path && r->log_path && r->checkpoint_path && r->run_path
                       ? SU_OK
                       : su_fail(err, SU_ENOMEM, "no memory for a run");
    if (!st && writes(r)) st = su_mkdirs(options->folder, err);
    if (!st && writes(r)) st = su_folder_lock(options->folder, "training", &r->lock, err);
    if (!st && writes(r)) st = settle_config(r, err);
    st = su_comm_agree(comm_of(r), st, err);
    if (!st && options->resume) {
        double checkpoint = writes(r) && su_file_exists(r->checkpoint_path);
        st = su_comm_max(comm_of(r), &checkpoint, 1, err);
        if (!st && checkpoint > 0.0)
            st = load_checkpoint(r, err);
        else if (!st && writes(r) && su_file_exists(r->log_path))
            su_log(SU_LOG_INFO, "the run has no checkpoint yet: it begins with the first step");
    }
    if (!st && writes(r)) st = open_log(r, err);
    return su_comm_agree(comm_of(r), st, err);
}

void su_run_close(su_run *r)
{
    if (r->log) fclose(r->log);
    su_folder_unlock(r->lock);
    su_free(r->config_path);
    su_free(r->log_path);
    su_free(r->checkpoint_path);
    su_free(r->run_path);
    *r = (su_run){.lock = -1};
}

su_status su_run_train(su_run *r, const su_run_work *work, su_error *err)
{
    enum { STOP, DUE, FLAGS };
    const su_run_options *o = &r->options;
    su_status st = SU_OK;
    char what[64], note[96];
    su_progress *progress = NULL;
    while (r->done < r->steps && !st) {
        int64_t epoch = r->done / o->batches, in_epoch = r->done % o->batches;
        if (!progress) {
            snprintf(what, sizeof what, "epoch %lld/%lld", (long long)epoch + 1, (long long)o->epochs);
            progress = su_progress_new(what, o->unit, o->batches * o->batch);
        }
        double loss = 0.0;
        st = work->step(work->context, epoch, in_epoch, &loss, err);
        if (st) break;
        r->done++;
        snprintf(note, sizeof note, "loss %.3f", loss);
        su_progress_step(progress, (in_epoch + 1) * o->batch, note);
        double flags[FLAGS] = {
            [STOP] = o->stop && *o->stop, [DUE] = writes(r) && seconds_now() >= r->next_save};
        st = su_comm_max(comm_of(r), flags, FLAGS, err); /* all ranks save together, by rank 0's clock */
        if (st) break;
        bool stop = flags[STOP] > 0.0, ends = in_epoch + 1 == o->batches;
        bool save = stop || r->done == r->steps || (ends && flags[DUE] > 0.0) ||
                    (o->checkpoint_steps > 0 && r->done % o->checkpoint_steps == 0);
        if (ends) {
            su_progress_free(progress);
            progress = NULL;
            st = work->epoch(work->context, epoch + 1, err);
        }
        if (!st && save) st = checkpoint(r, err);
        if (!st && stop && r->done < r->steps)
            st = su_comm_agree(comm_of(r),
                               su_fail(err, SU_EINTERRUPTED,
                                       "stopped after step %lld of %lld; --resume goes on from here",
                                       (long long)r->done, (long long)r->steps),
                               err);
    }
    su_progress_free(progress);
    return st;
}

su_status su_run_finish(su_run *r, json_t *doc, su_error *err)
{
    char hash[65] = "", key[64];
    if (!writes(r)) {
        json_decref(doc);
        return su_comm_agree(comm_of(r), SU_OK, err);
    }
    if (!doc) return su_comm_agree(comm_of(r), su_fail(err, SU_ENOMEM, "no memory for run.json"), err);
    char *weights = su_path_join(r->options.folder, "model.safetensors");
    su_status st = weights ? su_sha256_file(weights, hash, err) : su_fail(err, SU_ENOMEM, "no memory");
    json_t *own =
        json_pack("{s:s,s:I,s:I,s:I,s:o,s:s,s:s,s:s,s:f,s:f}", "schema", "suture.run/1", "epochs",
                  (json_int_t)r->options.epochs, "steps", (json_int_t)r->steps, "best_epoch",
                  (json_int_t)r->best_epoch, best_key(r, key), su_number_or_null(r->best), "data_sha256",
                  su_dataset_sha256(r->options.data), "model_sha256", hash, "version", SUTURE_VERSION,
                  "seconds", su_run_seconds(r), "checkpoint_seconds", r->saving_seconds);
    if (!st && (!own || json_object_update(doc, own))) st = su_fail(err, SU_ENOMEM, "no memory for run.json");
    if (!st) st = su_json_write_sealed(r->run_path, doc, err);
    json_decref(own);
    json_decref(doc);
    su_free(weights);
    return su_comm_agree(comm_of(r), st, err);
}

su_status su_run_blame(const su_run *r, const su_batch *b, su_error *err)
{
    char ids[512] = "";
    for (int32_t i = 0; i < b->count && strlen(ids) + 80 < sizeof ids; i++)
        snprintf(ids + strlen(ids), sizeof ids - strlen(ids), "%s%.60s", i ? ", " : "",
                 su_dataset_record(r->options.data, b->items[i])->id);
    return su_fail_context(
        err, SU_ENUMERIC,
        "step %lld (epoch %lld, batch %lld: samples %s%s); the last checkpoint is whole: try a "
        "lower --lr, and look at these samples",
        (long long)r->done + 1, (long long)b->epoch + 1, (long long)b->in_epoch + 1, ids,
        b->count > 8 ? ", ..." : "");
}
