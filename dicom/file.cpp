// DCMTK's side of file.h. No type and no exception of C++ leaves this file.
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "dicom/dataset.hpp"
#include <dcmtk/dcmdata/dcspchrs.h>

extern "C" {
#include "base/memory.h"
#include "dicom/file.h"
#include "dicom/fragments.h"
#include "dicom/parts.h"
#include "dicom/worker.h"
}

struct su_dicom_file {
    DcmDataset dataset;
    std::string path;
    su_source *source = nullptr;
    su_scan scan = {};
    su_fragments *fragments = nullptr;

    ~su_dicom_file()
    {
        su_fragments_free(fragments);
        su_source_close(source);
    }
};

namespace
{

DcmItem *item_of(su_dicom_item *item)
{
    return reinterpret_cast<DcmItem *>(item);
}

DcmTagKey key(uint32_t tag)
{
    return DcmTagKey(static_cast<Uint16>(tag >> 16), static_cast<Uint16>(tag & 0xffff));
}

// An exception of DCMTK's or of its allocations becomes the fallback.
template <class T, class F> T guarded(T fallback, F &&body)
{
    try {
        return body();
    } catch (...) {
        return fallback;
    }
}

DcmElement *element(su_dicom_item *item, uint32_t tag)
{
    DcmElement *e = nullptr;
    if (!item || item_of(item)->findAndGetElement(key(tag), e).bad()) return nullptr;
    return e;
}

// What the scan found sound, and nothing beyond it, is DCMTK's to read; what it found odd, in a worker first.
su_status read_data_set(su_dicom_file *f, su_error *err)
{
    const su_scan &scan = f->scan;
    const size_t length = static_cast<size_t>(scan.end - scan.begin);
    uint64_t at = 0;
    if (length == 0) return SU_OK;
    std::vector<uint8_t> bytes(length);
    su_status st = su_source_read(f->source, scan.begin, bytes.data(), length, err);
    if (!st && !scan.plain)
        st = su_worker_vet(bytes.data(), length, scan.implicit, scan.big, f->path.c_str(), err);
    if (st) return st;
    const OFCondition c = su_dcmtk::read(f->dataset, bytes.data(), length, scan.implicit, scan.big, &at);
    if (c.good()) return SU_OK;
    at += scan.begin;
    return su_fail_at(err, SU_EFORMAT, static_cast<int64_t>(at), "%s: damaged at about byte %llu: %s",
                      f->path.c_str(), static_cast<unsigned long long>(at), c.text());
}

su_status open_file(const char *path, su_dicom_file **file, su_error *err)
{
    std::unique_ptr<su_dicom_file> f(new su_dicom_file);
    f->path = path;
    su_status st = su_source_open(path, &f->source, err);
    if (!st) st = su_scan_file(&f->source, &f->scan, err);
    if (!st) st = read_data_set(f.get(), err);
    if (!st) *file = f.release();
    return st;
}

// The (0008,0005) that counts for an item: its own, or that of the nearest item around it.
std::string character_set(DcmItem *item)
{
    for (DcmObject *o = item; o; o = o->getParent()) {
        DcmElement *e = nullptr;
        if (o->ident() == EVR_SQ) continue;
        DcmItem *around = dynamic_cast<DcmItem *>(o);
        OFString value;
        if (around && around->findAndGetElement(DCM_SpecificCharacterSet, e).good() &&
            e->getOFStringArray(value).good() && !value.empty())
            return value.c_str();
    }
    return "";
}

std::string questioned(const std::string &text)
{
    std::string out = text;
    for (char &c : out)
        if (static_cast<unsigned char>(c) >= 0x80) c = '?';
    return out;
}

bool is_ascii(const std::string &text)
{
    for (char c : text)
        if (static_cast<unsigned char>(c) >= 0x80 || c == '\033') return false;
    return true;
}

std::string utf8(DcmItem *item, DcmElement *e)
{
    OFString raw;
    if (e->getOFStringArray(raw, OFFalse).bad()) return "";
    std::string text(raw.c_str(), std::strlen(raw.c_str()));
    const size_t end = text.find_last_not_of(" \t\r\n"), start = text.find_first_not_of(' ');
    text = end == std::string::npos ? "" : text.substr(start, end - start + 1);
    if (is_ascii(text)) return text;
    DcmSpecificCharacterSet converter;
    OFString made;
    const std::string set = character_set(item);
    if (converter.selectCharacterSet(set.c_str()).bad()) return questioned(text);
    converter.setConversionFlags(OFCharacterEncoding::DiscardIllegalSequences);
    const char *const delimiters = e->ident() == EVR_PN ? "\\^=" : "\\";
    if (converter.convertString(OFString(text.c_str(), text.size()), made, delimiters).bad())
        return questioned(text);
    return made.c_str();
}

// An integer string, "3" or "3.0"; DCMTK takes "1A" for 1.
bool whole_number(DcmElement *e, unsigned long at, int64_t *value)
{
    OFString text;
    char *end = nullptr;
    if (e->getOFString(text, at).bad()) return false;
    errno = 0;
    *value = std::strtoll(text.c_str(), &end, 10);
    const bool found = end != text.c_str() && errno == 0;
    if (*end == '.') end += 1 + std::strspn(end + 1, "0");
    return found && end[std::strspn(end, " ")] == '\0';
}

size_t character_end(const std::string &text, size_t limit)
{
    if (text.size() <= limit) return text.size();
    while (limit && (static_cast<unsigned char>(text[limit]) & 0xc0) == 0x80) limit--;
    return limit;
}

} // namespace

