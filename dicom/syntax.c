#include "dicom/syntax.h"
#include <string.h>

#define JPEG(N, NAME)                                                         \
    {                                                                         \
        .uid = "1.2.840.10008.1.2.4." N, .name = NAME, .codec = SU_CODEC_JPEG \
    }
#define VIDEO(N, NAME)                                                                               \
    {                                                                                                \
        .uid = "1.2.840.10008.1.2.4." N, .name = NAME, .codec = SU_CODEC_NONE,                       \
        .refusal = "it is a video stream, whose frames are predicted from each other and not stored" \
    }
#define REFUSED(UID, NAME, WHY)                                          \
    {                                                                    \
        .uid = UID, .name = NAME, .codec = SU_CODEC_NONE, .refusal = WHY \
    }

static const su_syntax table[] = {
    {.uid = "1.2.840.10008.1.2", .name = "Implicit VR Little Endian", .implicit = true},
    {.uid = "1.2.840.10008.1.2.1", .name = "Explicit VR Little Endian"},
    {.uid = "1.2.840.10008.1.2.1.98", .name = "Encapsulated Uncompressed Explicit VR Little Endian"},
    {.uid = "1.2.840.10008.1.2.1.99", .name = "Deflated Explicit VR Little Endian", .deflated = true},
    {.uid = "1.2.840.10008.1.2.2", .name = "Explicit VR Big Endian", .big = true},
    JPEG("50", "JPEG Baseline (Process 1)"),
    JPEG("51", "JPEG Extended (Process 2 and 4)"),
    JPEG("52", "JPEG Extended (Process 3 and 5)"),
    JPEG("53", "JPEG Spectral Selection (Process 6 and 8)"),
    JPEG("54", "JPEG Spectral Selection (Process 7 and 9)"),
    JPEG("55", "JPEG Full Progression (Process 10 and 12)"),
    JPEG("56", "JPEG Full Progression (Process 11 and 13)"),
    JPEG("57", "JPEG Lossless (Process 14)"),
    JPEG("58", "JPEG Lossless (Process 15)"),
    JPEG("70", "JPEG Lossless, First-Order Prediction (Process 14, Selection Value 1)"),
    {.uid = "1.2.840.10008.1.2.4.80", .name = "JPEG-LS Lossless", .codec = SU_CODEC_JPEG_LS},
    {.uid = "1.2.840.10008.1.2.4.81", .name = "JPEG-LS Near-Lossless", .codec = SU_CODEC_JPEG_LS},
    {.uid = "1.2.840.10008.1.2.4.90", .name = "JPEG 2000 Lossless", .codec = SU_CODEC_JPEG_2000},
    {.uid = "1.2.840.10008.1.2.4.91", .name = "JPEG 2000", .codec = SU_CODEC_JPEG_2000},
    REFUSED("1.2.840.10008.1.2.4.92", "JPEG 2000 Part 2 Multi-component, Lossless",
            "transforms across frames (JPEG 2000 Part 2) are not undone here"),
    REFUSED("1.2.840.10008.1.2.4.93", "JPEG 2000 Part 2 Multi-component",
            "transforms across frames (JPEG 2000 Part 2) are not undone here"),
    REFUSED("1.2.840.10008.1.2.4.94", "JPIP Referenced", "its pixels are on a server, not in the file"),
    REFUSED("1.2.840.10008.1.2.4.95", "JPIP Referenced Deflate",
            "its pixels are on a server, not in the file"),
    VIDEO("100", "MPEG2 Main Profile / Main Level"),
    VIDEO("100.1", "Fragmentable MPEG2 Main Profile / Main Level"),
    VIDEO("101", "MPEG2 Main Profile / High Level"),
    VIDEO("101.1", "Fragmentable MPEG2 Main Profile / High Level"),
    VIDEO("102", "MPEG-4 AVC/H.264 High Profile / Level 4.1"),
    VIDEO("102.1", "Fragmentable MPEG-4 AVC/H.264 High Profile / Level 4.1"),
    VIDEO("103", "MPEG-4 AVC/H.264 BD-compatible High Profile / Level 4.1"),
    VIDEO("103.1", "Fragmentable MPEG-4 AVC/H.264 BD-compatible High Profile / Level 4.1"),
    VIDEO("104", "MPEG-4 AVC/H.264 High Profile / Level 4.2 for 2D Video"),
    VIDEO("104.1", "Fragmentable MPEG-4 AVC/H.264 High Profile / Level 4.2 for 2D Video"),
    VIDEO("105", "MPEG-4 AVC/H.264 High Profile / Level 4.2 for 3D Video"),
    VIDEO("105.1", "Fragmentable MPEG-4 AVC/H.264 High Profile / Level 4.2 for 3D Video"),
    VIDEO("106", "MPEG-4 AVC/H.264 Stereo High Profile / Level 4.2"),
    VIDEO("106.1", "Fragmentable MPEG-4 AVC/H.264 Stereo High Profile / Level 4.2"),
    VIDEO("107", "HEVC/H.265 Main Profile / Level 5.1"),
    VIDEO("108", "HEVC/H.265 Main 10 Profile / Level 5.1"),
    REFUSED("1.2.840.10008.1.2.4.110", "JPEG XL Lossless", "no decoder for JPEG XL is built in"),
    REFUSED("1.2.840.10008.1.2.4.111", "JPEG XL JPEG Recompression", "no decoder for JPEG XL is built in"),
    REFUSED("1.2.840.10008.1.2.4.112", "JPEG XL", "no decoder for JPEG XL is built in"),
    {.uid = "1.2.840.10008.1.2.4.201",
     .name = "High-Throughput JPEG 2000 Lossless",
     .codec = SU_CODEC_JPEG_2000},
    {.uid = "1.2.840.10008.1.2.4.202",
     .name = "High-Throughput JPEG 2000 with RPCL Options Lossless",
     .codec = SU_CODEC_JPEG_2000},
    {.uid = "1.2.840.10008.1.2.4.203", .name = "High-Throughput JPEG 2000", .codec = SU_CODEC_JPEG_2000},
    REFUSED("1.2.840.10008.1.2.4.204", "JPIP HTJ2K Referenced",
            "its pixels are on a server, not in the file"),
    REFUSED("1.2.840.10008.1.2.4.205", "JPIP HTJ2K Referenced Deflate",
            "its pixels are on a server, not in the file"),
    {.uid = "1.2.840.10008.1.2.5", .name = "RLE Lossless", .codec = SU_CODEC_RLE},
    {.uid = "1.2.840.10008.1.2.8.1",
     .name = "Deflated Image Frame Compression",
     .codec = SU_CODEC_DEFLATED_FRAME},
    REFUSED("1.2.840.113619.5.2", "Implicit VR Big Endian (GE private)",
            "a private syntax whose pixels are in another byte order than its data set"),
};

const su_syntax *su_syntax_find(const char *uid)
{
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (strcmp(table[i].uid, uid) == 0) return &table[i];
    return NULL;
}

const char *su_codec_name(su_codec codec)
{
    static const char *const names[] = {"native", "DEFLATE", "RLE", "JPEG", "JPEG-LS", "JPEG 2000", "none"};
    return names[codec];
}
