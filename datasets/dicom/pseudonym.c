#include "datasets/dicom/pseudonym.h"
#include "base/checksum.h"
#include "base/file.h"
#include "base/memory.h"
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

enum { KEY_HEX = 64, SHORTEST = 3, VALUE_MAX = 1 << 20 };

/* ---- the key ---- */

static bool parse_key(const char *text, size_t length, uint8_t key[32])
{
    while (length && isspace((unsigned char)text[length - 1])) length--;
    if (length != KEY_HEX || strspn(text, "0123456789abcdefABCDEF") < KEY_HEX) return false;
    for (int i = 0; i < 32; i++) {
        unsigned byte = 0;
        if (sscanf(text + (size_t)2 * i, "%2x", &byte) != 1) return false;
        key[i] = (uint8_t)byte;
    }
    return true;
}

/* O_EXCL: of two imports that begin at once, one makes the key and both use it. */
static su_status make_key(const char *path, bool *made, su_error *err)
{
    uint8_t key[32];
    char text[KEY_HEX + 2];
    const int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0 && errno == EEXIST) return SU_OK;
    if (fd < 0) return su_fail(err, SU_EIO, "%s: the key cannot be made: %s", path, strerror(errno));
    bool good = getrandom(key, sizeof key, 0) == (ssize_t)sizeof key;
    for (int i = 0; good && i < 32; i++) snprintf(text + (size_t)2 * i, 3, "%02x", key[i]);
    text[KEY_HEX] = '\n';
    good = good && write(fd, text, KEY_HEX + 1) == KEY_HEX + 1 && fsync(fd) == 0;
    if (close(fd) != 0 || !good) {
        (void)unlink(path);
        return su_fail(err, SU_EIO, "%s: the key cannot be written: %s", path, strerror(errno));
    }
    *made = true;
    return SU_OK;
}

su_status su_pseudonyms_open(const char *path, su_pseudonyms *p, bool *made, su_error *err)
{
    char *text = NULL, hex[SU_SHA256_HEX];
    size_t length = 0;
    *made = false;
    su_status st = su_file_exists(path) ? SU_OK : make_key(path, made, err);
    if (!st) st = su_file_read(path, 4096, &text, &length, err);
    if (!st && !parse_key(text, length, p->key))
        st = su_fail(err, SU_EFORMAT, "%s: a key is 64 hex digits, and this is something else", path);
    if (!st) {
        su_hmac_sha256_hex(p->key, sizeof p->key, "key", 3, hex);
        snprintf(p->id, sizeof p->id, "%.8s", hex);
    }
    su_free(text);
    return st;
}

void su_pseudonym(const su_pseudonyms *p, const char *kind, const char *value, char name[SU_PSEUDONYM_MAX])
{
    char message[512], hex[SU_SHA256_HEX];
    name[0] = '\0';
    if (!value[0]) return;
    const int length = snprintf(message, sizeof message, "%s%c%s", kind, 0, value);
    su_hmac_sha256_hex(p->key, sizeof p->key, message,
                       length < (int)sizeof message ? (size_t)length : sizeof message - 1, hex);
    snprintf(name, SU_PSEUDONYM_MAX, "%.16s", hex);
}

/* ---- what a header says of people ---- */

char *su_identifiers_of(su_dicom_item *ds)
{
    static const uint32_t tags[] = {
        SU_TAG(0x10, 0x10),   SU_TAG(0x10, 0x20),   SU_TAG(0x10, 0x30),
        SU_TAG(0x10, 0x1000), /* patient */
        SU_TAG(0x10, 0x1001), SU_TAG(0x10, 0x1005), SU_TAG(0x10, 0x1040),
        SU_TAG(0x10, 0x1060), SU_TAG(0x10, 0x2154), SU_TAG(0x08, 0x50),
        SU_TAG(0x08, 0x90),   SU_TAG(0x08, 0x1048), /* physicians */
        SU_TAG(0x08, 0x1050), SU_TAG(0x08, 0x1060), SU_TAG(0x08, 0x1070),
        SU_TAG(0x08, 0x80), /* operators, place */
        SU_TAG(0x08, 0x81),   SU_TAG(0x32, 0x1032), SU_TAG(0x20, 0x10),
    };
    su_buffer all;
    su_buffer_init(&all, VALUE_MAX);
    su_status st = SU_OK;
    for (size_t i = 0; !st && i < sizeof tags / sizeof *tags; i++) {
        char value[256];
        if (su_dicom_text(ds, tags[i], value, sizeof value)[0])
            st = su_buffer_printf(&all, NULL, "%s\n", value);
    }
    char *out = st ? NULL : su_strdup(all.data ? all.data : "");
    su_buffer_free(&all);
    return out;
}

static bool is_word(char c)
{
    return isalnum((unsigned char)c) || (unsigned char)c >= 0x80;
}

/* Writes '\1' over every whole-word occurrence of word in text. */
static void blot(char *text, const char *word, size_t length)
{
    if (length < SHORTEST) return;
    for (char *at = text; *at; at++) {
        if (strncasecmp(at, word, length) != 0) continue;
        if ((at > text && is_word(at[-1])) || is_word(at[length])) continue;
        memset(at, '\1', length);
        at += length - 1;
    }
}

/* 19700131 in the forms in which people write it. */
static void blot_date(char *text, const char *d)
{
    static const char *const forms[] = {"%1$.4s-%2$.2s-%3$.2s", "%3$.2s.%2$.2s.%1$.4s",
                                        "%2$.2s/%3$.2s/%1$.4s", "%3$.2s/%2$.2s/%1$.4s",
                                        "%3$.2s-%2$.2s-%1$.4s"};
    char form[16];
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        snprintf(form, sizeof form, forms[i], d, d + 4, d + 6);
        blot(text, form, strlen(form));
    }
}

su_status su_identifiers_remove(const char *text, const char *identifiers, char **out, su_error *err)
{
    static const char separators[] = "^=\\ ,;\t\n";
    char *work = su_strdup(text);
    *out = NULL;
    if (!work) return su_fail(err, SU_ENOMEM, "no memory for a report");
    for (const char *line = identifiers; *line;) {
        const size_t length = strcspn(line, "\n");
        blot(work, line, length);
        for (const char *part = line; part < line + length;) {
            const size_t n = strcspn(part, separators);
            blot(work, part, n);
            if (n == 8 && strspn(part, "0123456789") >= 8) blot_date(work, part);
            part += n + 1;
        }
        line += length + (line[length] == '\n');
    }
    /* A run of blots is one gap; the result may be longer than what it stands for. */
    char *made = su_alloc(strlen(work) * 3 + 1, 1);
    if (!made) {
        su_free(work);
        return su_fail(err, SU_ENOMEM, "no memory for a report");
    }
    size_t n = 0;
    for (const char *c = work; *c; c++) {
        if (*c != '\1') {
            made[n++] = *c;
        } else if (c == work || c[-1] != '\1') {
            memcpy(made + n, "___", 3);
            n += 3;
        }
    }
    made[n] = '\0';
    su_free(work);
    *out = made;
    return SU_OK;
}
