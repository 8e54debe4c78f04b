#include "eval/utf8.h"

uint32_t su_utf8_decode(const char *text, size_t left, size_t *used)
{
    const unsigned char *s = (const unsigned char *)text;
    *used = 1;
    if (s[0] < 0x80) return s[0];
    int more = s[0] >= 0xF0 && s[0] < 0xF5 ? 3 : s[0] >= 0xE0 ? 2 : 1;
    if (s[0] < 0xC2 || s[0] >= 0xF5 || left <= (size_t)more) return 0xFFFD;
    uint32_t c = s[0] & (0x3Fu >> more);
    for (int i = 1; i <= more; i++) {
        if ((s[i] & 0xC0) != 0x80) return 0xFFFD;
        c = c << 6 | (s[i] & 0x3F);
    }
    if ((more == 2 && (c < 0x800 || (c >= 0xD800 && c < 0xE000))) ||
        (more == 3 && (c < 0x10000 || c > 0x10FFFF)))
        return 0xFFFD;
    *used = (size_t)more + 1;
    return c;
}

int su_utf8_encode(uint32_t c, char s[4])
{
    if (c < 0x80) {
        s[0] = (char)c;
        return 1;
    }
    int more = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
    static const uint8_t lead[] = {0, 0xC0, 0xE0, 0xF0};
    s[0] = (char)(lead[more] | c >> 6 * more);
    for (int i = 1; i <= more; i++) s[i] = (char)(0x80 | (c >> 6 * (more - i) & 0x3F));
    return more + 1;
}

su_status su_utf8_add(su_buffer *out, uint32_t c, su_error *err)
{
    char s[4];
    return su_buffer_add(out, s, (size_t)su_utf8_encode(c, s), err);
}
