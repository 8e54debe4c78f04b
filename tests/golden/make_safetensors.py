"""Writes the golden file of tests/base/test_safetensors.c with Python's own safetensors and torch:
    python make_safetensors.py reference.safetensors
Element i of every tensor is i, so that the test can tell; "flags" alternates."""
import sys
import torch
from safetensors.torch import save_file

ramp = lambda dtype, *shape: torch.arange(int(torch.tensor(shape).prod()) if shape else 1).reshape(shape).to(dtype)
tensors = {
    "double": ramp(torch.float64, 2, 3),
    "weight": ramp(torch.float32, 3, 4),
    "half": ramp(torch.float16, 5),
    "brain": ramp(torch.bfloat16, 2, 2),
    "ids": ramp(torch.int64, 4),
    "int": ramp(torch.int32, 3),
    "short": ramp(torch.int16, 3),
    "signed": ramp(torch.int8, 3),
    "bytes": ramp(torch.uint8, 7),
    "flags": torch.arange(3) % 2 == 1,
    "scalar": ramp(torch.float32),
    "empty": torch.zeros(0, 4),
    "naïve 名": ramp(torch.uint8, 1, 1, 1),
}
save_file(tensors, sys.argv[1], metadata={"format": "pt", "note": "made by make_safetensors.py"})
