"""Writes small DICOM files (PS3.10, Explicit VR Little Endian) with nothing but Python's standard library.

    dicomfile.write("x.dcm", {"Modality": "CT", "Rows": 4, ...}, pixels=bytes)

For the demo and the tests. Attributes are given by keyword; what is not in TAGS as a tuple (group, element, VR). Values are
strings, numbers or lists of them, bytes, or for sequences lists of dictionaries. Nothing is checked: a test may want to
write nonsense.
"""
import hashlib
import struct

TAGS = {
    "SpecificCharacterSet": (0x0008, 0x0005, "CS"), "ImageType": (0x0008, 0x0008, "CS"),
    "SOPClassUID": (0x0008, 0x0016, "UI"), "SOPInstanceUID": (0x0008, 0x0018, "UI"),
    "StudyDate": (0x0008, 0x0020, "DA"), "StudyTime": (0x0008, 0x0030, "TM"),
    "AccessionNumber": (0x0008, 0x0050, "SH"), "Modality": (0x0008, 0x0060, "CS"),
    "ReferringPhysicianName": (0x0008, 0x0090, "PN"), "StudyDescription": (0x0008, 0x1030, "LO"),
    "SeriesDescription": (0x0008, 0x103E, "LO"),
    "CodeValue": (0x0008, 0x0100, "SH"), "CodingSchemeDesignator": (0x0008, 0x0102, "SH"), "CodeMeaning": (0x0008, 0x0104, "LO"),
    "PatientName": (0x0010, 0x0010, "PN"), "PatientID": (0x0010, 0x0020, "LO"), "PatientBirthDate": (0x0010, 0x0030, "DA"),
    "PatientSex": (0x0010, 0x0040, "CS"), "OtherPatientIDs": (0x0010, 0x1000, "LO"),
    "BodyPartExamined": (0x0018, 0x0015, "CS"), "SliceThickness": (0x0018, 0x0050, "DS"),
    "SpacingBetweenSlices": (0x0018, 0x0088, "DS"), "GantryDetectorTilt": (0x0018, 0x1120, "DS"),
    "ImagerPixelSpacing": (0x0018, 0x1164, "DS"), "ViewPosition": (0x0018, 0x5101, "CS"),
    "SequenceOfUltrasoundRegions": (0x0018, 0x6011, "SQ"), "PhysicalUnitsXDirection": (0x0018, 0x6024, "US"),
    "PhysicalUnitsYDirection": (0x0018, 0x6026, "US"), "PhysicalDeltaX": (0x0018, 0x602C, "FD"),
    "PhysicalDeltaY": (0x0018, 0x602E, "FD"),
    "StudyInstanceUID": (0x0020, 0x000D, "UI"), "SeriesInstanceUID": (0x0020, 0x000E, "UI"),
    "StudyID": (0x0020, 0x0010, "SH"), "SeriesNumber": (0x0020, 0x0011, "IS"), "InstanceNumber": (0x0020, 0x0013, "IS"),
    "ImagePositionPatient": (0x0020, 0x0032, "DS"), "ImageOrientationPatient": (0x0020, 0x0037, "DS"),
    "FrameOfReferenceUID": (0x0020, 0x0052, "UI"),
    "PlanePositionSequence": (0x0020, 0x9113, "SQ"), "PlaneOrientationSequence": (0x0020, 0x9116, "SQ"),
    "SamplesPerPixel": (0x0028, 0x0002, "US"), "PhotometricInterpretation": (0x0028, 0x0004, "CS"),
    "PlanarConfiguration": (0x0028, 0x0006, "US"), "NumberOfFrames": (0x0028, 0x0008, "IS"),
    "Rows": (0x0028, 0x0010, "US"), "Columns": (0x0028, 0x0011, "US"), "PixelSpacing": (0x0028, 0x0030, "DS"),
    "BitsAllocated": (0x0028, 0x0100, "US"), "BitsStored": (0x0028, 0x0101, "US"), "HighBit": (0x0028, 0x0102, "US"),
    "PixelRepresentation": (0x0028, 0x0103, "US"), "PixelPaddingValue": (0x0028, 0x0120, "US"),
    "PixelPaddingRangeLimit": (0x0028, 0x0121, "US"), "BurnedInAnnotation": (0x0028, 0x0301, "CS"),
    "WindowCenter": (0x0028, 0x1050, "DS"), "WindowWidth": (0x0028, 0x1051, "DS"),
    "RescaleIntercept": (0x0028, 0x1052, "DS"), "RescaleSlope": (0x0028, 0x1053, "DS"), "RescaleType": (0x0028, 0x1054, "LO"),
    "VOILUTFunction": (0x0028, 0x1056, "CS"),
    "RedPaletteColorLookupTableDescriptor": (0x0028, 0x1101, "US"),
    "GreenPaletteColorLookupTableDescriptor": (0x0028, 0x1102, "US"),
    "BluePaletteColorLookupTableDescriptor": (0x0028, 0x1103, "US"),
    "RedPaletteColorLookupTableData": (0x0028, 0x1201, "OW"), "GreenPaletteColorLookupTableData": (0x0028, 0x1202, "OW"),
    "BluePaletteColorLookupTableData": (0x0028, 0x1203, "OW"),
    "SegmentedRedPaletteColorLookupTableData": (0x0028, 0x1221, "OW"),
    "SegmentedGreenPaletteColorLookupTableData": (0x0028, 0x1222, "OW"),
    "SegmentedBluePaletteColorLookupTableData": (0x0028, 0x1223, "OW"),
    "ModalityLUTSequence": (0x0028, 0x3000, "SQ"), "LUTDescriptor": (0x0028, 0x3002, "US"), "LUTData": (0x0028, 0x3006, "US"),
    "VOILUTSequence": (0x0028, 0x3010, "SQ"), "PixelMeasuresSequence": (0x0028, 0x9110, "SQ"),
    "FrameVOILUTSequence": (0x0028, 0x9132, "SQ"), "PixelValueTransformationSequence": (0x0028, 0x9145, "SQ"),
    "ValueType": (0x0040, 0xA040, "CS"), "RelationshipType": (0x0040, 0xA010, "CS"),
    "ConceptNameCodeSequence": (0x0040, 0xA043, "SQ"), "TextValue": (0x0040, 0xA160, "UT"),
    "PersonName": (0x0040, 0xA123, "PN"), "CompletionFlag": (0x0040, 0xA491, "CS"),
    "VerificationFlag": (0x0040, 0xA493, "CS"), "ContentSequence": (0x0040, 0xA730, "SQ"),
    "ContinuityOfContent": (0x0040, 0xA050, "CS"), "ConceptCodeSequence": (0x0040, 0xA168, "SQ"),
    "PresentationLUTShape": (0x2050, 0x0020, "CS"),
    "SharedFunctionalGroupsSequence": (0x5200, 0x9229, "SQ"), "PerFrameFunctionalGroupsSequence": (0x5200, 0x9230, "SQ"),
    "PixelData": (0x7FE0, 0x0010, "OW"),
}
NUMBERS = {"US": "<H", "SS": "<h", "UL": "<I", "SL": "<i", "FL": "<f", "FD": "<d"}
LONG = {"OB", "OW", "OF", "OD", "SQ", "UN", "UT", "UC", "UR"}


