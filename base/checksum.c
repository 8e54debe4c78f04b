#include "base/checksum.h"
#include "base/memory.h"
#include <errno.h>
#include <fcntl.h>
#include <nettle/hmac.h>
#include <nettle/sha2.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

struct su_sha256 {
    struct sha256_ctx state;
};

uint32_t su_crc32(uint32_t crc, const void *data, size_t length)
{
    return length ? (uint32_t)crc32_z(crc, data, length) : crc;
}

static void to_hex(const uint8_t digest[SHA256_DIGEST_SIZE], char hex[SU_SHA256_HEX])
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < SHA256_DIGEST_SIZE; i++) {
        hex[2 * i] = digits[digest[i] >> 4];
        hex[2 * i + 1] = digits[digest[i] & 15];
    }
    hex[SU_SHA256_HEX - 1] = '\0';
}

static void hex_digest(struct sha256_ctx *state, char hex[SU_SHA256_HEX])
{
    uint8_t digest[SHA256_DIGEST_SIZE];
    sha256_digest(state, sizeof digest, digest);
    to_hex(digest, hex);
}

void su_hmac_sha256_hex(const void *key, size_t key_length, const void *data, size_t length,
                        char hex[SU_SHA256_HEX])
{
    struct hmac_sha256_ctx h;
    uint8_t digest[SHA256_DIGEST_SIZE];
    hmac_sha256_set_key(&h, key_length, key);
    hmac_sha256_update(&h, length, data);
    hmac_sha256_digest(&h, sizeof digest, digest);
    to_hex(digest, hex);
}

su_sha256 *su_sha256_new(void)
{
    su_sha256 *h = su_alloc(1, sizeof *h);
    if (h) sha256_init(&h->state);
    return h;
}

void su_sha256_add(su_sha256 *h, const void *data, size_t length)
{
    if (length) sha256_update(&h->state, length, data);
}

void su_sha256_end(su_sha256 *h, char hex[SU_SHA256_HEX])
{
    hex_digest(&h->state, hex);
    su_free(h);
}

void su_sha256_hex(const void *data, size_t length, char hex[SU_SHA256_HEX])
{
    su_sha256 h;
    sha256_init(&h.state);
    su_sha256_add(&h, data, length);
    hex_digest(&h.state, hex);
}

su_status su_sha256_file(const char *path, char hex[SU_SHA256_HEX], su_error *err)
{
    enum { BLOCK = 1 << 18 };
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return su_fail(err, errno == ENOENT ? SU_ENOTFOUND : SU_EIO, "%s: %s", path, strerror(errno));
    uint8_t *block = su_alloc(BLOCK, 1);
    su_status st = block ? SU_OK : su_fail(err, SU_ENOMEM, "%s: no memory to read it", path);
    su_sha256 h;
    sha256_init(&h.state);
    while (!st) {
        ssize_t n = read(fd, block, BLOCK);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) st = su_fail(err, SU_EIO, "%s: cannot be read: %s", path, strerror(errno));
        if (n <= 0) break;
        su_sha256_add(&h, block, (size_t)n);
    }
    if (!st) hex_digest(&h.state, hex);
    su_free(block);
    close(fd);
    return st;
}

uint64_t su_hash64(const void *data, size_t length)
{
    struct sha256_ctx state;
    uint8_t digest[SHA256_DIGEST_SIZE];
    sha256_init(&state);
    if (length) sha256_update(&state, length, data);
    sha256_digest(&state, sizeof digest, digest);
    uint64_t value = 0;
    for (int i = 0; i < 8; i++) value = (value << 8) | digest[i];
    return value;
}
