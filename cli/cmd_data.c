/* suture data import csv | import roco | info | audit: what datasets/ reports, as tables or as JSON. */
#include "base/log.h"
#include "cli/commands.h"
#include "cli/common.h"
#include "cli/options.h"
#include "datasets/audit.h"
#include "datasets/import.h"
#include "datasets/info.h"
#include <stdio.h>
#include <string.h>

enum { LISTED = 20 };

/* ---- output ---- */

static int64_t integer(const json_t *o, const char *key)
{
    return json_integer_value(json_object_get(o, key));
}

static const char *string(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));
    return s ? s : "";
}

/* "train 3715, val 487" */
static void print_counts(const json_t *counts)
{
    const char *name = NULL, *comma = "";
    json_t *n = NULL;
    json_object_foreach((json_t *)(uintptr_t)counts, name, n)
    {
        printf("%s%s %lld", comma, name, (long long)json_integer_value(n));
        comma = ", ";
    }
}

static void print_info(const json_t *info)
{
    const json_t *recipe = json_object_get(info, "recipe"), *skipped = json_object_get(info, "skipped");
    const json_t *words = json_object_get(json_object_get(info, "text"), "words");
    const char *name = NULL;
    size_t i = 0;
    json_t *value = NULL;
    printf("dataset     %s\n", string(info, "dataset"));
    printf("sha256      %s\n", string(info, "sha256"));
    printf("size        %.1f MB\n", (double)integer(info, "bytes") / 1e6);
    printf("streams    ");
    json_array_foreach(json_object_get(info, "streams"), i, value) printf(" %s", json_string_value(value));
    printf("\nimages      %lld x %lld x %lld, ", (long long)integer(recipe, "size"),
           (long long)integer(recipe, "size"), (long long)integer(recipe, "channels"));
    if (json_object_get(recipe, "spacing"))
        printf("%g mm a pixel", json_real_value(json_object_get(recipe, "spacing")));
    else
        printf("%s to a square", !strcmp(string(recipe, "fit"), "crop") ? "cropped" : "padded");
    printf("; DICOM by %s\n",
           json_object_get(recipe, "dicom") ? string(recipe, "dicom") : "dicom-standard/1");
    printf("words       %lld to %lld a text, median %lld, 5 %% below %lld, 5 %% above %lld\n",
           (long long)integer(words, "min"), (long long)integer(words, "max"),
           (long long)integer(words, "p50"), (long long)integer(words, "p5"),
           (long long)integer(words, "p95"));
    printf("licences    ");
    print_counts(json_object_get(info, "licences"));
    printf("\nskipped     %lld", (long long)integer(skipped, "items"));
    if (integer(skipped, "items")) {
        printf(": ");
        print_counts(json_object_get(skipped, "reasons"));
        printf("  (%s/skipped.jsonl)", string(info, "dataset"));
    }
    printf("\n\n%-12s %9s %9s\n", "split", "samples", "groups");
    json_object_foreach(json_object_get(info, "splits"), name, value)
        printf("%-12s %9lld %9lld\n", name, (long long)integer(value, "samples"),
               (long long)integer(value, "groups"));
    printf("%-12s %9lld %9lld\n", "all", (long long)integer(info, "samples"),
           (long long)integer(info, "groups"));
}

/* "65.9 % of test, 66.2 % of val" */
static void print_shares(const json_t *shares)
{
    const char *name = NULL, *comma = "";
    json_t *share = NULL;
    json_object_foreach((json_t *)(uintptr_t)shares, name, share)
    {
        printf("%s%.1f %% of %s", comma, 100 * json_real_value(share), name);
        comma = ", ";
    }
}

static void print_group_leak(const json_t *groups, const char *dataset)
{
    if (!json_is_true(json_object_get(groups, "leak"))) return;
    printf("\nLEAK: %lld groups (articles, patients) are in more than one split",
           (long long)integer(groups, "across"));
    if (json_object_size(json_object_get(groups, "train_share"))) {
        printf(".\nShare of samples whose group is in train too: ");
        print_shares(json_object_get(groups, "train_share"));
    } else {
        printf(".\nShare of samples whose group is in another split too: ");
        print_shares(json_object_get(groups, "share"));
    }
    printf(".\n'suture data audit %s --json -' lists them; splitting by group, the default where the source "
           "names no "
           "split,\nkeeps each on one side.\n",
           dataset);
}

/* ---- import ---- */

static su_import_options import_options;
static su_csv_columns columns;
static double spacing;
static const char *dicom_recipe, *out_path, *fractions = "0.8,0.1,0.1", *fit = "pad", *split_by;
static int64_t size = 224, seed, threads;
static bool grey;

