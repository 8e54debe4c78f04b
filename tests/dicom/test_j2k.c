/* Our JPEG 2000 decoder against OpenJPEG: what OpenJPEG encodes, decoded by both, whole and damaged. Built under sanitizers.
 *
 *   test_j2k DAMAGED [FIRST]     so many damaged codestreams, numbered from FIRST */
#include "base/memory.h"
#include "dicom/decoder/j2k_reversible.h"
#include <openjpeg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SIDE_MAX = 150, VALUES_MAX = 3 * SIDE_MAX * SIDE_MAX, CODE_MAX = 1 << 20 };

static uint64_t state = 7;
static uint32_t draw(uint32_t below)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 33) % below;
}

static int failures;
static void must(bool holds, const char *what, const char *where)
{
    if (holds) return;
    fprintf(stderr, "test_j2k: does not hold: %s: %s\n", what, where);
    failures++;
}

/* ---- a codestream in memory ---- */

typedef struct {
    uint8_t *data;
    size_t length, at, room;
} stream;

static OPJ_SIZE_T read_bytes(void *to, OPJ_SIZE_T n, void *self)
{
    stream *s = self;
    if (s->at >= s->length) return (OPJ_SIZE_T)-1;
    if (n > s->length - s->at) n = s->length - s->at;
    memcpy(to, s->data + s->at, n);
    s->at += n;
    return n;
}

static OPJ_SIZE_T write_bytes(void *from, OPJ_SIZE_T n, void *self)
{
    stream *s = self;
    if (n > s->room - s->at) return (OPJ_SIZE_T)-1;
    memcpy(s->data + s->at, from, n);
    s->at += n;
    if (s->at > s->length) s->length = s->at;
    return n;
}

static OPJ_OFF_T skip(OPJ_OFF_T n, void *self)
{
    stream *s = self;
    if (n < 0 || (size_t)n > s->room - s->at) return -1;
    s->at += (size_t)n;
    return n;
}

static OPJ_BOOL seek(OPJ_OFF_T at, void *self)
{
    stream *s = self;
    if (at < 0 || (size_t)at > s->room) return OPJ_FALSE;
    s->at = (size_t)at;
    return OPJ_TRUE;
}

static opj_stream_t *open_stream(stream *s, bool reading)
{
    opj_stream_t *o = opj_stream_create(1 << 16, reading);
    opj_stream_set_user_data(o, s, NULL);
    opj_stream_set_user_data_length(o, s->length);
    opj_stream_set_read_function(o, read_bytes);
    opj_stream_set_write_function(o, write_bytes);
    opj_stream_set_skip_function(o, skip);
    opj_stream_set_seek_function(o, seek);
    return o;
}

/* ---- pictures ---- */

typedef struct {
    int32_t rows, columns, components;
    int precision;
    bool is_signed;
} shape;

static shape draw_shape(void)
{
    return (shape){1 + (int32_t)draw(draw(2) ? SIDE_MAX : 12), 1 + (int32_t)draw(draw(2) ? SIDE_MAX : 12),
                   draw(3) ? 1 : 3, 1 + (int)draw(16), draw(4) == 0};
}

/* Ramps, noise, flat areas with a few points, or extremes. */
static void picture(int kind, const shape *s, opj_image_t *image)
{
    const int32_t most = (int32_t)((1u << s->precision) - 1), least = s->is_signed ? -(most / 2) - 1 : 0;
    for (OPJ_UINT32 c = 0; c < image->numcomps; c++)
        for (int32_t y = 0; y < s->rows; y++)
            for (int32_t x = 0; x < s->columns; x++) {
                int32_t v = 0;
                if (kind == 0) v = (x * 3 + y * (int32_t)(c + 2) + (int32_t)draw(5)) & most;
                if (kind == 1) v = (int32_t)draw((uint32_t)most + 1);
                if (kind == 2) v = draw(60) ? most / 3 : (int32_t)draw((uint32_t)most + 1);
                if (kind == 3) v = draw(2) ? most : 0;
                image->comps[c].data[y * s->columns + x] = v + least;
            }
}

