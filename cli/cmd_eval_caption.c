/* suture eval caption: the field's caption metrics, without Java. */
#include "base/checksum.h"
#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "cli/commands.h"
#include "cli/common.h"
#include "cli/options.h"
#include "cli/report_align.h"
#include "cli/report_caption.h"
#include "eval/meteor.h"
#include <stdlib.h>
#include <string.h>

enum { FLAWS_SHOWN = 10 };
#define WORDNET_FOLDER "/usr/share/wordnet"

static const char *hypotheses_path, *references_path, *other_path, *corpus_path, *items_path, *wordnet_path,
    *paraphrases_path, *tokenizer_name = "ptb";
static int64_t draws = 1000, seed, threads;
static bool no_meteor;

static const su_option options_table[] = {
    SU_STRING("hypotheses", &hypotheses_path, "H",
              "captions to score: JSON Lines {\"id\":\"7\",\"caption\":\"...\"} or COCO results"),
    SU_STRING(
        "references", &references_path, "R",
        "what they should say: JSON Lines {\"id\":\"7\",\"captions\":[\"...\",...]} or\nCOCO annotations"),
    SU_STRING("against", &other_path, "OTHER",
              "captions of another system for the same ids: differences with intervals, and a\npaired test "
              "(approximate randomisation) for each figure"),
    SU_STRING("tokenizer", &tokenizer_name, "ptb|whitespace",
              "ptb: lower case, Penn Treebank tokens, punctuation dropped, as pycocoevalcap\ndoes; "
              "whitespace: the captions are tokenised already"),
    SU_STRING("document-frequency", &corpus_path, "FILE",
              "references from which CIDEr's document frequencies are taken, instead of\nthose being scored: "
              "an item's score then does not depend on the others"),
    SU_STRING("items", &items_path, "FILE", "also every item's scores, one JSON line each"),
    SU_STRING("wordnet", &wordnet_path, "FOLDER|none",
              "WordNet 3.0 for METEOR's synonym stage; " WORDNET_FOLDER
              " when it is there\n(Debian: wordnet-base); none: without that stage"),
    SU_STRING("paraphrases", &paraphrases_path, "FILE",
              "METEOR's table (paraphrase-en.gz, comes with METEOR and with pycocoevalcap):\nadds the "
              "paraphrase stage, which pycocoevalcap always runs"),
    SU_FLAG("no-meteor", &no_meteor, "leave METEOR out"),
    SU_INT("draws", &draws, 0, 100000, "N",
           "bootstrap draws for the intervals, and trials of the paired test; 0: neither"),
    SU_INT("seed", &seed, 0, 9e15, "N", "of both"),
    SU_THREADS_OPTION(&threads),
    {0},
};

static const su_command command = {
    .name = "eval caption",
    .synopsis = "--hypotheses H --references R [options]",
    .summary =
        "BLEU, METEOR, ROUGE-L and CIDEr of captions, equal to pycocoevalcap's figures (METEOR: when all\n"
        "of its stages run; the table says which did). Ids that only one file has and lines that hold no\n"
        "caption are left out, counted and listed.",
    .examples =
        "  suture eval caption --hypotheses captions.jsonl --references reports.jsonl\n"
        "  suture eval caption --hypotheses results.json --references captions_val2014.json --json -\n"
        "  suture eval caption --hypotheses one.jsonl --references one_ref.jsonl \\\n"
        "      --document-frequency train_refs.jsonl\n"
        "  suture eval caption --hypotheses captions.jsonl --references reports.jsonl \\\n"
        "      --paraphrases paraphrase-en.gz\n",
    .options = options_table,
};

typedef struct {
    su_captions hypotheses, references, other, corpus;
    su_caption_match match;
    su_sentences sentences;
    su_caption_counts *counts, *other_counts;
    su_caption_figures *items, whole, other_whole;
    su_caption_interval interval, other_interval;
    su_caption_comparison comparison;
    su_caption_tokenizer tokenizer;
    su_meteor_options stages;
    su_meteor *meteor; /* NULL with --no-meteor */
    su_pool *pool;
} evaluation;

