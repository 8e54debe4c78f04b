/* suture text tokenize: the WordPiece tokens of the lines on standard input, one line out for every line in.
 * What has been read is answered before more is read, so the command also works as a coprocess behind two
 * pipes. */
#include "base/file.h"
#include "base/memory.h"
#include "cli/commands.h"
#include "cli/options.h"
#include "text/wordpiece.h"
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CHUNK = 1 << 16, LINE_MAX_BYTES = 16 << 20, OUT_MAX = 1 << 30 };

typedef struct {
    su_wordpiece *wp;
    const char *json; /* NULL: tokens and spaces; "-" or a path: JSON Lines */
    su_writer *file;  /* of the path */
    su_buffer line;   /* what was read of a line that has not ended */
    su_buffer out;
    int32_t *ids;
    int64_t capacity;
    bool closed; /* the reader of our output has gone: nothing more to do, and nothing wrong */
} tokenize;

static su_status flush(tokenize *t, su_error *err)
{
    if (t->file) {
        su_status s = su_writer_add(t->file, t->out.data, t->out.length, err);
        if (s) return s;
    } else {
        for (size_t at = 0; at < t->out.length && !t->closed;) {
            ssize_t n = write(STDOUT_FILENO, t->out.data + at, t->out.length - at);
            if (n < 0 && errno == EPIPE) t->closed = true;
            if (n < 0 && errno != EPIPE && errno != EINTR)
                return su_fail(err, SU_EIO, "standard output: %s", strerror(errno));
            if (n > 0) at += (size_t)n;
        }
    }
    su_buffer_clear(&t->out);
    return SU_OK;
}

static su_status put_id(su_buffer *out, bool first, int32_t id, su_error *err)
{
    char digits[12], *p = digits + sizeof digits;
    do {
        *--p = (char)('0' + id % 10);
    } while ((id /= 10) > 0);
    if (!first) *--p = ',';
    return su_buffer_add(out, p, (size_t)(digits + sizeof digits - p), err);
}

static su_status put_json_string(su_buffer *out, const char *s, su_error *err)
{
    su_status st = su_buffer_add(out, "\"", 1, err);
    while (!st && *s) {
        size_t plain = 0;
        while ((unsigned char)s[plain] >= ' ' && s[plain] != '"' && s[plain] != '\\') plain++;
        st = su_buffer_add(out, s, plain, err);
        s += plain;
        if (st || !*s) break;
        if ((unsigned char)*s < ' ')
            st = su_buffer_printf(out, err, "\\u%04x", (unsigned)*s++);
        else
            st = su_buffer_add(out, (const char[]){'\\', *s++}, 2, err);
    }
    return st ? st : su_buffer_add(out, "\"", 1, err);
}

static su_status put_json(tokenize *t, int64_t count, su_error *err)
{
    su_status s = su_buffer_add(&t->out, "{\"ids\":[", 8, err);
    for (int64_t i = 0; i < count && !s; i++) s = put_id(&t->out, i == 0, t->ids[i], err);
    if (!s) s = su_buffer_add(&t->out, "],\"tokens\":[", 12, err);
    for (int64_t i = 0; i < count && !s; i++) {
        if (i) s = su_buffer_add(&t->out, ",", 1, err);
        if (!s) s = put_json_string(&t->out, su_wordpiece_token(t->wp, t->ids[i]), err);
    }
    return s ? s : su_buffer_add(&t->out, "]}\n", 3, err);
}

static su_status put_plain(tokenize *t, int64_t count, su_error *err)
{
    su_status s = SU_OK;
    for (int64_t i = 0; i < count && !s; i++) {
        const char *token = su_wordpiece_token(t->wp, t->ids[i]);
        if (i) s = su_buffer_add(&t->out, " ", 1, err);
        if (!s) s = su_buffer_add(&t->out, token, strlen(token), err);
    }
    return s ? s : su_buffer_add(&t->out, "\n", 1, err);
}

static su_status tokenize_line(tokenize *t, const char *text, size_t length, su_error *err)
{
    int64_t count;
    su_status s = su_wordpiece_encode(t->wp, text, length, t->ids, t->capacity, &count, err);
    if (s) return s;
    if (count > t->capacity) {
        int32_t *ids = su_realloc(t->ids, (size_t)count * 2, sizeof *ids);
        if (!ids) return su_fail(err, SU_ENOMEM, "no memory for a line of %lld tokens", (long long)count);
        t->ids = ids;
        t->capacity = count * 2;
        s = su_wordpiece_encode(t->wp, text, length, t->ids, t->capacity, &count, err);
        if (s) return s;
    }
    s = t->json ? put_json(t, count, err) : put_plain(t, count, err);
    if (!s && t->out.length >= CHUNK) s = flush(t, err);
    return s;
}