su_status su_dicom_open(const char *path, su_dicom_file **file, su_error *err)
{
    *file = nullptr;
    try {
        return open_file(path, file, err);
    } catch (const std::bad_alloc &) {
        return su_fail(err, SU_ENOMEM, "%s: no memory to open it", path);
    } catch (...) {
        return su_fail(err, SU_EFORMAT, "%s: no DICOM file, or a damaged one", path);
    }
}

void su_dicom_close(su_dicom_file *file)
{
    delete file;
}

const char *su_dicom_path(const su_dicom_file *file)
{
    return file->path.c_str();
}

const char *su_dicom_transfer_syntax(const su_dicom_file *file)
{
    return file->scan.syntax[0] || !file->scan.known ? file->scan.syntax : file->scan.known->uid;
}

const char *su_dicom_uid_name(const char *uid)
{
    return dcmFindNameOfUID(uid, nullptr);
}

su_source *su_dicom_source(su_dicom_file *file)
{
    return file->source;
}

const su_scan *su_dicom_scan(const su_dicom_file *file)
{
    return &file->scan;
}

su_fragments **su_dicom_fragments(su_dicom_file *file)
{
    return &file->fragments;
}

su_dicom_item *su_dicom_dataset(su_dicom_file *file)
{
    return reinterpret_cast<su_dicom_item *>(static_cast<DcmItem *>(&file->dataset));
}

bool su_dicom_has(su_dicom_item *item, uint32_t tag)
{
    return guarded(false, [&] {
        DcmElement *e = element(item, tag);
        return e && e->getLengthField() > 0;
    });
}

bool su_dicom_number(su_dicom_item *item, uint32_t tag, int index, double *value)
{
    return guarded(false, [&] {
        DcmElement *e = element(item, tag);
        Float64 f64 = 0;
        Float32 f32 = 0;
        const unsigned long at = static_cast<unsigned long>(index);
        if (!e) return false;
        switch (e->ident()) {
        case EVR_DS:
        case EVR_FD:
            if (e->getFloat64(f64, at).bad()) return false;
            *value = f64;
            return true;
        case EVR_FL:
            if (e->getFloat32(f32, at).bad()) return false;
            *value = static_cast<double>(f32);
            return true;
        default:
            int64_t whole = 0;
            if (!su_dicom_integer(item, tag, index, &whole)) return false;
            *value = static_cast<double>(whole);
            return true;
        }
    });
}

