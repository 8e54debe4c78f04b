#!/usr/bin/env python3
"""Seeds of the fuzzer for what tests/golden/dicom does not hold: tables, functional groups, palettes, reports.

    python3 tests/dicom/make_seeds.py      (writes tests/dicom/seeds)
"""
import pathlib
import struct
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent / "scripts"))
import dicomfile  # noqa: E402


def words(values):
    return struct.pack(f"<{len(values)}H", *values)


def table(first, count, bits, values):
    return [{"LUTDescriptor": [count, first, bits], "LUTData": values}]


def code(meaning):
    return [{"CodeValue": "1", "CodingSchemeDesignator": "99T", "CodeMeaning": meaning}]


def tables():
    image = dicomfile.image(8, 8, bits=12, photometric="MONOCHROME1", Modality="DX", PixelPaddingValue=0, PixelPaddingRangeLimit=3,
                            ImagerPixelSpacing=[0.2, 0.1], ModalityLUTSequence=table(0, 16, 8, [17 * i for i in range(16)]),
                            VOILUTSequence=table(0, 16, 12, [256 * i for i in range(16)]), PresentationLUTShape="INVERSE")
    return dicomfile.encode(image, words([i % 16 for i in range(64)]))


def groups():
    frames = [{"PixelMeasuresSequence": [{"PixelSpacing": [0.5, 0.5], "SliceThickness": 2}], "PlanePositionSequence": [{"ImagePositionPatient": [0, 0, 2 * i]}],
               "FrameVOILUTSequence": [{"WindowCenter": [40, 0], "WindowWidth": [400, 0], "VOILUTFunction": ["LINEAR_EXACT", "SIGMOID"][i]}],
               "PixelValueTransformationSequence": [{"RescaleIntercept": -1024, "RescaleSlope": 1 + i}]} for i in range(2)]
    shared = [{"PlaneOrientationSequence": [{"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}]}]
    image = dicomfile.image(4, 4, bits=16, signed=True, Modality="CT", NumberOfFrames="2", SpecificCharacterSet="ISO_IR 100",
                            SharedFunctionalGroupsSequence=shared, PerFrameFunctionalGroupsSequence=frames)
    return dicomfile.encode(image, words(range(32)))


def palette():
    names = ["Red", "Green", "Blue"]
    segments = [[0, 1, 0, 1, 255, 65535], [0, 1, 65535, 1, 255, 0], [0, 2, 32768, 32768, 0, 62] + [32768] * 62 + [2, 2, 0, 0] * 3]
    image = dicomfile.image(8, 8, bits=8, photometric="PALETTE COLOR", **{f"{n}PaletteColorLookupTableDescriptor": [256, 0, 16] for n in names},
                            **{f"Segmented{n}PaletteColorLookupTableData": words(s) for n, s in zip(names, segments)})
    return dicomfile.encode(image, bytes(range(64)))


def report():
    def text(name, value):
        return {"RelationshipType": "CONTAINS", "ValueType": "TEXT", "ConceptNameCodeSequence": code(name), "TextValue": value}
    section = {"RelationshipType": "CONTAINS", "ValueType": "CONTAINER", "ConceptNameCodeSequence": code("Impression"),
               "ContentSequence": [text("Impression", "No fracture."),
                                   {"RelationshipType": "CONTAINS", "ValueType": "CODE", "ConceptNameCodeSequence": code("Finding"), "ConceptCodeSequence": code("normal")}]}
    return dicomfile.encode({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.88.11", "SOPInstanceUID": "2.25.1", "Modality": "SR", "SpecificCharacterSet": "ISO_IR 192",
                             "ValueType": "CONTAINER", "ContentSequence": [text("Findings", "Lungs are cl\u00e4r."), section]})


OPEN_I = ('<?xml version="1.0"?><eCitation><MedlineCitation><Abstract><AbstractText Label="FINDINGS">Heart &amp; lungs\n normal.</AbstractText>'
          '<AbstractText Label="COMPARISON"/></Abstract></MedlineCitation><MeSH>normal</MeSH></eCitation>')
CDA = ('<ClinicalDocument xmlns="urn:hl7-org:v3"><recordTarget>A</recordTarget><component><structuredBody><section><title>Findings</title>'
       '<text>No <content>fracture</content>.<paragraph><![CDATA[No gas.]]></paragraph></text></section></structuredBody></component></ClinicalDocument>')

if __name__ == "__main__":
    folder = HERE / "seeds"
    folder.mkdir(exist_ok=True)
    for name, data in (("tables.dcm", tables()), ("groups.dcm", groups()), ("palette.dcm", palette()), ("report.dcm", report()),
                       ("open_i.xml", OPEN_I.encode()), ("cda.xml", CDA.encode())):
        (folder / name).write_bytes(data)
