// The ITK side of volume.h: reading, turning and resampling. No type and no exception of C++ leaves this
// file.
#include <cmath>
#include <cstring>
#include <exception>
#include <memory>
#include <new>
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
        return su_fail(err, SU_EFORMAT, "%s: %s", what, text);
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
        if (!st && dynamic_cast<itk::NiftiImageIO *>(io.GetPointer())) st = check_nifti_length(io, path, err);
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
