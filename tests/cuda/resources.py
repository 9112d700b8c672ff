#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Prints registers, shared memory, stack and spills of every CUDA kernel, from the compiler's report, and fails where a
hot kernel spills or has a stack. Needs nvcc; without it, says so and exits with 77.

    resources.py [--arch sm_90a] [FILE.cu ...]
    resources.py [--arch sm_90a] --log FILE   reads the output of a build that had -Xptxas=-v, and compiles nothing
"""

import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
KERNELS = ROOT / "kernels" / "pavise_kernels" / "cuda"
HOT = re.compile(r"gather_gemm_((fast|bf16)_)?kernel|image_gradient|weight_gradient_(fast_)?kernel|few_rows|GridNoise|quads_kernel|Argmax|CrossEntropy|AddNoise|Draw"
                 r"|winograd|jpeg_blocks|Median|Bilateral|NonLocalMeans|Variation|Resample|AddRandom|Thermometer|[Aa]pgd|RowNorm")
FLAGS = ["-std=c++20", "-O3", "-fmad=false", "-ftz=false", "-prec-div=true", "-prec-sqrt=true",
         "--expt-relaxed-constexpr", "-diag-suppress", "1675", "-Xptxas", "-v"]


def find_nvcc():
    for candidate in (shutil.which("nvcc"), os.environ.get("CUDACXX"), "/usr/local/cuda/bin/nvcc"):
        if candidate and os.access(candidate, os.X_OK):
            return candidate
    return None


def demangle(names):
    if not shutil.which("c++filt"):
        return names
    out = subprocess.run(["c++filt", "-p"], input="\n".join(names), capture_output=True, text=True, check=True).stdout
    return out.splitlines()


def short(name):
    """A kernel's name without namespaces and parameters."""
    name = re.sub(r"pavise::kernels::cuda::|\(anonymous namespace\)::|_NV_ANON_NAMESPACE::|_GLOBAL__N_[\w]*::", "", name)
    name = re.sub(r"^void ", "", name)
    return re.sub(r"\((?:pavise|Unary|Binary|Distribution)[\w:]*\)", "", name)[:70]


def report(nvcc, arch, source):
    with tempfile.TemporaryDirectory() as scratch:
        target = f"-gencode=arch={arch.replace('sm_', 'compute_')},code={arch}"
        command = [nvcc, *FLAGS, target, f"-I{ROOT / 'include'}", f"-I{ROOT / 'kernels'}", "-c", str(source), "-o",
                   f"{scratch}/out.o"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"resources.py: {source.name} does not compile:\n{done.stderr[-3000:]}")
    return parse(done.stderr, arch)


def parse(text, arch):
    """The kernels for `arch` in what ptxas -v printed."""
    kernels, current = [], None
    for line in text.splitlines():
        if found := re.search(r"Compiling entry function '(\S+)' for '(\w+)'", line):
            current = {"name": found[1], "stack": 0, "stores": 0, "loads": 0, "registers": 0, "shared": 0}
            if found[2] == arch:
                kernels.append(current)
        elif current and (found := re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads",
                                             line)):
            current["stack"], current["stores"], current["loads"] = (int(x) for x in found.groups())
        elif current and (found := re.search(r"Used (\d+) registers", line)):
            current["registers"] = int(found[1])
            shared = re.search(r"(\d+) bytes smem", line)
            current["shared"] = int(shared[1]) if shared else 0
    return kernels


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arch", default="sm_90a")
    parser.add_argument("--log", type=pathlib.Path)
    parser.add_argument("files", nargs="*", type=pathlib.Path)
    options = parser.parse_args()
    nvcc = find_nvcc()
    if nvcc is None and options.log is None:
        print("resources.py: skipped, there is no nvcc")
        return 77
    bad, count = [], 0
    print(f"{'kernel (' + options.arch + ')':72} registers  shared  stack  spill stores  spill loads")
    if options.log is not None:
        reports = [parse(options.log.read_text(), options.arch)]
    else:
        reports = (report(nvcc, options.arch, source) for source in options.files or sorted(KERNELS.glob("*.cu")))
    for kernels in reports:
        for k, name in zip(kernels, demangle([k["name"] for k in kernels])):
            count += 1
            hot = HOT.search(k["name"]) is not None
            spills = k["stack"] + k["stores"] + k["loads"] > 0
            print(f"{short(name):72} {k['registers']:9}  {k['shared']:6}  {k['stack']:5}  {k['stores']:12}  {k['loads']:11}"
                  + ("  SPILLS" if hot and spills else ""))
            if hot and spills:
                bad.append(short(name))
    if count == 0:
        print("resources.py: no kernel found")
        return 1
    if bad:
        print(f"FAILED: {len(bad)} hot kernels spill: " + "; ".join(bad))
        return 1
    print(f"{count} kernels, no hot one spills")
    return 0


if __name__ == "__main__":
    sys.exit(main())
