#!/usr/bin/env python3
"""Compiles kernels for GPUs that need not be here, and holds them to a budget of registers, stack and spills.

    python3 budget.py NVCC SOURCE_DIR ARCHITECTURES [FILE.cu ...]      sm_80,sm_90,sm_90a; every file of nn/cuda

A kernel keeps at most 16 bytes on the stack (four spilled registers, but no array that is indexed at run time), and
takes registers that let its largest block start: 65,536 / threads. Its products by wgmma go on side by side.
"""
import pathlib
import re
import subprocess
import sys

# Threads of the largest block of those kernels that have more than 256, and of those that have few.
THREADS = {
    "add_list": 1024, "sum_of_parts": 256, "cu_most": 1024, "cu_loss": 1024, "sort_scan": 1024,
    "norm_forward": 512, "norm_forward_warps": 128, "norm_backward_rows": 512, "norm_backward_warps": 128, "column_totals": 1024,
    "attention_forward": 128, "attention_dq": 128, "attention_dkv": 128, "attention_rows": 128, "attend_head": 128,
    "attention_short_forward": 384, "attention_hopper_forward": 512, "attention_hopper_backward": 512,  # two blocks of 256 a processor
}
STACK_BYTES = 16
FIRST = re.compile(r"Compiling entry function '(\S+)' for '(\S+)'")
STACK = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
USED = re.compile(r"Used (\d+) registers")
SERIAL = re.compile(r"\(C75\d\d\) Potential Performance Loss: (.*?) in (?:the )?function '(\S+)'")  # wgmma waits for each wgmma


def kernel_name(mangled):
    match = re.match(r"_Z(\d+)", mangled)
    return mangled[match.end():match.end() + int(match[1])] if match else mangled


def over_budget(report):
    """(kernels seen, what is over the budget) of ptxas's report."""
    seen, found, name, where = 0, [], None, None
    for line in report.splitlines():
        if match := SERIAL.search(line):
            found.append(f"{match[2]}: {match[1]}")
        elif match := FIRST.search(line):
            name, where = match[1], match[2]
        elif (match := STACK.search(line)) and name:
            if int(match[1]) > STACK_BYTES:
                found.append(f"{name} for {where}: {match[0]}")
        elif (match := USED.search(line)) and name:
            seen += 1
            limit = min(255, 65536 // THREADS.get(kernel_name(name), 256))
            if int(match[1]) > limit:
                found.append(f"{name} for {where}: {match[1]} registers, {limit} allowed")
            name = None
    return seen, found


def main():
    nvcc, source, architectures, *files = sys.argv[1:]
    root = pathlib.Path(source)
    paths = [root / "nn/cuda" / f for f in files] or sorted((root / "nn/cuda").glob("*.cu"))
    failed = False
    for path in paths:
        for sm in architectures.split(","):
            code = f"-gencode=arch={sm.replace('sm_', 'compute_')},code={sm}"
            command = [nvcc, "-std=c++17", "-O3", "-Xptxas=-v", code, f"-I{root}", "-cubin", str(path), "-o", "/dev/null"]
            run = subprocess.run(command, capture_output=True, text=True)
            seen, found = over_budget(run.stderr)
            if run.returncode or (seen == 0 and "__global__" in path.read_text()): # those of a header may be seen besides
                found.append(f"{path.name} for {sm} does not compile, or its kernels were not seen:\n{run.stderr[-2000:]}")
            print(f"{path.name:24} {sm:7} {seen:3} kernels" + "".join(f"\n    {f}" for f in found), flush=True)
            failed |= bool(found)
    return failed


if __name__ == "__main__":
    _, bad = over_budget("Compiling entry function '_Z3onei' for 'sm_90'\n24 bytes stack frame, 4 bytes spill stores, "
                         "4 bytes spill loads\nUsed 257 registers\nptxas info    : (C7511) Potential Performance Loss: "
                         "wgmma.mma_async instructions are serialized due to x in the function '_Z3onei'\n")
    assert len(bad) == 3, bad  # the check itself can fail
    sys.exit(main())
