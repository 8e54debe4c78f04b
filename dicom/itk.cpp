// The ITK side of volume.h: reading, turning and resampling. No type and no exception of C++ leaves this
// file.
#include <cmath>
#include <cstring>
#include <exception>
#include <cstdio>
#include <memory>
#include <new>
#include <string>
#include <zlib.h>

#include <itkImageFileReader.h>
#include <itkImageIOBase.h>
#include <itkImportImageContainer.h>
#include <itkLinearInterpolateImageFunction.h>
#include <itkMetaImageIO.h>
#include <itkNiftiImageIO.h>
#include <itkNrrdImageIO.h>
#include <itkOrientImageFilter.h>
#include <itkResampleImageFilter.h>

extern "C" {
#include "dicom/itk.h"
}

namespace
{

using image = itk::Image<float, 3>;

template <class F> su_status guarded(const char *what, su_error *err, F &&body)
{
    try {
        return body();
    } catch (const std::bad_alloc &) {
        return su_fail(err, SU_ENOMEM, "%s: no memory for its voxels", what);
    } catch (const itk::ExceptionObject &e) {
        const char *text = e.GetDescription();
        if (const char *colon = std::strstr(text, "): ")) text = colon + 3; // "ITK ERROR: Class(0x...): text"
        std::string line(text);
        for (char &c : line)
            if (c == '\n') c = ' ';
        return su_fail(err, SU_EFORMAT, "%s: %.300s", what, line.c_str());
    } catch (const std::exception &e) {
        return su_fail(err, SU_EFORMAT, "%s: %s", what, e.what());
    } catch (...) {
        return su_fail(err, SU_EFORMAT, "%s: ITK gave up on it", what);
    }
}

// The volume as ITK sees it; the voxels stay where they are.
image::Pointer borrow(const su_volume *v)
{
    image::Pointer im = image::New();
    image::SizeType size;
    image::IndexType start;
    image::SpacingType spacing;
    image::PointType origin;
    image::DirectionType direction;
    itk::SizeValueType count = 1;
    for (unsigned a = 0; a < 3; a++) {
        size[a] = static_cast<itk::SizeValueType>(v->size[a]);
        start[a] = 0;
        spacing[a] = v->spacing[a];
        origin[a] = v->origin[a];
        for (unsigned b = 0; b < 3; b++) direction[a][b] = v->direction[3 * a + b];
        count *= size[a];
    }
    im->SetRegions(image::RegionType(start, size));
    im->SetSpacing(spacing);
    im->SetOrigin(origin);
    im->SetDirection(direction);
    im->GetPixelContainer()->SetImportPointer(v->voxels, count, false);
    return im;
}

// Copies geometry and voxels out; the voxels are the C side's memory.
su_status give(const image *im, su_volume *out, su_error *err)
{
    const image::RegionType region = im->GetBufferedRegion();
    std::size_t count = 1;
    image::PointType corner;
    im->TransformIndexToPhysicalPoint(region.GetIndex(), corner);
    for (unsigned a = 0; a < 3; a++) {
        out->size[a] = static_cast<int32_t>(region.GetSize()[a]);
        out->spacing[a] = im->GetSpacing()[a];
        out->origin[a] = corner[a];
        for (unsigned b = 0; b < 3; b++) out->direction[3 * a + b] = im->GetDirection()[a][b];
        count *= region.GetSize()[a];
    }
    out->voxels = static_cast<float *>(su_alloc(count, sizeof *out->voxels));
    if (!out->voxels) return su_fail(err, SU_ENOMEM, "no memory for %zu voxels", count);
    std::memcpy(out->voxels, im->GetBufferPointer(), count * sizeof *out->voxels);
    return SU_OK;
}

// The reader that takes the file, by its content; of those that are asked here only.
itk::ImageIOBase::Pointer reader_of(const char *path)
{
    const itk::ImageIOBase::Pointer readers[] = {itk::NiftiImageIO::New().GetPointer(),
                                                 itk::NrrdImageIO::New().GetPointer(),
                                                 itk::MetaImageIO::New().GetPointer()};
    for (const auto &io : readers)
        if (io->CanReadFile(path)) return io;
    return nullptr;
}

su_status check_header(itk::ImageIOBase *io, const char *path, su_error *err)
{
    io->SetFileName(path);
    io->ReadImageInformation();
    double voxels = 1;
    for (unsigned a = 0; a < io->GetNumberOfDimensions(); a++) {
        const double n = static_cast<double>(io->GetDimensions(a));
        if (a > 2 && n > 1)
            return su_fail(err, SU_EUNSUPPORTED, "%s: %u dimensions; one volume of three is read", path,
                           io->GetNumberOfDimensions());
        if (n < 1 || n > 65535) return su_fail(err, SU_ELIMIT, "%s: %.0f voxels along axis %u", path, n, a);
        voxels *= n;
    }
    if (io->GetNumberOfComponents() != 1)
        return su_fail(err, SU_EUNSUPPORTED, "%s: %u numbers a voxel; one is read", path,
                       io->GetNumberOfComponents());
    if (voxels > static_cast<double>(SU_VOLUME_MAX_VOXELS))
        return su_fail(err, SU_ELIMIT, "%s: %.0f voxels; at most %lld are read", path, voxels,
                       static_cast<long long>(SU_VOLUME_MAX_VOXELS));
    return SU_OK;
}

template <class T> T number(const unsigned char *at, bool swapped)
{
    unsigned char bytes[sizeof(T)];
    for (std::size_t i = 0; i < sizeof(T); i++) bytes[i] = at[swapped ? sizeof(T) - 1 - i : i];
    T value;
    std::memcpy(&value, bytes, sizeof value);
    return value;
}

// The NIfTI library takes the voxels that a truncated file has not as zeros. A pair's .img is left to it.
su_status check_nifti_length(const itk::ImageIOBase *io, const char *path, su_error *err)
{
    enum { HEADER1 = 348, HEADER2 = 540, CHUNK = 1 << 16 };
    unsigned char header[HEADER2], chunk[CHUNK];
    const auto close = [](gzFile_s *f) { gzclose(f); };
    std::unique_ptr<gzFile_s, decltype(close)> file(gzopen(path, "rb"), close); // plain files, too
    if (!file) return su_fail(err, SU_EIO, "%s: cannot be opened", path);
    const int got = gzread(file.get(), header, HEADER2);
    if (got < HEADER1 + 4) return su_fail(err, SU_EFORMAT, "%s: the header is cut off", path);
    const int32_t length = number<int32_t>(header, false);
    const bool swapped = length != HEADER1 && length != HEADER2;
    const bool second = number<int32_t>(header, swapped) == HEADER2;
    if (second ? header[5] == 'i' : header[345] == 'i')
        return SU_OK; // "ni1", "ni2": voxels in a file of their own
    const double offset = second ? static_cast<double>(number<int64_t>(header + 168, swapped))
                                 : number<float>(header + 108, swapped);
    const double wanted = offset + static_cast<double>(io->GetImageSizeInBytes());
    double there = got;
    for (int n; there < wanted && (n = gzread(file.get(), chunk, CHUNK)) > 0;) there += n;
    if (there >= wanted) return SU_OK;
    return su_fail(err, SU_EFORMAT, "%s: truncated: %.0f of %.0f bytes", path, there, wanted);
}

// The first 64 KiB of a file.
std::string head_of(const char *path)
{
    std::string head(1 << 16, '\0');
    std::unique_ptr<FILE, int (*)(FILE *)> file(std::fopen(path, "rb"), std::fclose);
    head.resize(file ? std::fread(&head[0], 1, head.size(), file.get()) : 0);
    return head;
}

// The value of the header line that begins with `key`, and where the next line begins; "" when there is none.
std::string header_line(const std::string &head, const char *key, const char *separator, std::size_t *after)
{
    for (std::size_t at = 0, end; at < head.size(); at = end + 1) {
        end = head.find('\n', at);
        if (end == std::string::npos) break;
        if (head.compare(at, std::strlen(key), key) != 0) continue;
        const std::size_t split = head.find(separator, at);
        if (split == std::string::npos || split > end) continue;
        const std::size_t from = head.find_first_not_of(" \t", split + std::strlen(separator));
        std::size_t to = end;
        while (to > from && (head[to - 1] == '\r' || head[to - 1] == ' ')) to--;
        *after = end + 1;
        return from < to ? head.substr(from, to - from) : "";
    }
    return "";
}

// A header may name any file as its data: only one beside it is taken, not whatever the user may read.
su_status check_neighbour(const std::string &name, const char *path, su_error *err)
{
    if (name.find('/') == std::string::npos && name.find('%') == std::string::npos && name != "LIST")
        return SU_OK;
    return su_fail(err, SU_EUNSUPPORTED,
                   "%s: its voxels are elsewhere; a single file beside the header is read", path);
}

// MetaIO takes the voxels that a truncated file has not as they happen to be in memory.
su_status check_meta(const itk::ImageIOBase *io, const char *path, su_error *err)
{
    const std::string head = head_of(path);
    const double wanted = static_cast<double>(io->GetImageSizeInBytes());
    std::size_t offset = 0, ignored = 0;
    std::string data = header_line(head, "ElementDataFile", "=", &offset), source = path;
    const bool compressed = header_line(head, "CompressedData ", "=", &ignored).compare(0, 1, "T") == 0;
    if (data != "LOCAL") {
        su_status st = check_neighbour(data, path, err);
        if (st) return st;
        const std::size_t slash = source.rfind('/');
        source = (slash == std::string::npos ? "" : source.substr(0, slash + 1)) + data;
        offset = 0;
    }
    std::unique_ptr<FILE, int (*)(FILE *)> file(std::fopen(source.c_str(), "rb"), std::fclose);
    if (!file) return su_fail(err, SU_ENOTFOUND, "%s: the file of its voxels is not there", path);
    double there = 0;
    if (compressed) {
        unsigned char in[1 << 14], out[1 << 14];
        z_stream z = {};
        if (std::fseek(file.get(), static_cast<long>(offset), SEEK_SET) != 0 || inflateInit2(&z, 47) != Z_OK)
            return su_fail(err, SU_ENOMEM, "%s: no memory to read it", path);
        for (int code = Z_OK; code == Z_OK && there < wanted;) {
            if (z.avail_in == 0) {
                z.avail_in = static_cast<uInt>(std::fread(in, 1, sizeof in, file.get()));
                z.next_in = in;
                if (z.avail_in == 0) break;
            }
            z.next_out = out;
            z.avail_out = sizeof out;
            code = inflate(&z, Z_NO_FLUSH);
            there += static_cast<double>(sizeof out - z.avail_out);
        }
        inflateEnd(&z);
    } else if (std::fseek(file.get(), 0, SEEK_END) == 0) {
        there = static_cast<double>(std::ftell(file.get())) - static_cast<double>(offset);
    }
    if (there >= wanted) return SU_OK;
    return su_fail(err, SU_EFORMAT, "%s: truncated: %.0f of %.0f bytes of voxels", path,
                   there < 0 ? 0 : there, wanted);
}

su_status check_nrrd(const char *path, su_error *err)
{
    const std::string head = head_of(path);
    std::size_t ignored = 0;
    for (const char *key : {"data file", "datafile"}) {
        const std::string data = header_line(head, key, ":", &ignored);
        if (!data.empty() && data.find('\0') == std::string::npos) return check_neighbour(data, path, err);
    }
    return SU_OK;
}

su_status check_length(itk::ImageIOBase *io, const char *path, su_error *err)
{
    if (dynamic_cast<itk::NiftiImageIO *>(io)) return check_nifti_length(io, path, err);
    if (dynamic_cast<itk::MetaImageIO *>(io)) return check_meta(io, path, err);
    return check_nrrd(path, err);
}

// "LPS", where each letter is the side that an axis runs to, in the code that ITK 5.2 keeps: where it comes
// from.
bool orientation_of(const char *code, itk::SpatialOrientation::ValidCoordinateOrientationFlags *flag)
{
    namespace side = itk::SpatialOrientation;
    static const struct {
        char to;
        int term;
    } sides[] = {{'L', side::ITK_COORDINATE_Right},    {'R', side::ITK_COORDINATE_Left},
                 {'P', side::ITK_COORDINATE_Anterior}, {'A', side::ITK_COORDINATE_Posterior},
                 {'S', side::ITK_COORDINATE_Inferior}, {'I', side::ITK_COORDINATE_Superior}};
    static const int shifts[] = {side::ITK_COORDINATE_PrimaryMinor, side::ITK_COORDINATE_SecondaryMinor,
                                 side::ITK_COORDINATE_TertiaryMinor};
    int bits = 0, axes = 0;
    for (int a = 0; a < 3; a++)
        for (int s = 0; s < 6; s++)
            if (code[a] == sides[s].to) {
                bits |= sides[s].term << shifts[a];
                axes |= 1 << (s / 2);
            }
    *flag = static_cast<side::ValidCoordinateOrientationFlags>(bits);
    return axes == 7 && code[3] == '\0';
}

} // namespace