/* The lines that end in data; the rest waits in t->line. */
static su_status take(tokenize *t, const char *data, size_t length, su_error *err)
{
    const char *end = data + length, *newline;
    while (!t->closed && (newline = memchr(data, '\n', (size_t)(end - data)))) {
        size_t n = (size_t)(newline - data);
        su_status s = SU_OK;
        if (t->line.length) {
            s = su_buffer_add(&t->line, data, n, err);
            if (!s) s = tokenize_line(t, t->line.data, t->line.length, err);
            su_buffer_clear(&t->line);
        } else {
            s = tokenize_line(t, data, n, err);
        }
        if (s) return s;
        data = newline + 1;
    }
    return su_buffer_add(&t->line, data, (size_t)(end - data), err);
}

static su_status tokenize_all(tokenize *t, su_error *err)
{
    char chunk[CHUNK];
    while (!t->closed) {
        ssize_t n = read(STDIN_FILENO, chunk, sizeof chunk);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return su_fail(err, SU_EIO, "standard input: %s", strerror(errno));
        if (n == 0) break;
        su_status s = take(t, chunk, (size_t)n, err);
        if (!s) s = flush(t, err);
        if (s == SU_ELIMIT)
            return su_fail(err, s, "standard input: a line is longer than %d MB: is it text, one a line?",
                           LINE_MAX_BYTES >> 20);
        if (s) return s;
    }
    if (!t->line.length) return SU_OK;
    su_status s = tokenize_line(t, t->line.data, t->line.length, err); /* the last one, without a newline */
    return s ? s : flush(t, err);
}

static su_status run(tokenize *t, const char *vocab, su_error *err)
{
    t->json = su_option_json();
    su_buffer_init(&t->line, LINE_MAX_BYTES);
    su_buffer_init(&t->out, OUT_MAX);
    su_status s = su_wordpiece_open(vocab, &t->wp, err);
    if (!s && t->json && strcmp(t->json, "-") != 0) s = su_writer_open(t->json, &t->file, err);
    if (!s) s = tokenize_all(t, err);
    if (!s && t->file) {
        s = su_writer_commit(t->file, err);
        t->file = NULL;
    }
    su_writer_abort(t->file);
    su_buffer_free(&t->line);
    su_buffer_free(&t->out);
    su_free(t->ids);
    su_wordpiece_free(t->wp);
    return s;
}

int su_cmd_text_tokenize(int argc, char **argv)
{
    const char *vocab = NULL;
    const su_option options[] = {
        SU_STRING("vocab", &vocab, "VOCAB.txt",
                  "BERT's vocabulary, one token a line; a line's number from 0 is its id"),
        {0},
    };
    const su_command command = {
        .name = "text tokenize",
        .synopsis = "--vocab VOCAB.txt [--json -] < LINES",
        .summary =
            "WordPiece tokens (bert-base-uncased's rules) of the lines on standard input, one line out for\n"
            "every line in, without [CLS] and [SEP]: the tokens with spaces between them, or with --json\n"
            "one {\"ids\":[...],\"tokens\":[...]} a line. \"[SEP]\" and the like in a text are plain text.",
        .examples = "echo 'No pneumothorax.' | suture text tokenize --vocab "
                    "datasets/sample/bert-base-uncased-vocab.txt\n"
                    "suture text tokenize --vocab vocab.txt --json - < reports.txt > reports.jsonl",
        .options = options,
    };
    int rc = su_options_parse(&command, argc, argv, NULL);
    if (rc >= 0) return rc;
    su_error err = {0};
    if (!vocab) {
        su_fail(&err, SU_EINVAL,
                "which vocabulary? Give --vocab VOCAB.txt (BERT's vocab.txt, one token a line)");
        return su_cli_fail(&command, &err);
    }
    signal(SIGPIPE, SIG_IGN); /* a closed pipe is then an EPIPE, which ends the command quietly */
    tokenize t = {0};
    return run(&t, vocab, &err) ? su_cli_fail(&command, &err) : SU_EXIT_OK;
}