/* clang-format off */
#define IMPORT_OPTIONS                                                                                      \
    SU_STRING("licence", &import_options.licences, "LIST",                                                  \
              "keep only items under these licences, by commas: cc-by,cc0"),                                \
    SU_STRING("split-fractions", &fractions, "T,V,T", "of train, val and test when split by group"),        \
    SU_INT("seed", &seed, 0, 9e15, "N", "of the split by group"),                                           \
    SU_INT("size", &size, 32, 1024, "N", "side of the stored square, pixels"),                              \
    SU_STRING("fit", &fit, "pad|crop", "pad: the whole image on black; crop: its central square"),          \
    SU_STRING("recipe", &dicom_recipe, "NAME",                                                              \
              "how DICOM files are rendered, as in dicom render (default dicom-standard)"),                 \
    SU_NUMBER("spacing", &spacing, 1e-3, 1e3, "MM",                                                         \
              "a stored pixel shows so many millimetres (default: pictures are fitted)"),                   \
    SU_FLAG("grey", &grey, "store one channel instead of three"),                                           \
    SU_INT("threads", &threads, 0, 1024, "N", "0: one per core; the result is the same for any")
/* clang-format on */

static su_status read_import_options(const char *by_group, const char *by_source, su_error *err)
{
    su_import_options *o = &import_options;
    su_split_defaults(&o->rule);
    o->rule.seed = (uint64_t)seed;
    o->threads = (int)threads;
    if (!out_path) return su_fail(err, SU_EINVAL, "--out DS is needed: the folder to make");
    if (strcmp(fit, "pad") != 0 && strcmp(fit, "crop") != 0)
        return su_fail(err, SU_EINVAL, "--fit is pad or crop, not '%s'", fit);
    o->recipe = (su_image_recipe){
        .size = (int32_t)size, .channels = grey ? 1 : 3, .crop = !strcmp(fit, "crop"), .spacing = spacing};
    su_status st = su_image_recipe_render_by(&o->recipe, dicom_recipe, err);
    if (st) return st;
    if (split_by && strcmp(split_by, by_group) != 0 && strcmp(split_by, by_source) != 0)
        return su_fail(err, SU_EINVAL, "--split is %s or %s, not '%s'", by_group, by_source, split_by);
    o->split_by_group = split_by && !strcmp(split_by, by_group);
    return su_split_parse_fractions(fractions, &o->rule, err);
}

/* What was imported: the info, and groups that are in two splits. */
static su_status report_import(su_error *err)
{
    su_dataset *ds = NULL;
    json_t *info = NULL, *groups = NULL;
    su_status s = su_dataset_open(out_path, &ds, err);
    if (!s) s = su_dataset_info(ds, &info, err);
    if (!s) s = su_audit_groups(ds, &groups, err);
    if (!s && json_object_set(info, "groups_across_splits", groups))
        s = su_fail(err, SU_ENOMEM, "%s: no memory to describe it", out_path);
    if (su_cli_report(info, &s, err)) {
        print_info(info);
        print_group_leak(groups, out_path);
    }
    json_decref(info);
    json_decref(groups);
    su_dataset_close(ds);
    return s;
}

static const su_option csv_options[] = {
    SU_STRING("out", &out_path, "DS", "folder of the dataset to make; needed"),
    SU_STRING("image-column", &columns.image, "A[,B...]",
              "column with the image file, relative to the CSV (default image);\nseveral make several image "
              "streams"),
    SU_STRING("text-column", &columns.text, "NAME", "column with the text (default text)"),
    SU_STRING("group-column", &columns.group, "NAME",
              "what must stay on one side of a split: patient, article (default: the\nfirst there is of "
              "group, patient, patient_id, subject, subject_id,\narticle; else the image file)"),
    SU_STRING("split-column", &columns.split, "NAME",
              "column with train, val, test (default: split, when there is one)"),
    SU_STRING("licence-column", &columns.licence, "NAME",
              "column with the licence (default: licence or license)"),
    SU_STRING("id-column", &columns.id, "NAME", "column with unique ids (default: the image file)"),
    SU_STRING("split", &split_by, "column|group",
              "where the split comes from (default: the column, when there is one)"),
    IMPORT_OPTIONS,
    {0},
};

