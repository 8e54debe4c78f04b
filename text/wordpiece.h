/* WordPiece as bert-base-uncased does it: clean, split CJK, NFD without accents, lower-case, split
 * punctuation, then greedy longest match with "##" continuation.
 *
 * The reference is Hugging Face's BertTokenizerFast (the Rust `tokenizers`) with add_special_tokens=False and
 * split_special_tokens=True: ids are equal on every code point and on any bytes (tests/text). So
 *   - "[SEP]" in a text is "[", "sep", "]", for any spelling: a text never becomes a control token;
 *   - control and format characters, NUL and U+FFFD leave nothing, and do not end a word;
 *   - where the older pure-Python BertTokenizer differs, the Rust side counts: a capital sigma becomes a
 * small one, never a final one; an unassigned code point is a letter of its word, not dropped. */
#ifndef SU_TEXT_WORDPIECE_H
#define SU_TEXT_WORDPIECE_H

#include "base/error.h"
#include <stddef.h>
#include <stdint.h>

typedef struct su_wordpiece su_wordpiece;

enum { SU_WORD_MAX = 100 }; /* characters; a longer word is [UNK] */

/* Reads a vocabulary: one token a line, UTF-8, LF or CRLF, at most 16 MB; the line's number from 0 is the id,
 * and of two equal lines the last counts. [PAD], [UNK], [CLS], [SEP], [MASK] must be there. SU_ENOTFOUND,
 * SU_EIO, SU_EFORMAT, SU_ELIMIT, SU_ENOMEM. */
su_status su_wordpiece_open(const char *vocab_path, su_wordpiece **wp, su_error *err);
/* The same from memory (a model carries its vocabulary); name is used in messages. */
su_status su_wordpiece_parse(const char *text, size_t length, const char *name, su_wordpiece **wp,
                             su_error *err);
void su_wordpiece_free(su_wordpiece *wp);

int32_t su_wordpiece_size(const su_wordpiece *wp);
const char *su_wordpiece_token(const su_wordpiece *wp, int32_t id); /* NULL when out of range */
int32_t su_wordpiece_id(const su_wordpiece *wp, const char *token); /* -1 when not there */
/* Of the vocabulary's tokens joined by '\n': travels with the model. */
const char *su_wordpiece_sha256(const su_wordpiece *wp);
int32_t su_wordpiece_pad(const su_wordpiece *wp), su_wordpiece_unk(const su_wordpiece *wp),
    su_wordpiece_cls(const su_wordpiece *wp), su_wordpiece_sep(const su_wordpiece *wp),
    su_wordpiece_mask(const su_wordpiece *wp);
/* The vocabulary as text, one token a line: what su_wordpiece_parse reads. Belongs to wp. */
const char *su_wordpiece_text(const su_wordpiece *wp, size_t *length);

/* Tokens of text (UTF-8; each invalid byte sequence counts as U+FFFD, as Python's errors="replace"), without
 * [CLS] and [SEP]. Writes at most max ids; *count is the number that there are (never more than length),
 * so *count > max says that the text was truncated. Allocates nothing, cannot fail, thread-safe. */
su_status su_wordpiece_encode(const su_wordpiece *wp, const char *text, size_t length, int32_t *ids,
                              int64_t max, int64_t *count, su_error *err);

/* A model's input row: [CLS] tokens [SEP] [PAD]..., ids[max]; *length counts from [CLS] to [SEP]. A text that
 * is too long loses its tail, never its [SEP]. max >= 3. */
su_status su_wordpiece_row(const su_wordpiece *wp, const char *text, size_t length, int32_t *ids, int32_t max,
                           int32_t *row_length, su_error *err);

/* Text of ids: "##" joined, no space before . , ? and !, special tokens and ids out of range left out. What
 * the reference's decode(ids, skip_special_tokens=True) gives. Freed with su_free; NULL without memory. */
char *su_wordpiece_decode(const su_wordpiece *wp, const int32_t *ids, int64_t count);

#endif