def uid(*parts):
    """A UID that is a function of its parts: 2.25. and a number of 122 bits [PS3.5 B.2]."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return "2.25." + str(int.from_bytes(digest[:15], "big"))


def value_bytes(vr, value):
    if vr == "SQ":
        items = [data_set(item) for item in value]
        return b"".join(struct.pack("<HHI", 0xFFFE, 0xE000, len(item)) + item for item in items)
    if isinstance(value, bytes):
        return value + b"\0" * (len(value) % 2)
    values = value if isinstance(value, (list, tuple)) else [value]
    if vr in NUMBERS:
        return b"".join(struct.pack(NUMBERS[vr], v) for v in values)
    text = "\\".join(v if isinstance(v, str) else repr(v) for v in values).encode("utf-8")
    return text + (b"\0" if vr == "UI" else b" ") * (len(text) % 2)


def element(group, number, vr, value):
    data = value_bytes(vr, value)
    if vr in LONG:
        return struct.pack("<HH2sHI", group, number, vr.encode(), 0, len(data)) + data
    return struct.pack("<HH2sH", group, number, vr.encode(), len(data)) + data


def data_set(attributes):
    elements = []
    for name, value in attributes.items():
        group, number, vr = name if isinstance(name, tuple) else TAGS[name]
        elements.append((group, number, vr, value))
    return b"".join(element(*e) for e in sorted(elements, key=lambda e: e[:2]))


def encode(attributes, pixels=None):
    attributes = dict(attributes)
    if pixels is not None:
        attributes["PixelData"] = pixels
    meta = {(0x0002, 0x0001, "OB"): b"\0\1", (0x0002, 0x0002, "UI"): attributes.get("SOPClassUID", "1.2.840.10008.5.1.4.1.1.7"),
            (0x0002, 0x0003, "UI"): attributes.get("SOPInstanceUID", "2.25.1"),
            (0x0002, 0x0010, "UI"): "1.2.840.10008.1.2.1", (0x0002, 0x0012, "UI"): "2.25.326463104463947"}
    head = data_set(meta)
    return b"\0" * 128 + b"DICM" + element(0x0002, 0x0000, "UL", len(head)) + head + data_set(attributes)


def write(path, attributes, pixels=None):
    with open(path, "wb") as f:
        f.write(encode(attributes, pixels))


def image(rows, columns, bits=16, signed=False, photometric="MONOCHROME2", samples=1, **more):
    """What every picture says of its pixels."""
    allocated = 8 if bits <= 8 else 16 if bits <= 16 else 32
    attributes = {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7", "SOPInstanceUID": uid("image", rows, columns, bits, more),
                  "Modality": "OT", "SamplesPerPixel": samples, "PhotometricInterpretation": photometric, "Rows": rows,
                  "Columns": columns, "BitsAllocated": allocated, "BitsStored": bits, "HighBit": bits - 1,
                  "PixelRepresentation": int(signed)}
    if samples == 3:
        attributes["PlanarConfiguration"] = 0
    attributes.update(more)
    return attributes