static void choose(opj_cparameters_t *p, const shape *s)
{
    static const OPJ_PROG_ORDER orders[] = {OPJ_LRCP, OPJ_RLCP, OPJ_RPCL, OPJ_PCRL, OPJ_CPRL};
    static const float rates[] = {60, 30, 14, 6, 3};
    opj_set_default_encoder_parameters(p);
    p->prog_order = orders[draw(5)];
    p->numresolution = 1 + (int)draw(7);
    p->cblockw_init = 4 << draw(5);
    p->cblockh_init = 4 << draw(5);
    p->tcp_mct = s->components == 3 && draw(2);
    p->csty = (int)draw(8);
    if (p->csty & 1) {
        p->res_spec = 1 + (int)draw(3);
        for (int r = 0; r < p->res_spec; r++) {
            p->prcw_init[r] = 8 << draw(5);
            p->prch_init[r] = 8 << draw(5);
        }
    }
    p->cp_disto_alloc = 1;
    p->tcp_numlayers = 1 + (int)draw(5);
    for (int l = 0; l < p->tcp_numlayers; l++) p->tcp_rates[l] = rates[5 - p->tcp_numlayers + l];
    if (draw(3)) p->tcp_rates[p->tcp_numlayers - 1] = 0; /* lossless at the end */
    p->image_offset_x0 = draw(2) ? (int)draw(40) : 0;
    p->image_offset_y0 = draw(2) ? (int)draw(40) : 0;
    if (draw(2)) {
        p->tile_size_on = OPJ_TRUE;
        p->cp_tdx = 20 + (int)draw(100);
        p->cp_tdy = 20 + (int)draw(100);
        p->cp_tx0 =
            (int)draw((uint32_t)(p->image_offset_x0 < p->cp_tdx ? p->image_offset_x0 : p->cp_tdx - 1) + 1);
        p->cp_ty0 =
            (int)draw((uint32_t)(p->image_offset_y0 < p->cp_tdy ? p->image_offset_y0 : p->cp_tdy - 1) + 1);
        if (p->image_offset_x0 - p->cp_tx0 >= p->cp_tdx) p->cp_tx0 = p->image_offset_x0;
        if (p->image_offset_y0 - p->cp_ty0 >= p->cp_tdy) p->cp_ty0 = p->image_offset_y0;
    }
    /* OpenJPEG's encoder makes tile-parts for resolutions without samples, which its decoder does not expect,
     * and numbers more than 255 of a tile wrongly. */
    const int32_t least = s->rows < s->columns ? s->rows : s->columns;
    if (draw(3) == 0 && !p->tile_size_on && !(p->csty & 1) && least >= 1 << p->numresolution) {
        p->tp_on = 1;
        p->tp_flag = "RLC"[draw(3)];
    }
}

static bool encode(const shape *s, opj_cparameters_t *p, int kind, stream *out)
{
    opj_image_cmptparm_t c[3];
    memset(c, 0, sizeof c);
    for (int k = 0; k < s->components; k++)
        c[k] = (opj_image_cmptparm_t){.dx = 1,
                                      .dy = 1,
                                      .w = (OPJ_UINT32)s->columns,
                                      .h = (OPJ_UINT32)s->rows,
                                      .prec = (OPJ_UINT32)s->precision,
                                      .sgnd = s->is_signed};
    opj_image_t *image = opj_image_create((OPJ_UINT32)s->components, c,
                                          s->components == 3 ? OPJ_CLRSPC_SRGB : OPJ_CLRSPC_GRAY);
    image->x0 = (OPJ_UINT32)p->image_offset_x0;
    image->y0 = (OPJ_UINT32)p->image_offset_y0;
    image->x1 = image->x0 + (OPJ_UINT32)s->columns;
    image->y1 = image->y0 + (OPJ_UINT32)s->rows;
    picture(kind, s, image);
    opj_codec_t *codec = opj_create_compress(OPJ_CODEC_J2K);
    out->length = out->at = 0;
    opj_stream_t *o = open_stream(out, false);
    const bool good = opj_setup_encoder(codec, p, image) && opj_start_compress(codec, image, o) &&
                      opj_encode(codec, o) && opj_end_compress(codec, o);
    opj_stream_destroy(o);
    opj_destroy_codec(codec);
    opj_image_destroy(image);
    return good;
}