su_status su_itk_read(const char *path, su_volume *out, su_error *err)
{
    return guarded(path, err, [&] {
        itk::ImageIOBase::Pointer io = reader_of(path);
        if (!io) return su_fail(err, SU_EFORMAT, "%s: neither NIfTI nor NRRD nor MetaImage", path);
        su_status st = check_header(io, path, err);
        if (!st) st = check_length(io, path, err);
        if (st) return st;
        using reader = itk::ImageFileReader<image>;
        reader::Pointer r = reader::New();
        r->SetImageIO(io);
        r->SetFileName(path);
        r->Update();
        return give(r->GetOutput(), out, err);
    });
}

su_status su_itk_orient(const su_volume *in, const char *code, su_volume *out, su_error *err)
{
    return guarded("orientation", err, [&] {
        itk::SpatialOrientation::ValidCoordinateOrientationFlags flag;
        if (std::strlen(code) != 3 || !orientation_of(code, &flag))
            return su_fail(err, SU_EINVAL, "an orientation is three letters like LPS or RAS, not '%s'", code);
        using turner = itk::OrientImageFilter<image, image>;
        turner::Pointer t = turner::New();
        t->UseImageDirectionOn();
        t->SetDesiredCoordinateOrientation(flag);
        t->SetInput(borrow(in));
        t->Update();
        return give(t->GetOutput(), out, err);
    });
}

su_status su_itk_resample(const su_volume *in, float beyond, su_volume *out, su_error *err)
{
    return guarded("resampling", err, [&] {
        using resampler = itk::ResampleImageFilter<image, image, double>;
        using linear = itk::LinearInterpolateImageFunction<image, double>;
        resampler::Pointer r = resampler::New();
        image::SizeType size;
        image::SpacingType spacing;
        image::PointType origin;
        image::DirectionType direction;
        for (unsigned a = 0; a < 3; a++) {
            size[a] = static_cast<itk::SizeValueType>(out->size[a]);
            spacing[a] = out->spacing[a];
            origin[a] = out->origin[a];
            for (unsigned b = 0; b < 3; b++) direction[a][b] = out->direction[3 * a + b];
        }
        r->SetSize(size);
        r->SetOutputSpacing(spacing);
        r->SetOutputOrigin(origin);
        r->SetOutputDirection(direction);
        r->SetInterpolator(linear::New());
        r->SetDefaultPixelValue(beyond);
        r->SetInput(borrow(in));
        r->Update();
        return give(r->GetOutput(), out, err);
    });
}