static void warn_of_flaws(const char *path, const su_captions *c)
{
    int64_t left_out = 0, shown = 0;
    for (int64_t i = 0; i < c->flaw_count; i++) left_out += !c->flaws[i].used;
    if (c->flaw_count)
        su_log(SU_LOG_WARN, "%s: %lld left out, %lld remarks; all of them are listed with --json", path,
               (long long)left_out, (long long)(c->flaw_count - left_out));
    for (int64_t i = 0; i < c->flaw_count && shown < FLAWS_SHOWN; i++, shown++) {
        const su_caption_flaw *f = &c->flaws[i];
        if (f->place)
            su_log(SU_LOG_WARN, "%s: %s %lld: %s", path, strcmp(c->form, "COCO") ? "line" : "entry",
                   (long long)f->place, f->reason);
        else
            su_log(SU_LOG_WARN, "%s: id %s: %s", path, f->id, f->reason);
    }
    if (c->flaw_count > shown)
        su_log(SU_LOG_WARN, "%s: and %lld more", path, (long long)(c->flaw_count - shown));
}

/* NULL: no synonym stage. */
static const char *wordnet_folder(void)
{
    if (no_meteor || (wordnet_path && !strcmp(wordnet_path, "none"))) return NULL;
    if (wordnet_path) return wordnet_path;
    if (su_file_exists(WORDNET_FOLDER "/index.noun")) return WORDNET_FOLDER;
    su_log(SU_LOG_WARN, "METEOR runs without synonyms: there is no WordNet in " WORDNET_FOLDER
                        " (Debian: apt-get install wordnet-base; elsewhere: --wordnet FOLDER)");
    return NULL;
}

static su_status check_options(evaluation *e, su_error *err)
{
    if (!hypotheses_path || !references_path)
        return su_fail(err, SU_EINVAL, "%s is missing",
                       hypotheses_path ? "--references R" : "--hypotheses H");
    if (!strcmp(tokenizer_name, "whitespace"))
        e->tokenizer = SU_TOKENIZER_WHITESPACE;
    else if (strcmp(tokenizer_name, "ptb") != 0)
        return su_fail(err, SU_EINVAL, "--tokenizer %s: there is ptb and whitespace", tokenizer_name);
    if (no_meteor && (wordnet_path || paraphrases_path))
        return su_fail(err, SU_EINVAL, "--no-meteor leaves nothing for --%s to do",
                       wordnet_path ? "wordnet" : "paraphrases");
    e->stages = (su_meteor_options){.wordnet = wordnet_folder(), .paraphrases = paraphrases_path};
    return SU_OK;
}

static su_status read_files(evaluation *e, su_error *err)
{
    su_status status = su_captions_read(hypotheses_path, SU_CAPTION_HYPOTHESES, e->pool, &e->hypotheses, err);
    if (!status)
        status = su_captions_read(references_path, SU_CAPTION_REFERENCES, e->pool, &e->references, err);
    if (!status && other_path)
        status = su_captions_read(other_path, SU_CAPTION_HYPOTHESES, e->pool, &e->other, err);
    if (!status && corpus_path)
        status = su_captions_read(corpus_path, SU_CAPTION_REFERENCES, e->pool, &e->corpus, err);
    if (!status && corpus_path && !e->corpus.count)
        status = su_fail(err, SU_EFORMAT, "%s: holds no usable captions", corpus_path);
    if (!status)
        status = su_caption_match_make(&e->hypotheses, &e->references, other_path ? &e->other : NULL,
                                       corpus_path ? &e->corpus : NULL, &e->match, err);
    if (status == SU_EMISMATCH || !status) {
        warn_of_flaws(hypotheses_path, &e->hypotheses);
        warn_of_flaws(references_path, &e->references);
        if (other_path) warn_of_flaws(other_path, &e->other);
        if (corpus_path) warn_of_flaws(corpus_path, &e->corpus);
    }
    return status;
}

static json_t *file_json(const char *path, const su_captions *c, su_error *err)
{
    char hex[SU_SHA256_HEX];
    if (su_sha256_file(path, hex, err)) return NULL;
    json_t *file = json_pack("{s:s, s:s, s:s, s:I}", "file", path, "sha256", hex, "form", c->form, "ids",
                             (json_int_t)c->count);
    if (!file) /* the name is not UTF-8 */
        file = json_pack("{s:n, s:s, s:s, s:I}", "file", "sha256", hex, "form", c->form, "ids",
                         (json_int_t)c->count);
    if (!file) su_fail(err, SU_ENOMEM, "no memory for the receipt");
    return file;
}