/* The same in a process of its own, where many are made: OpenJPEG 2.5.0's encoder spoils its heap over a few. out->data is
 * shared memory. */
static bool encode_apart(const shape *s, opj_cparameters_t *p, int kind, stream *out)
{
    int status = 0;
    size_t *length = (size_t *)(void *)(out->data + out->room);
    fflush(NULL);
    const pid_t child = fork();
    if (child == 0) {
        if (!freopen("/dev/null", "w", stderr)) _exit(2);
        const bool good = encode(s, p, kind, out);
        *length = out->length;
        _exit(!good);
    }
    while (child > 0 && waitpid(child, &status, 0) < 0) continue;
    out->length = *length;
    return child > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* ---- both decoders ---- */

static bool theirs(stream *in, const shape *s, int32_t *out)
{
    opj_dparameters_t p;
    opj_image_t *image = NULL;
    opj_set_default_decoder_parameters(&p);
    opj_codec_t *codec = opj_create_decompress(OPJ_CODEC_J2K);
    in->at = 0;
    opj_stream_t *o = open_stream(in, true);
    bool good = opj_setup_decoder(codec, &p) && opj_decoder_set_strict_mode(codec, OPJ_TRUE) &&
                opj_read_header(o, codec, &image) && image->numcomps == (OPJ_UINT32)s->components;
    for (OPJ_UINT32 c = 0; good && c < image->numcomps; c++)
        good = image->comps[c].w == (OPJ_UINT32)s->columns && image->comps[c].h == (OPJ_UINT32)s->rows;
    good = good && opj_decode(codec, o, image);
    for (OPJ_UINT32 c = 0; good && c < image->numcomps; c++) {
        const size_t n = (size_t)s->rows * (size_t)s->columns;
        good = image->comps[c].data != NULL;
        if (good) memcpy(out + c * n, image->comps[c].data, n * sizeof *out);
    }
    opj_image_destroy(image);
    opj_stream_destroy(o);
    opj_destroy_codec(codec);
    return good;
}

static su_status ours(const stream *in, const shape *s, int32_t *out)
{
    su_j2k_component c[SU_J2K_COMPONENTS_MAX];
    uint8_t *exact = su_alloc(in->length + 1, 1); /* exactly as long, for AddressSanitizer */
    memcpy(exact + 1, in->data, in->length);
    memset(out, 0, (size_t)(s->components * s->rows * s->columns) * sizeof *out);
    const su_status st =
        su_j2k_reversible_decode(exact + 1, in->length, s->rows, s->columns, s->components, out, c);
    su_free(exact);
    return st;
}

static uint8_t code[CODE_MAX], damaged[CODE_MAX];
static int32_t a[VALUES_MAX], b[VALUES_MAX];

static void whole(int cases, bool with_style)
{
    int count = 0;
    for (int i = 0; i < cases; i++) {
        char name[200];
        stream s = {.data = code, .room = CODE_MAX};
        opj_cparameters_t p;
        shape shown = draw_shape();
        const int kind = (int)draw(4);
        if (with_style) shown.rows = shown.columns = 100;
        choose(&p, &shown);
        if (with_style) {
            p.tile_size_on = OPJ_FALSE; /* its encoder has no irreversible transform of one sample */
            p.cp_tx0 = p.cp_ty0 = p.image_offset_x0 = p.image_offset_y0 = 0;
            const uint32_t which = draw(3);
            if (which == 0) p.mode = 1 << draw(6);
            if (which == 1) p.irreversible = 1;
            if (which == 2) {
                p.roi_compno = 0;
                p.roi_shift = 3;
            }
        }
        snprintf(
            name, sizeof name,
            "case %d: %d x %d x %d, %d bits%s, kind %d, order %d, %d resolutions, blocks %d x %d, %d layers, "
            "style %d, tile-parts %c",
            i, shown.rows, shown.columns, shown.components, shown.precision,
            shown.is_signed ? ", signed" : "", kind, p.prog_order, p.numresolution, p.cblockw_init,
            p.cblockh_init, p.tcp_numlayers, p.csty, p.tp_on ? p.tp_flag : '-');
        if (!encode(&shown, &p, kind, &s) || !theirs(&s, &shown, b)) continue;
        count++;
        const su_status st = ours(&s, &shown, a);
        const size_t n = (size_t)(shown.components * shown.rows * shown.columns);
        must(st == (with_style ? SU_EUNSUPPORTED : SU_OK), with_style ? "it is refused" : "it is read", name);
        if (!st) must(memcmp(a, b, n * sizeof *a) == 0, "values are OpenJPEG's", name);
    }
    must(count > cases / 2, "OpenJPEG takes most cases", "");
    printf("%d codestreams %s\n", count, with_style ? "left to OpenJPEG" : "equal");
}

static void broken(int64_t cases, int64_t first)
{
    int64_t read = 0, refused = 0;
    uint8_t *made = mmap(NULL, CODE_MAX + sizeof(size_t), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (made == MAP_FAILED) exit(1);
    for (int64_t i = first; i < first + cases; i++) {
        char name[40];
        stream s = {.data = made, .room = CODE_MAX}, t = {.data = damaged, .room = CODE_MAX};
        opj_cparameters_t p;
        state = (uint64_t)i * 2654435761u + 1;
        shape shown = draw_shape();
        if (shown.rows > 60) shown.rows %= 60, shown.rows++;
        choose(&p, &shown);
        if (!encode_apart(&shown, &p, (int)draw(4), &s)) continue;
        for (int again = 0; again < 20; again++) {
            memcpy(damaged, made, s.length);
            t.length = draw(8) ? s.length : 1 + draw((uint32_t)s.length);
            for (uint32_t k = 1 + draw(4); k > 0; k--)
                damaged[draw(draw(2) && t.length > 200 ? 200 : (uint32_t)t.length)] =
                    (uint8_t)(draw(3) ? draw(256) : 0xff * draw(2));
            if (ours(&t, &shown, a)) continue;
            read++;
            snprintf(name, sizeof name, "number %lld, %d", (long long)i, again);
            const size_t n = (size_t)(shown.components * shown.rows * shown.columns);
            if (!theirs(&t, &shown, b))
                refused++;
            else
                must(memcmp(a, b, n * sizeof *a) == 0, "what is read of a damaged one is OpenJPEG's", name);
        }
    }
    munmap(made, CODE_MAX + sizeof(size_t));
    printf("%lld damaged codestreams: %lld read, %lld of them refused by OpenJPEG\n", 20 * (long long)cases,
           (long long)read, (long long)refused);
}

/* Every allocation fails in turn: no memory is lost, and none that was not there is used. */
static void without_memory(void)
{
    stream s = {.data = code, .room = CODE_MAX};
    const shape shown = {100, 90, 1, 12, false};
    opj_cparameters_t p;
    opj_set_default_encoder_parameters(&p);
    p.tile_size_on = OPJ_TRUE;
    p.cp_tdx = p.cp_tdy = 64;
    p.tp_on = 1;
    p.tp_flag = 'R';
    must(encode(&shown, &p, 0, &s), "it is encoded", "without memory");
    su_status st = SU_ENOMEM;
    for (int64_t n = 2; st && n < 1000; n++) { /* the first is the test's own */
        su_alloc_fail_after(n);
        st = ours(&s, &shown, a);
        must(st == SU_OK || st == SU_ENOMEM, "there is no memory", "without memory");
    }
    su_alloc_fail_after(0);
    must(!st, "it is read in the end", "without memory");
}

int main(int argc, char **argv)
{
    whole(400, false);
    whole(60, true);
    without_memory();
    broken(argc > 1 ? atoll(argv[1]) : 100, argc > 2 ? atoll(argv[2]) : 0);
    return failures > 0;
}
