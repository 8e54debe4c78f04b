/* suture doctor: what this machine offers, and whether that is enough. Exit 3 when something is missing. */
#include "cli/commands.h"
#include "cli/common.h"
#include "cli/options.h"
#include "cli/report_align.h"
#include "base/json.h"
#include "base/log.h"
#include "base/threads.h"
#include "nn/device.h"
#include <nettle/version.h>
#include <png.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <utf8proc.h>
#include <zlib.h>

typedef struct {
    char model[128];
    const char *instructions[16]; /* ends with NULL */
    int cores, online;
    int64_t memory, available; /* bytes, -1 when not known */
    su_device *device;         /* NULL: see blas_error */
    su_error blas_error, gpu_error;
    bool gpu;
    char dicom[512];
    bool decodes; /* compressed DICOM, if this build reads any */
    double gflops;
} findings;

/* --- the machine -------------------------------------------------------------------------------------- */

/* The value of "name : value" in a line, or NULL when the line has another name. */
static char *value_of(char *line, const char *name)
{
    size_t n = strlen(name);
    if (strncmp(line, name, n) != 0 || !strchr(" \t:", line[n])) return NULL;
    char *value = strchr(line, ':');
    if (!value) return NULL;
    value += 1 + strspn(value + 1, " \t");
    value[strcspn(value, "\n")] = '\0';
    return value;
}

/* The instruction sets of a space-separated list that matter to matrix arithmetic. */
static void pick_instructions(const char *flags, const char **picked)
{
    static const char *const wanted[] = {"avx",      "avx2",        "fma",      "f16c",        "avx512f",
                                         "avx512bw", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_bf16",
                                         "asimd",    "sve",         "sve2",     "bf16"};
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        size_t n = strlen(wanted[i]);
        for (const char *p = flags; (p = strstr(p, wanted[i])); p += n) {
            if ((p != flags && p[-1] != ' ') || (p[n] && p[n] != ' ')) continue;
            *picked++ = wanted[i];
            break;
        }
    }
    *picked = NULL;
}

static void look_at_processor(findings *f)
{
    char line[8192];
    FILE *file = fopen("/proc/cpuinfo", "re");
    snprintf(f->model, sizeof f->model, "unknown");
    f->cores = su_cpu_count();
    f->online = (int)sysconf(_SC_NPROCESSORS_ONLN);
    if (!file) return;
    bool model = false, flags = false;
    while ((!model || !flags) && fgets(line, sizeof line, file)) {
        char *value;
        if (!model && (value = value_of(line, "model name"))) {
            snprintf(f->model, sizeof f->model, "%.*s", (int)sizeof f->model - 1, value);
            model = true;
        } else if (!flags && ((value = value_of(line, "flags")) || (value = value_of(line, "Features")))) {
            pick_instructions(value, f->instructions);
            flags = true;
        }
    }
    fclose(file);
}