static const su_command csv_command = {
    .name = "data import csv",
    .synopsis = "PAIRS.csv --out DS [options]",
    .summary =
        "Packs the images and texts listed in a CSV file into a dataset. Bad items are skipped and listed\n"
        "in DS/skipped.jsonl. An import that was killed goes on when the same command is given again.",
    .examples = "suture data import csv datasets/sample/pairs.csv --out data\n"
                "suture data import csv xr.csv --image-column frontal,lateral --text-column report \\\n"
                "    --group-column patient --out data\n",
    .options = csv_options,
    .min_positional = 1,
    .max_positional = 1,
};

int su_cmd_data_import_csv(int argc, char **argv)
{
    su_option_list files = {0};
    su_error err = {0};
    int code = su_options_parse(&csv_command, argc, argv, &files);
    if (code >= 0) return code;
    su_log_to_stderr(su_option_quiet());
    su_status s = read_import_options("group", "column", &err);
    if (!s) s = su_import_csv(files.items[0], &columns, out_path, &import_options, &err);
    if (!s) s = report_import(&err);
    su_options_free(&files, &csv_command);
    return s ? su_cli_fail(&csv_command, &err) : SU_EXIT_OK;
}

static bool keep_burned_in;
static int64_t slices = 4;
static const char *key;
static su_option_list reports;

static const su_option dicom_options[] = {
    SU_STRING("out", &out_path, "DS", "folder of the dataset to make; needed"),
    SU_LIST("reports", &reports, "PATH",
            "reports that lie elsewhere: folders, NAME.txt or NAME.xml (NAME: accession\nnumber or study "
            "UID), or a CSV with study_uid or accession, and text"),
    SU_STRING(
        "key", &key, "FILE",
        "key of the pseudonyms, made when it is not there (default DS.key); keep it\napart from the dataset"),
    SU_INT("slices", &slices, 1, SU_DICOM_SLICES_MAX, "N", "a volume is shown by so many of its slices"),
    SU_FLAG("burned-in", &keep_burned_in, "also images that say that annotation is burned in"),
    IMPORT_OPTIONS,
    {0},
};

static const su_command dicom_command = {
    .name = "data import dicom",
    .synopsis = "DIR... --out DS [options]",
    .summary = "Packs DICOM studies with the reports beside them into a dataset: structured reports in the "
               "folders,\n"
               "NAME.txt or NAME.xml (accession number or study UID), or a table. CT, MR and PET series "
               "become montages of\n"
               "representative slices, every other image a sample. A patient's samples stay in one split; "
               "identifiers are\n"
               "replaced by keyed hashes. This is no de-identification: see docs/dicom.md. What cannot be "
               "used is listed in\n"
               "DS/skipped.jsonl. An import that was killed goes on when the same command is given again.",
    .examples = "suture data import dicom archive/ --out data\n"
                "suture data import dicom ct/ --reports reports.csv --recipe ct-lung --out data\n",
    .options = dicom_options,
    .min_positional = 1,
    .max_positional = -1,
};

int su_cmd_data_import_dicom(int argc, char **argv)
{
    su_option_list paths = {0};
    su_error err = {0};
    int code = su_options_parse(&dicom_command, argc, argv, &paths);
    if (code >= 0) return code;
    su_log_to_stderr(su_option_quiet());
    su_status s = read_import_options("group", "group", &err);
    const su_dicom_import how = {.paths = paths.items,
                                 .path_count = paths.count,
                                 .reports = reports.items,
                                 .report_count = reports.count,
                                 .key = key,
                                 .slices = (int)slices,
                                 .keep_burned_in = keep_burned_in};
    if (!s) s = su_import_dicom(&how, out_path, &import_options, &err);
    if (!s) s = report_import(&err);
    su_options_free(&paths, &dicom_command);
    return s ? su_cli_fail(&dicom_command, &err) : SU_EXIT_OK;
}

static const su_option roco_options[] = {
    SU_STRING("out", &out_path, "DS", "folder of the dataset to make; needed"),
    SU_STRING("split", &split_by, "article|official",
              "article (default): all figures of an article on one side;\nofficial: the folders' split, and "
              "what leaks in it is printed"),
    IMPORT_OPTIONS,
    {0},
};

static const su_command roco_command = {
    .name = "data import roco",
    .synopsis = "DIR --out DS [options]",
    .summary =
        "Packs the radiology figures of ROCO in their official layout (DIR: the repository's data folder,\n"
        "one split, or one folder with captions.txt) into a dataset. Bad items are skipped and listed in\n"
        "DS/skipped.jsonl. An import that was killed goes on when the same command is given again.",
    .examples = "suture data import roco roco-dataset/data --licence cc-by,cc0 --out roco\n"
                "suture data import roco roco-dataset/data --split official --out roco-official\n",
    .options = roco_options,
    .min_positional = 1,
    .max_positional = 1,
};

