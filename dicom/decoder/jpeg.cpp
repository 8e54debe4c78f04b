// DCMTK's JPEG decoders, one frame at a time. No type and no exception of C++ leaves this file.
#include <cstring>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include <dcmtk/config/osconfig.h>
#include <dcmtk/dcmjpeg/djcparam.h>
#include <dcmtk/dcmjpeg/djdijg12.h>
#include <dcmtk/dcmjpeg/djdijg16.h>
#include <dcmtk/dcmjpeg/djdijg8.h>
#include <dcmtk/oflog/appender.h>
#include <dcmtk/oflog/oflog.h>
#include <dcmtk/oflog/spi/logevent.h>

extern "C" {
#include "dicom/decoder/jpeg.h"
}

namespace
{

std::string complaint; // what the library said of damaged data, and went on

// IJG's library makes up what it cannot read, and only warns. Warnings of mere oddities (another version of
// JFIF, bytes too many) are no damage.
class Complaints : public dcmtk::log4cplus::Appender
{
  public:
    void close() override {}

    ~Complaints() override { destructorImpl(); }

  protected:
    void append(const dcmtk::log4cplus::spi::InternalLoggingEvent &event) override
    {
        static const char *const damage[] = {"premature end", "Premature end", "bad Huffman code",
                                             "restart marker", "bad arithmetic"};
        const std::string text = event.getMessage().c_str();
        for (const char *d : damage)
            if (complaint.empty() && text.find(d) != std::string::npos) complaint = text;
    }
};

std::unique_ptr<DJDecoder> decoder_of(int precision, const DJCodecParameter &parameters)
{
    if (precision <= 8) return std::make_unique<DJDecompressIJG8Bit>(parameters, OFFalse);
    if (precision <= 12) return std::make_unique<DJDecompressIJG12Bit>(parameters, OFFalse);
    return std::make_unique<DJDecompressIJG16Bit>(parameters, OFFalse);
}

template <class From, class To> void widen(const void *in, void *out, size_t values)
{
    for (size_t i = values; i-- > 0;) static_cast<To *>(out)[i] = static_cast<const From *>(in)[i];
}

su_status decode(const uint8_t *data, size_t length, size_t values, int bytes, int precision, void *out,
                 su_error *err)
{
    static const DJCodecParameter parameters(ECC_lossyRGB, EDC_never, EUC_default, EPC_colorByPixel);
    const size_t made = precision <= 8 ? 1 : 2;
    complaint.clear();
    if (made > static_cast<size_t>(bytes) || length > UINT32_MAX)
        return su_fail(err, SU_EFORMAT, "JPEG: samples of %d bits", precision);
    const std::unique_ptr<DJDecoder> d = decoder_of(precision, parameters);
    OFCondition c = d->init();
    // Fewer bytes than the values' words take are decoded to their front, and widened in place.
    if (c.good())
        c = d->decode(const_cast<Uint8 *>(data), static_cast<Uint32>(length), static_cast<Uint8 *>(out),
                      static_cast<Uint32>(values * made), OFFalse);
    if (c == EJ_Suspension) return su_fail(err, SU_EFORMAT, "JPEG: truncated");
    if (c.bad()) return su_fail(err, c == EC_MemoryExhausted ? SU_ENOMEM : SU_EFORMAT, "JPEG: %s", c.text());
    if (!complaint.empty()) return su_fail(err, SU_EFORMAT, "JPEG: %s", complaint.c_str());
    if (made == 1 && bytes == 2) widen<uint8_t, uint16_t>(out, out, values);
    if (made == 1 && bytes == 4) widen<uint8_t, uint32_t>(out, out, values);
    if (made == 2 && bytes == 4) widen<uint16_t, uint32_t>(out, out, values);
    return SU_OK;
}

} // namespace

void su_jpeg_prepare(void)
{
    using namespace dcmtk::log4cplus;
    try {
        OFLog::configure(OFLogger::OFF_LOG_LEVEL);
        Logger jpeg = Logger::getInstance("dcmtk.dcmjpeg");
        jpeg.setLogLevel(WARN_LOG_LEVEL);
        jpeg.setAdditivity(false);
        jpeg.addAppender(SharedAppenderPtr(new Complaints));
    } catch (...) {
    }
}

su_status su_jpeg_decode(const uint8_t *data, size_t length, int32_t rows, int32_t columns, int32_t samples,
                         int bytes, int precision, void *out, su_error *err)
{
    const size_t values =
        static_cast<size_t>(rows) * static_cast<size_t>(columns) * static_cast<size_t>(samples);
    try {
        return decode(data, length, values, bytes, precision, out, err);
    } catch (const std::bad_alloc &) {
        return su_fail(err, SU_ENOMEM, "JPEG: no memory");
    } catch (...) {
        return su_fail(err, SU_EFORMAT, "JPEG: damaged");
    }
}
