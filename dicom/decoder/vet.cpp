// Reads a data set as file.cpp would, to see whether that ends well. No type and no exception of C++ leaves
// this file.
#include <new>

#include "dicom/dataset.hpp"

extern "C" {
#include "dicom/codec.h"
#include "dicom/decoder/jpeg.h"
}

void su_codec_prepare(void)
{
    try {
        su_dcmtk::prepare();
        dcmDataDict.rdlock(); // loads the dictionary from the disk
        dcmDataDict.rdunlock();
    } catch (...) {
    }
    su_jpeg_prepare();
}

su_status su_codec_vet(const void *data, uint64_t length, bool implicit, bool big, su_error *err)
{
    try {
        DcmDataset dataset;
        uint64_t at = 0;
        const OFCondition c = su_dcmtk::read(dataset, data, length, implicit, big, &at);
        return c.good() ? SU_OK : su_fail(err, SU_EFORMAT, "damaged: %s", c.text());
    } catch (const std::bad_alloc &) {
        return su_fail(err, SU_ENOMEM, "no memory to read it");
    } catch (...) {
        return su_fail(err, SU_EFORMAT, "damaged");
    }
}
