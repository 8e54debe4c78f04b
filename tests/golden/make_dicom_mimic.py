#!/usr/bin/env python3
"""What MIMIC-CXR-JPG's recipe makes of generated frames, by NumPy and OpenCV's equalizeHist: tests/golden/dicom_mimic.npz.

    python3 make_dicom_mimic.py      (needs opencv-python-headless)
"""
import pathlib

import cv2
import numpy as np

store = {}
for i, (low, high, inverted) in enumerate([(0, 4095, False), (300, 1200, True), (0, 65535, False), (5, 6, True), (7, 7, False)]):
    rng = np.random.default_rng(i)
    frame = np.clip(rng.normal((low + high) / 2, (high - low) / 5 + 0.1, (40, 50)), low, high).astype(np.uint16)
    x = frame.astype(float) - frame.min()
    x = (x / x.max() * 255 if x.max() else x).astype(np.uint8)
    if inverted:
        x = 255 - x
    store[f"{i}/frame"], store[f"{i}/inverted"] = frame, np.array(inverted)
    store[f"{i}/levels"] = cv2.equalizeHist(x)
np.savez_compressed(pathlib.Path(__file__).parent / "dicom_mimic.npz", **store)
