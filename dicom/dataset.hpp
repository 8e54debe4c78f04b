// Reading a data set's elements with DCMTK: in file.cpp, and in a worker before that (decoder/vet.cpp).
#ifndef SU_DICOM_DATASET_HPP
#define SU_DICOM_DATASET_HPP

#include <cstdint>

#include <dcmtk/config/osconfig.h>
#include <dcmtk/dcmdata/dcistrmb.h>
#include <dcmtk/dcmdata/dctk.h>
#include <dcmtk/oflog/oflog.h>

namespace su_dcmtk
{

inline void prepare()
{
    static const bool once = [] {
        OFLog::configure(OFLogger::OFF_LOG_LEVEL);
        dcmEnableUnknownVRConversion.set(OFTrue); // UN elements of known tags are read as what they are
        return true;
    }();
    (void)once;
}

// *at: how far it came.
inline OFCondition read(DcmDataset &dataset, const void *bytes, uint64_t length, bool implicit, bool big,
                        uint64_t *at)
{
    const E_TransferSyntax syntax = implicit ? (big ? EXS_BigEndianImplicit : EXS_LittleEndianImplicit)
                                    : big    ? EXS_BigEndianExplicit
                                             : EXS_LittleEndianExplicit;
    prepare();
    DcmInputBufferStream stream;
    stream.setBuffer(bytes, static_cast<offile_off_t>(length));
    stream.setEos();
    dataset.transferInit();
    const OFCondition c = dataset.read(stream, syntax, EGL_noChange, DCM_MaxReadLength);
    dataset.transferEnd();
    *at = static_cast<uint64_t>(stream.tell());
    return c;
}

} // namespace su_dcmtk

#endif