static void look_at_memory(findings *f)
{
    char line[256];
    FILE *file = fopen("/proc/meminfo", "re");
    f->memory = f->available = -1;
    while (file && fgets(line, sizeof line, file)) {
        long long kib;
        if (sscanf(line, "MemTotal: %lld", &kib) == 1) f->memory = kib * 1024;
        if (sscanf(line, "MemAvailable: %lld", &kib) == 1) f->available = kib * 1024;
    }
    if (file) fclose(file);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* The best of several products of two 1024 x 1024 matrices, about a second at most. */
static double measure_matmul(su_device *d)
{
    enum { N = 1024, TIMES = 8 };
    void *m[3] = {NULL, NULL, NULL};
    double best = 0.0, end = now() + 1.0;
    su_status st = SU_OK;
    for (int i = 0; i < 3 && !st; i++) {
        st = d->ops->alloc(d, (size_t)N * N * su_dtype_size(d->act), &m[i], NULL);
        if (!st) d->ops->zero(d, m[i], (size_t)N * N * su_dtype_size(d->act));
    }
    for (int i = 0; i < TIMES && !st && now() < end; i++) {
        double start = now();
        d->ops->linear(d, m[0], NULL, m[1], m[2], NULL, SU_ACT_NONE, N, N, N);
        st = d->ops->sync(d, NULL);
        double gflops = 2.0 * N * N * N * 1e-9 / (now() - start);
        if (!st && gflops > best) best = gflops;
    }
    for (int i = 0; i < 3; i++)
        if (m[i]) d->ops->release(d, m[i]);
    return best;
}

static void look_at_devices(findings *f)
{
    su_device *gpu = NULL;
    if (su_device_cpu(0, SU_DTYPE_F32, &f->device, &f->blas_error) == SU_OK)
        f->gflops = measure_matmul(f->device);
    f->gpu = su_device_open("cuda", 0, &gpu, &f->gpu_error) == SU_OK;
    su_device_close(gpu);
}

static bool nothing_missing(const findings *f)
{
    return f->device && f->decodes;
}

/* --- the report --------------------------------------------------------------------------------------- */

static json_t *library_versions(void)
{
    char nettle[32];
    snprintf(nettle, sizeof nettle, "%d.%d", nettle_version_major(), nettle_version_minor());
    return json_pack("{s:s, s:s, s:s, s:s, s:s}", "jansson", jansson_version_str(), "zlib", zlibVersion(),
                     "nettle", nettle, "libpng", png_get_libpng_ver(NULL), "utf8proc", utf8proc_version());
}

static json_t *instruction_list(const findings *f)
{
    json_t *list = json_array();
    for (int i = 0; f->instructions[i]; i++) json_array_append_new(list, json_string(f->instructions[i]));
    return list;
}

/* NULL without memory. */
static json_t *report_new(const findings *f)
{
    const char *device = f->device ? f->device->description : NULL;
    return json_pack(
        "{s:s, s:s, s:b, s:o, s:o, s:o, s:o, s:s, s:o}", "schema", "suture.doctor/1", "version",
        SUTURE_VERSION, "ok", nothing_missing(f), "processor",
        json_pack("{s:s, s:i, s:i, s:o}", "model", f->model, "cores_usable", f->cores, "cores_online",
                  f->online, "instructions", instruction_list(f)),
        "memory",
        json_pack("{s:I, s:I}", "total_bytes", (json_int_t)f->memory, "available_bytes",
                  (json_int_t)f->available),
        "device",
        json_pack("{s:s?, s:s?, s:s?, s:f}", "description", device, "openblas_coretype",
                  getenv("OPENBLAS_CORETYPE"), "error", device ? NULL : f->blas_error.message,
                  "matmul_gflops", f->gflops),
        "gpu", json_pack("{s:b, s:s?}", "usable", f->gpu, "reason", f->gpu ? NULL : f->gpu_error.message),
        "dicom", f->dicom, "libraries", library_versions());
}

static void row(const char *label, const char *value)
{
    printf("%-13s %s\n", label, value);
}

static void print_table(const findings *f)
{
    char text[512] = "";
    row("suture", SUTURE_VERSION);
    row("processor", f->model);
    for (int i = 0; f->instructions[i]; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s%s", i ? " " : "", f->instructions[i]);
    row("instructions", text);
    snprintf(text, sizeof text, "%d usable of %d", f->cores, f->online);
    row("cores", text);
    snprintf(text, sizeof text, "%.1f GiB, %.1f GiB available", (double)f->memory / 0x1p30,
             (double)f->available / 0x1p30);
    row("memory", f->memory < 0 || f->available < 0 ? "unknown" : text);
    row("device", f->device ? f->device->description : "none");
    snprintf(text, sizeof text, "%.0f GFLOP/s in float32", f->gflops);
    if (f->device) row("matmul", text);
    const char *core = getenv("OPENBLAS_CORETYPE"), *blas = getenv("SUTURE_BLAS");
    snprintf(text, sizeof text, "OPENBLAS_CORETYPE=%s is set and chooses OpenBLAS's kernels",
             core ? core : "");
    if (core && blas && *blas) row("environment", text);
    row("GPU", f->gpu ? "usable as --device cuda" : f->gpu_error.message);
    row("DICOM", f->dicom);
    snprintf(text, sizeof text, "jansson %s, zlib %s, nettle %d.%d, libpng %s, utf8proc %s",
             jansson_version_str(), zlibVersion(), nettle_version_major(), nettle_version_minor(),
             png_get_libpng_ver(NULL), utf8proc_version());
    row("libraries", text);
    printf("\n");
    if (nothing_missing(f)) printf("Everything that Suture needs is here.\n");
    if (!f->device) printf("Training, embedding and search cannot run here: %s\n", f->blas_error.message);
    if (!f->decodes)
        printf("DICOM files whose pixels are compressed cannot be read here; see the line on DICOM.\n");
}

int su_cmd_doctor(int argc, char **argv)
{
    static const su_option options[] = {{0}};
    static const su_command command = {
        .name = "doctor",
        .synopsis = "[--json PATH|-]",
        .summary = "What this machine offers to Suture: processor, memory, BLAS, devices, libraries.\n"
                   "Exit status 3 when something that Suture needs is missing.",
        .examples = "suture doctor\n"
                    "suture doctor --json - | python3 -m json.tool",
        .options = options,
    };
    int rc = su_options_parse(&command, argc, argv, NULL);
    if (rc >= 0) return rc;
    su_log_to_stderr(su_option_quiet());
    findings f = {0};
    look_at_processor(&f);
    look_at_memory(&f);
    look_at_devices(&f);
    f.decodes = su_cli_dicom_state(f.dicom, sizeof f.dicom);
    su_error err = {0};
    su_status st = SU_OK;
    const char *json = su_option_json();
    if (json) {
        json_t *report = report_new(&f);
        st = report ? su_report_write(report, json, &err)
                    : su_fail(&err, SU_ENOMEM, "no memory for the report");
        json_decref(report);
    }
    if (!json || strcmp(json, "-") != 0) print_table(&f);
    rc = st ? su_cli_fail(&command, &err) : nothing_missing(&f) ? SU_EXIT_OK : SU_EXIT_FOUND;
    su_device_close(f.device);
    return rc;
}