bool su_dicom_integer(su_dicom_item *item, uint32_t tag, int index, int64_t *value)
{
    return guarded(false, [&] {
        DcmElement *e = element(item, tag);
        Uint16 u16 = 0;
        Sint16 s16 = 0;
        Uint32 u32 = 0;
        Sint32 s32 = 0;
        Float64 f64 = 0;
        const unsigned long at = static_cast<unsigned long>(index);
        OFCondition c = EC_IllegalCall;
        if (!e) return false;
        switch (e->ident()) {
        case EVR_US:
        case EVR_xs:
        case EVR_lt:
        case EVR_OW:
            c = e->getUint16(u16, at);
            *value = u16;
            break;
        case EVR_SS:
            c = e->getSint16(s16, at);
            *value = s16;
            break;
        case EVR_UL:
            c = e->getUint32(u32, at);
            *value = u32;
            break;
        case EVR_IS:
            return whole_number(e, at, value);
        case EVR_SL:
            c = e->getSint32(s32, at);
            *value = s32;
            break;
        case EVR_DS:
            c = e->getFloat64(f64, at);
            if (!(f64 > -9e15 && f64 < 9e15)) return false;
            *value = static_cast<int64_t>(f64);
            break;
        default:
            break;
        }
        return c.good();
    });
}

int su_dicom_values(su_dicom_item *item, uint32_t tag)
{
    return guarded(0, [&] {
        DcmElement *e = element(item, tag);
        return e && e->getLengthField() > 0 ? static_cast<int>(e->getVM()) : 0;
    });
}

const char *su_dicom_text(su_dicom_item *item, uint32_t tag, char *buffer, size_t size)
{
    buffer[0] = '\0';
    return guarded<const char *>(buffer, [&] {
        DcmElement *e = element(item, tag);
        if (!e) return buffer;
        const std::string text = utf8(item_of(item), e);
        const size_t length = character_end(text, size - 1);
        std::memcpy(buffer, text.data(), length);
        buffer[length] = '\0';
        return buffer;
    });
}

char *su_dicom_text_all(su_dicom_item *item, uint32_t tag)
{
    return guarded<char *>(nullptr, [&] {
        DcmElement *e = element(item, tag);
        return su_strdup(e ? utf8(item_of(item), e).c_str() : "");
    });
}

const uint16_t *su_dicom_words(su_dicom_item *item, uint32_t tag, int64_t *count)
{
    *count = 0;
    return guarded<const uint16_t *>(nullptr, [&]() -> const uint16_t * {
        DcmElement *e = element(item, tag);
        Uint16 *words = nullptr;
        Sint16 *numbers = nullptr;
        Uint8 *bytes = nullptr;
        if (!e || e->getLengthField() < 2) return nullptr;
        const int64_t n = static_cast<int64_t>(e->getLengthField() / 2);
        if (e->ident() == EVR_SS ? e->getSint16Array(numbers).bad() : e->getUint16Array(words).bad()) {
            if (e->getUint8Array(bytes).bad()) return nullptr;
            words = reinterpret_cast<Uint16 *>(bytes);
        }
        if (numbers) words = reinterpret_cast<Uint16 *>(numbers);
        if (words) *count = n;
        return words;
    });
}

su_dicom_item *su_dicom_sequence(su_dicom_item *item, uint32_t tag, int index)
{
    return guarded<su_dicom_item *>(nullptr, [&]() -> su_dicom_item * {
        DcmItem *found = nullptr;
        if (!item || item_of(item)->findAndGetSequenceItem(key(tag), found, index).bad()) return nullptr;
        return reinterpret_cast<su_dicom_item *>(found);
    });
}
