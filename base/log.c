#include "base/log.h"
#include "base/memory.h"
#include <math.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

/* --- messages ----------------------------------------------------------------------------------------- */

static su_log_sink *log_sink;
static void *log_context;

void su_log_set_sink(su_log_sink *sink, void *context)
{
    log_sink = sink;
    log_context = context;
}

void su_log(su_log_level level, const char *format, ...)
{
    if (!log_sink) return;
    char message[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    log_sink(log_context, level, message);
}

/* --- progress ----------------------------------------------------------------------------------------- */

/* The rate comes from a ring of one mark a second: what was done since the oldest mark, over the time since. */

enum { MARKS = 31 };

struct su_progress {
    char *what, *unit;
    int64_t done, total;
    double start, last_sent;
    struct {
        double time;
        int64_t done;
    } marks[MARKS];
    int first, count;
};

static su_progress_sink *progress_sink;
static void *progress_context;

void su_progress_set_sink(su_progress_sink *sink, void *context)
{
    progress_sink = sink;
    progress_context = context;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void mark(su_progress *p, double time)
{
    if (p->count > 0 && time - p->marks[(p->first + p->count - 1) % MARKS].time < 1.0) return;
    if (p->count == MARKS)
        p->first = (p->first + 1) % MARKS;
    else
        p->count++;
    int last = (p->first + p->count - 1) % MARKS;
    p->marks[last].time = time;
    p->marks[last].done = p->done;
}

su_progress *su_progress_new(const char *what, const char *unit, int64_t total)
{
    su_progress *p = su_calloc(1, sizeof *p);
    if (!p) return NULL;
    p->what = su_strdup(what);
    p->unit = su_strdup(unit);
    if (!p->what || !p->unit) {
        su_free(p->what);
        su_free(p->unit);
        su_free(p);
        return NULL;
    }
    p->total = total;
    p->start = now();
    p->last_sent = -INFINITY;
    mark(p, p->start);
    return p;
}

static void send(su_progress *p, double time, const char *note, bool finished)
{
    if (!progress_sink) return;
    double since = finished ? p->start : p->marks[p->first].time;
    int64_t done_then = finished ? 0 : p->marks[p->first].done;
    double rate = 0.0;
    if (time > since && p->done > done_then) rate = (double)(p->done - done_then) / (time - since);
    su_progress_report report = {
        .what = p->what,
        .unit = p->unit,
        .done = p->done,
        .total = p->total,
        .rate = rate,
        .seconds_left = p->total > 0 && rate > 0.0 ? fmax(0.0, (double)(p->total - p->done) / rate) : -1.0,
        .elapsed = time - p->start,
        .note = note,
        .finished = finished,
    };
    p->last_sent = time;
    progress_sink(progress_context, &report);
}

void su_progress_step(su_progress *p, int64_t done, const char *note)
{
    if (!p) return;
    p->done = done;
    double time = now();
    if (time - p->last_sent >= 0.1 || done == p->total) send(p, time, note, false);
    mark(p, time);
}

void su_progress_free(su_progress *p)
{
    if (!p) return;
    send(p, now(), NULL, true);
    su_free(p->what);
    su_free(p->unit);
    su_free(p);
}

/* --- standard sinks ----------------------------------------------------------------------------------- */

static struct {
    pthread_mutex_t lock;
    bool quiet, terminal, drawn; /* drawn: a bar is on the screen's last line */
    double last_line;            /* when the last plain progress line was written */
} screen = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void wipe(void)
{
    if (screen.drawn) fputs("\r\033[K", stderr);
    screen.drawn = false;
}

static void message_to_stderr(void *context, su_log_level level, const char *message)
{
    (void)context;
    if (level == SU_LOG_DEBUG || (screen.quiet && level < SU_LOG_WARN)) return;
    pthread_mutex_lock(&screen.lock);
    wipe();
    fprintf(stderr, "suture: %s%s\n", level == SU_LOG_WARN ? "warning: " : "", message);
    pthread_mutex_unlock(&screen.lock);
}

/* "0:07", "12:34", "3:07:12" */
static const char *clock_text(double seconds, char text[32])
{
    long long s = seconds < 0.0 ? 0 : seconds > 1e12 ? (long long)1e12 : llround(seconds);
    if (s < 3600)
        snprintf(text, 32, "%lld:%02lld", s / 60, s % 60);
    else
        snprintf(text, 32, "%lld:%02lld:%02lld", s / 3600, s / 60 % 60, s % 60);
    return text;
}

static const char *rate_text(double rate, char text[32])
{
    if (rate <= 0.0)
        text[0] = '\0';
    else if (rate >= 0.1)
        snprintf(text, 32, ", %.*f/s", rate < 10.0 ? 2 : rate < 100.0 ? 1 : 0, rate);
    else
        snprintf(text, 32, ", %.1f/min", rate * 60.0);
    return text;
}

/* "1200 of 5000 images, 24 %, 312/s, 0:12 left, loss 2.31" */
static void describe(const su_progress_report *r, char *text, size_t size)
{
    char count[96] = "", rate[32], left[32], remaining[48] = "";
    if (r->finished) {
        snprintf(text, size, "%lld %s in %s%s", (long long)r->done, r->unit, clock_text(r->elapsed, left),
                 rate_text(r->rate, rate));
        return;
    }
    if (r->total > 0) snprintf(count, sizeof count, " of %lld", (long long)r->total);
    if (r->seconds_left >= 0.0)
        snprintf(remaining, sizeof remaining, ", %s left", clock_text(r->seconds_left, left));
    char percent[32] = "";
    if (r->total > 0)
        snprintf(percent, sizeof percent, ", %.0f %%", floor(100.0 * (double)r->done / (double)r->total));
    snprintf(text, size, "%lld%s %s%s%s%s%s%s", (long long)r->done, count, r->unit, percent,
             rate_text(r->rate, rate), remaining, r->note && r->note[0] ? ", " : "", r->note ? r->note : "");
}

/* Cuts a UTF-8 text after so many characters. */
static void cut(char *text, int columns)
{
    for (; *text; text++) {
        if (((unsigned char)*text & 0xC0) == 0x80) continue;
        if (columns-- == 0) {
            *text = '\0';
            return;
        }
    }
}

static void draw_bar(const su_progress_report *r, const char *text)
{
    struct winsize size;
    int columns = ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
    char line[1024], bar[64] = "";
    enum { CELLS = 20 };
    if (r->total > 0 && columns >= 60) {
        double share = fmin(1.0, fmax(0.0, (double)r->done / (double)r->total));
        int full = (int)(share * CELLS);
        snprintf(bar, sizeof bar, " [%.*s%.*s]", full, "####################", CELLS - full,
                 "--------------------");
    }
    snprintf(line, sizeof line, "%s%s %s", r->what, bar, text);
    cut(line, columns - 1); /* the last column would wrap on some terminals */
    fprintf(stderr, "\r%s\033[K", line);
    fflush(stderr);
    screen.drawn = true;
}

static void progress_to_stderr(void *context, const su_progress_report *r)
{
    (void)context;
    if (screen.quiet) return;
    char text[768];
    describe(r, text, sizeof text);
    pthread_mutex_lock(&screen.lock);
    double time = now();
    if (r->finished) {
        wipe();
        fprintf(stderr, "%s: %s\n", r->what, text);
    } else if (screen.terminal) {
        draw_bar(r, text);
    } else if (r->elapsed >= 10.0 && time - screen.last_line >= 10.0) {
        screen.last_line = time;
        fprintf(stderr, "%s: %s\n", r->what, text);
    }
    pthread_mutex_unlock(&screen.lock);
}

void su_log_to_stderr(bool quiet)
{
    const char *term = getenv("TERM");
    screen.quiet = quiet;
    screen.terminal = isatty(STDERR_FILENO) && (!term || strcmp(term, "dumb") != 0);
    screen.last_line = -INFINITY;
    su_log_set_sink(message_to_stderr, NULL);
    su_progress_set_sink(progress_to_stderr, NULL);
}