/* Adds the file under its role; nothing without a path. False after a failure. */
static bool add_file(json_t *files, const char *role, const char *path, const su_captions *c, su_error *err)
{
    if (!path) return true;
    json_t *file = file_json(path, c, err);
    return file && !json_object_set_new(files, role, file);
}

static json_t *stages_json(const evaluation *e)
{
    if (!e->meteor) return json_null();
    json_t *stages = json_pack("[s,s]", "exact", "stem");
    bool ok = stages && (!e->stages.wordnet || !json_array_append_new(stages, json_string("synonym"))) &&
              (!e->stages.paraphrases || !json_array_append_new(stages, json_string("paraphrase")));
    if (ok) return stages;
    json_decref(stages);
    return NULL;
}

/* Path and SHA-256 of one of a stage's files: folder/name, or path alone when name is NULL. */
static json_t *source_json(const char *path, const char *name, su_error *err)
{
    char hex[SU_SHA256_HEX], *file = name ? su_path_join(path, name) : su_strdup(path);
    su_status status =
        file ? su_sha256_file(file, hex, err) : su_fail(err, SU_ENOMEM, "no memory for the receipt");
    json_t *o = status ? NULL : json_pack("{s:s, s:s}", "path", file, "sha256", hex);
    if (!status && !o) su_fail(err, SU_ENOMEM, "no memory for the receipt");
    su_free(file);
    return o;
}

/* What METEOR ran on; null without it. */
static json_t *meteor_json(const evaluation *e, su_error *err)
{
    if (!e->meteor) return json_null();
    json_t *wordnet = e->stages.wordnet ? source_json(e->stages.wordnet, "index.noun", err) : json_null();
    json_t *paraphrases =
        wordnet && e->stages.paraphrases ? source_json(e->stages.paraphrases, NULL, err) : json_null();
    json_t *stages = stages_json(e);
    if (!wordnet || !paraphrases || !stages) {
        json_decref(wordnet);
        json_decref(paraphrases);
        json_decref(stages);
        return NULL;
    }
    return json_pack("{s:s, s:o, s:o, s:o}", "version", "1.5", "stages", stages, "wordnet", wordnet,
                     "paraphrases", paraphrases);
}

static json_t *receipt_json(const evaluation *e, const char *line, su_error *err)
{
    json_t *files = json_object();
    if (!add_file(files, "hypotheses", hypotheses_path, &e->hypotheses, err) ||
        !add_file(files, "references", references_path, &e->references, err) ||
        !add_file(files, "against", other_path, &e->other, err) ||
        !add_file(files, "document_frequency", corpus_path, &e->corpus, err)) {
        json_decref(files);
        return NULL;
    }
    json_t *meteor = meteor_json(e, err);
    if (!meteor) {
        json_decref(files);
        return NULL;
    }
    json_t *resampling =
        draws ? json_pack("{s:s, s:f, s:I, s:I}", "method",
                          "percentile bootstrap over items; paired test: approximate randomisation, "
                          "two-sided, p = (1 "
                          "+ extreme trials) / (1 + trials), not corrected for several figures",
                          "level", 0.95, "draws", (json_int_t)draws, "seed", (json_int_t)seed)
              : json_null();
    json_t *receipt = json_pack(
        "{s:o, s:s, s:s, s:I, s:o, s:o, s:s, s:s}", "files", files, "tokenizer", tokenizer_name,
        "document_frequency", corpus_path ? "files.document_frequency" : "the references that were scored",
        "documents", (json_int_t)(corpus_path ? e->match.documents : e->match.pairs), "meteor", meteor,
        "interval", resampling, "command", line, "version", SUTURE_VERSION);
    if (!receipt) su_fail(err, SU_ENOMEM, "no memory for the receipt");
    return receipt;
}

static json_t *document_json(const evaluation *e)
{
    json_t *document = su_report_caption_json(&e->whole, e->match.pairs);
    bool ok = document && !json_object_set_new(document, "meteor_stages", stages_json(e)) &&
              (!draws || su_report_caption_intervals(document, &e->interval));
    if (ok && other_path)
        ok = su_report_caption_against(document, &e->other_whole, draws ? &e->other_interval : NULL,
                                       draws ? &e->comparison : NULL);
    ok = ok && su_report_caption_flaws(document, "hypotheses", &e->hypotheses) &&
         su_report_caption_flaws(document, "references", &e->references) &&
         su_report_caption_flaws(document, "against", &e->other) &&
         su_report_caption_flaws(document, "document_frequency", &e->corpus);
    if (ok) return document;
    json_decref(document);
    return NULL;
}

