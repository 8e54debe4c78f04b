/* Messages and progress. The library never prints: it reports through one sink that the program sets.
 * Without a sink nothing is reported. Never put report text, patient names or identifiers in a message. */
#ifndef SU_BASE_LOG_H
#define SU_BASE_LOG_H

#include <stdbool.h>
#include <stdint.h>

typedef enum { SU_LOG_DEBUG, SU_LOG_INFO, SU_LOG_WARN } su_log_level;

typedef void su_log_sink(void *context, su_log_level level, const char *message);
void su_log_set_sink(su_log_sink *sink, void *context); /* call before any thread is started */
void su_log(su_log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* A long job's progress: done of total items (total 0: unknown), with a short note ("loss 2.31").
 * su_progress_step may be called from one thread at a time; the sink is called at most ten times a second,
 * and always for the last item. Rate and time left are computed here: over the last ~30 s, not from the
 * start. */
typedef struct {
    const char *what; /* "import", "train epoch 3" */
    const char *unit; /* "images", "pairs" */
    int64_t done, total;
    double rate;         /* items a second, 0 when not known yet; the whole job's when finished */
    double seconds_left; /* -1 when not known */
    double elapsed;      /* seconds */
    const char *note;    /* may be NULL */
    bool finished;
} su_progress_report;

typedef void su_progress_sink(void *context, const su_progress_report *report);
void su_progress_set_sink(su_progress_sink *sink, void *context);

typedef struct su_progress su_progress;
su_progress *su_progress_new(const char *what, const char *unit,
                             int64_t total); /* NULL without memory: accepted below */
void su_progress_step(su_progress *p, int64_t done, const char *note);
void su_progress_free(su_progress *p); /* sends the finished report */

/* The standard sinks of a command-line program: messages as "suture: ..." lines on stderr; progress as one
 * bar that is redrawn when stderr is a terminal, and as a plain line at most every ten seconds when it is
 * not. `quiet` drops progress and everything below warnings. */
void su_log_to_stderr(bool quiet);

#endif