int su_cmd_data_import_roco(int argc, char **argv)
{
    su_option_list folders = {0};
    su_error err = {0};
    split_by = "article";
    int code = su_options_parse(&roco_command, argc, argv, &folders);
    if (code >= 0) return code;
    su_log_to_stderr(su_option_quiet());
    su_status s = read_import_options("article", "official", &err);
    if (!s) s = su_import_roco(folders.items[0], out_path, &import_options, &err);
    if (!s) s = report_import(&err);
    su_options_free(&folders, &roco_command);
    return s ? su_cli_fail(&roco_command, &err) : SU_EXIT_OK;
}

/* ---- info ---- */

static const su_option info_options[] = {{0}};

static const su_command info_command = {
    .name = "data info",
    .synopsis = "DS [--json -]",
    .summary = "What a packed dataset holds: splits, groups, licences, lengths, what was skipped.",
    .examples = "suture data info data\n",
    .options = info_options,
    .min_positional = 1,
    .max_positional = 1,
};

int su_cmd_data_info(int argc, char **argv)
{
    su_option_list folders = {0};
    su_error err = {0};
    su_dataset *ds = NULL;
    json_t *info = NULL;
    int code = su_options_parse(&info_command, argc, argv, &folders);
    if (code >= 0) return code;
    su_log_to_stderr(su_option_quiet());
    su_status s = su_dataset_open(folders.items[0], &ds, &err);
    if (!s) s = su_dataset_info(ds, &info, &err);
    if (su_cli_report(info, &s, &err)) print_info(info);
    json_decref(info);
    su_dataset_close(ds);
    su_options_free(&folders, &info_command);
    return s ? su_cli_fail(&info_command, &err) : SU_EXIT_OK;
}

/* ---- audit ---- */

static bool strict;

static const su_option audit_options[] = {
    SU_FLAG("strict", &strict, "identical texts in two splits are a leak too"),
    SU_INT("threads", &threads, 0, 1024, "N", "0: one per core"),
    {0},
};

static const su_command audit_command = {
    .name = "data audit",
    .synopsis = "DS [--strict] [--json -]",
    .summary =
        "Looks for what leaks between the splits of a packed dataset, for duplicates and for damage.\n"
        "Ends with 3 when there is a leak or damage, so that a script can stop there.\n\n"
        "A leak: a group (article, patient) in two splits; the same image in two splits; nearly the same\n"
        "image in two splits (rescaled, recompressed, brightened, an arrow drawn in: a perceptual hash "
        "within\n"
        "10 of 64 bits and a correlation of fine structure above 0.7; strong crops are not recognised).\n"
        "Identical texts in two splits are only noted, since short captions (\"Chest X-ray\") recur "
        "honestly;\n"
        "--strict makes them a leak. Duplicates within a split are counted.",
    .examples = "suture data audit data\n"
                "suture data audit data --json - | jq '.near_images.pairs[]'\n",
    .options = audit_options,
    .min_positional = 1,
    .max_positional = 1,
};

static void print_row(const char *what, const json_t *check, const char *unit)
{
    int64_t across = integer(check, "across");
    bool leak = json_is_true(json_object_get(check, "leak"));
    printf("%-24s %10lld %10lld  %-6s  %s\n", what, (long long)across, (long long)integer(check, "within"),
           leak     ? "LEAK"
           : across ? "note"
                    : "ok",
           unit);
}

static void print_member(const json_t *o)
{
    printf("  %s (%s)", string(o, "id"), string(o, "split"));
}

static void print_sets(const char *title, const json_t *check)
{
    size_t i = 0, k = 0;
    int64_t shown = 0;
    json_t *set = NULL, *member = NULL;
    if (!integer(check, "across")) return;
    printf("\n%s\n", title);
    json_array_foreach(json_object_get(check, "sets"), i, set)
    {
        if (!json_is_true(json_object_get(set, "across")) || shown++ >= LISTED) continue;
        const json_t *items = json_object_get(set, "items");
        json_array_foreach((json_t *)(uintptr_t)items, k, member)
        {
            if (k < 4) print_member(member);
        }
        printf(json_array_size(items) > 4 ? "  and %zu more\n" : "\n", json_array_size(items) - 4);
    }
    if (shown > LISTED) printf("  ... and %lld more; --json - lists all\n", (long long)(shown - LISTED));
}