static su_status report(const evaluation *e, int argc, char **argv, su_error *err)
{
    char *line = su_command_line("eval caption", argc, argv);
    json_t *document = document_json(e), *receipt = line && document ? receipt_json(e, line, err) : NULL;
    su_status status = SU_OK;
    if (line && document && !receipt)
        status = err->code;
    else if (!receipt || json_object_set_new(document, "receipt", receipt))
        status = su_fail(err, SU_ENOMEM, "no memory for the report");
    if (!status && items_path) status = su_report_caption_items(items_path, &e->match, e->items, err);
    if (su_cli_report(document, &status, err)) su_report_caption_print(stdout, document);
    json_decref(document);
    su_free(line);
    return status;
}

static su_status resample(evaluation *e, su_error *err)
{
    int64_t n = e->match.pairs;
    int32_t times = (int32_t)draws;
    su_status status = su_caption_bootstrap(e->counts, n, times, (uint64_t)seed, e->pool, &e->interval, err);
    if (!status && other_path)
        status =
            su_caption_bootstrap(e->other_counts, n, times, (uint64_t)seed, e->pool, &e->other_interval, err);
    if (!status && other_path)
        status = su_caption_compare(e->counts, e->other_counts, n, times, (uint64_t)seed, e->pool,
                                    &e->comparison, err);
    return status;
}

static su_status score_system(const evaluation *e, const su_caption_pair *pair, su_caption_counts *counts,
                              su_caption_figures *items, su_caption_figures *whole, su_error *err)
{
    const su_caption_match *m = &e->match;
    su_status status =
        su_caption_score(&e->sentences, pair, m->pairs, m->corpus, m->documents, e->pool, counts, err);
    if (!status && e->meteor) status = su_meteor_score(e->meteor, pair, m->pairs, e->pool, counts, err);
    if (!status) su_caption_totals(counts, m->pairs, items, whole);
    return status;
}

static su_status score(evaluation *e, su_error *err)
{
    const su_caption_match *m = &e->match;
    e->items = su_calloc((size_t)m->pairs, sizeof *e->items);
    e->counts = su_calloc((size_t)m->pairs, sizeof *e->counts);
    e->other_counts = su_calloc((size_t)m->pairs, sizeof *e->other_counts);
    if (!e->items || !e->counts || !e->other_counts)
        return su_fail(err, SU_ENOMEM, "no memory for the scores");
    su_status status = su_sentences_make(m->text, m->texts, e->tokenizer, e->pool, &e->sentences, err);
    if (!status && !no_meteor) status = su_meteor_new(&e->sentences, &e->stages, e->pool, &e->meteor, err);
    if (!status) status = score_system(e, m->pair, e->counts, e->items, &e->whole, err);
    if (!status && other_path)
        status = score_system(e, m->other, e->other_counts, NULL, &e->other_whole, err);
    return status;
}

static su_status evaluate(evaluation *e, int argc, char **argv, su_error *err)
{
    su_status status = check_options(e, err);
    if (!status) status = su_pool_new((int)threads, &e->pool, err);
    if (!status) status = read_files(e, err);
    if (!status) status = score(e, err);
    if (!status && draws) status = resample(e, err);
    if (status) return status;
    if (!corpus_path && e->match.pairs == 1)
        su_log(SU_LOG_WARN,
               "CIDEr of one item is 0: every n-gram of its references is in all documents. Name a "
               "corpus with --document-frequency FILE");
    return report(e, argc, argv, err);
}

int su_cmd_eval_caption(int argc, char **argv)
{
    int code = su_options_parse(&command, argc, argv, NULL);
    if (code >= 0) return code;
    su_log_to_stderr(su_option_quiet());
    evaluation e = {0};
    su_error err = {0};
    su_status status = evaluate(&e, argc, argv, &err);
    su_meteor_free(e.meteor);
    su_free(e.items);
    su_free(e.counts);
    su_free(e.other_counts);
    su_sentences_free(&e.sentences);
    su_caption_match_free(&e.match);
    su_captions_free(&e.hypotheses);
    su_captions_free(&e.references);
    su_captions_free(&e.other);
    su_captions_free(&e.corpus);
    su_pool_free(e.pool);
    return status ? su_cli_fail(&command, &err) : SU_EXIT_OK;
}
