/* Checksums: SHA-256 (FIPS 180-4, by nettle) names content; CRC-32 (by zlib) notices damage. */
#ifndef SU_BASE_CHECKSUM_H
#define SU_BASE_CHECKSUM_H

#include "base/error.h"
#include <stddef.h>
#include <stdint.h>

enum { SU_SHA256_HEX = 65 }; /* 64 lower-case hex digits and a NUL */

uint32_t su_crc32(uint32_t crc, const void *data, size_t length); /* start with 0 */

typedef struct su_sha256 su_sha256;
su_sha256 *su_sha256_new(void); /* NULL without memory */
void su_sha256_add(su_sha256 *h, const void *data, size_t length);
void su_sha256_end(su_sha256 *h, char hex[SU_SHA256_HEX]); /* writes the digest and frees h */

void su_sha256_hex(const void *data, size_t length, char hex[SU_SHA256_HEX]);
su_status su_sha256_file(const char *path, char hex[SU_SHA256_HEX], su_error *err);

/* HMAC-SHA256 [RFC 2104]: a name for data that only who has the key can make again. */
void su_hmac_sha256_hex(const void *key, size_t key_length, const void *data, size_t length,
                        char hex[SU_SHA256_HEX]);

/* 64-bit hash of bytes for grouping and splits: the first 8 bytes of SHA-256, big endian. */
uint64_t su_hash64(const void *data, size_t length);

#endif