static void print_pairs(const json_t *near)
{
    size_t i = 0;
    json_t *pair = NULL;
    int64_t across = integer(near, "across");
    if (!json_array_size(json_object_get(near, "pairs"))) return;
    printf("\nnearly identical images:  bits apart, agreement\n");
    json_array_foreach(json_object_get(near, "pairs"), i, pair)
    {
        if (i >= LISTED) break;
        printf("  %2lld  %.2f", (long long)integer(pair, "distance"),
               json_real_value(json_object_get(pair, "agreement")));
        print_member(json_object_get(pair, "a"));
        print_member(json_object_get(pair, "b"));
        printf("\n");
    }
    int64_t more = across + integer(near, "within") - LISTED;
    if (more > 0) printf("  ... and %lld more; --json - lists all\n", (long long)more);
}

static void print_groups(const json_t *groups)
{
    size_t i = 0;
    json_t *group = NULL;
    const json_t *items = json_object_get(groups, "items");
    if (!json_array_size(items)) return;
    printf("\ngroups in more than one split:\n");
    json_array_foreach((json_t *)(uintptr_t)items, i, group)
    {
        if (i >= LISTED) break;
        printf("  %s: ", string(group, "group"));
        print_counts(json_object_get(group, "splits"));
        printf("\n");
    }
    if (json_array_size(items) > LISTED)
        printf("  ... and %zu more; --json - lists all\n", json_array_size(items) - LISTED);
}

static void print_audit(const json_t *report)
{
    const json_t *groups = json_object_get(report, "groups"), *near = json_object_get(report, "near_images");
    const json_t *images = json_object_get(report, "identical_images");
    const json_t *texts = json_object_get(report, "identical_texts"),
                 *empty = json_object_get(report, "empty");
    const json_t *damaged = json_object_get(report, "damaged"), *skipped = json_object_get(report, "skipped");
    size_t i = 0;
    json_t *file = NULL;
    printf("%s: %lld samples (", string(report, "dataset"), (long long)integer(report, "samples"));
    print_counts(json_object_get(report, "splits"));
    printf(") in %lld groups\n\n%-24s %10s %10s\n", (long long)integer(groups, "count"), "", "in two",
           "within");
    printf("%-24s %10s %10s\n", "", "splits", "one");
    print_row("groups", groups, "articles or patients");
    print_row("identical images", images, "sets");
    print_row("nearly identical images", near, "pairs");
    print_row("identical texts", texts, "sets");
    printf("%-24s %21lld  %-6s  texts without a word %lld, images of one grey %lld\n", "empty",
           (long long)(integer(empty, "texts") + integer(empty, "images")),
           integer(empty, "texts") + integer(empty, "images") ? "note" : "ok",
           (long long)integer(empty, "texts"), (long long)integer(empty, "images"));
    printf("%-24s %21zu  %-6s  files that are not what was imported\n", "damaged", json_array_size(damaged),
           json_array_size(damaged) ? "DAMAGE" : "ok");
    printf("%-24s %21lld          ", "skipped at import", (long long)integer(skipped, "items"));
    print_counts(json_object_get(skipped, "reasons"));
    printf("\n");
    print_groups(groups);
    print_sets("identical images in two splits:", images);
    print_pairs(near);
    print_sets("identical texts in two splits:", texts);
    json_array_foreach((json_t *)(uintptr_t)damaged, i, file)
        printf("%s%s: %s\n", i ? "" : "\ndamaged:\n", string(file, "file"), string(file, "reason"));
    print_group_leak(groups, string(report, "dataset"));
    if (json_array_size(damaged))
        printf("\nFiles were damaged after the import: import the dataset again.\n");
    bool found = json_is_true(json_object_get(report, "leak"));
    printf("\n%s\n", found ? "A leak was found: figures measured on these splits are too good."
                           : "No leak between splits was found.");
}

int su_cmd_data_audit(int argc, char **argv)
{
    su_option_list folders = {0};
    su_error err = {0};
    su_dataset *ds = NULL;
    json_t *report = NULL;
    int code = su_options_parse(&audit_command, argc, argv, &folders);
    if (code >= 0) return code;
    su_log_to_stderr(su_option_quiet());
    su_status s = su_dataset_open(folders.items[0], &ds, &err);
    if (!s) s = su_audit(ds, &(su_audit_options){.strict = strict, .threads = (int)threads}, &report, &err);
    if (su_cli_report(report, &s, &err)) print_audit(report);
    bool found =
        json_is_true(json_object_get(report, "leak")) || json_is_true(json_object_get(report, "damage"));
    json_decref(report);
    su_dataset_close(ds);
    su_options_free(&folders, &audit_command);
    if (s) return su_cli_fail(&audit_command, &err);
    return found ? SU_EXIT_FOUND : SU_EXIT_OK;
}
