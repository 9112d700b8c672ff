#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs Pavise's filters and OpenCV's, SciPy's, NumPy's and Pillow's on the same images, in alternation.

    cmake --preset release && cmake --build build/release --target pavise_benchmark_filters
    python3 benchmarks/compare_filters.py                prints the table and writes benchmarks/FILTERS.md
    python3 benchmarks/compare_filters.py --only jpeg    the filters whose name contains this; writes nothing

The images are a batch of grey ones of 28x28 (Fashion-MNIST, of Debian's dataset-fashion-mnist) and one of colour images
of 32x32 (from a tar archive of pictures such as CIFAR-10's, given with --colour; else smooth random ones). Pavise's images lie in
lanes, as floats, which is how a filter finds them in front of a model (`dense` of the program times the way from rows of
floats and back as well); the others go through the batch image by image, in the type that they are made for and with its
images ready in memory, by one loop or by one in each of as many threads as Pavise has (OpenCV then uses one
itself), whichever is faster. Where several packages have the filter, the fastest counts. `libjpeg` is libjpeg-turbo
called from C++ in as many threads: encoding and decoding. A round is a fraction of a second of each side in turn; of
several rounds the best and the median time count. The packages: pip install numpy scipy opencv-python-headless pillow.
"""

import argparse
import datetime
import gzip
import io
import json
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from compare import ROOT, compiler_of, machine, output_of
from results import markdown_table

HERE = Path(__file__).resolve().parent
GREY = Path("/usr/share/datasets/fashion-mnist/t10k-images-idx3-ubyte.gz")

try:
    import cv2
    import numpy as np
    import scipy
    import scipy.ndimage
    from PIL import Image, ImageOps
    import PIL
except ImportError as missing:
    sys.exit(f"compare_filters.py: {missing}; pip install numpy scipy opencv-python-headless pillow")


def load_grey(count):
    data = np.frombuffer(gzip.open(GREY).read(), np.uint8, offset=16)
    return np.ascontiguousarray(data.reshape(-1, 28, 28, 1)[:count])


def load_colour(count, archive):
    if archive is None:
        noise = np.random.default_rng(0).uniform(0, 1, (count, 32, 32, 3))
        smooth = scipy.ndimage.gaussian_filter(noise, (0, 2, 2, 0.5))
        return np.clip((smooth - 0.5) * 1500 + 128, 0, 255).astype(np.uint8)
    images = []
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.isfile() and member.name.lower().endswith((".jpg", ".jpeg", ".png")):
                images.append(np.array(Image.open(tar.extractfile(member)).convert("RGB")))
                if len(images) == count:
                    break
    return np.stack(images)


def pillow_jpeg(image):
    file = io.BytesIO()
    Image.fromarray(image.squeeze()).save(file, "JPEG", quality=75)
    return np.asarray(Image.open(file))


def resize_pad(image, rng=np.random.default_rng(0)):
    side = image.shape[0]
    size = int(rng.integers(side - 4, side))
    out = np.zeros_like(image)
    top, left = rng.integers(0, side - size + 1, 2)
    small = cv2.resize(image, (size, size), interpolation=cv2.INTER_NEAREST)
    out[top:top + size, left:left + size] = small.reshape(size, size, -1)
    return out


def thermometer(image):
    return (image[..., None] > np.arange(16, dtype=np.float32) / 16).astype(np.float32)


GENERATOR = np.random.default_rng(0)
# Filter, the ratio that the project asks of itself, and the peers: package, images' type, function of one image.
CASES = [
    ("bit-depth:4", 10, [("NumPy", "float", lambda x: np.rint(x * np.float32(15)) / np.float32(15)),
                         ("Pillow", "pillow", lambda x: ImageOps.posterize(x, 4))]),
    ("median:2", 10, [("SciPy", "byte", lambda x: scipy.ndimage.median_filter(x, (2, 2, 1), mode="reflect"))]),
    ("median:3", 10, [("OpenCV", "byte", lambda x: cv2.medianBlur(x, 3)),
                      ("SciPy", "byte", lambda x: scipy.ndimage.median_filter(x, (3, 3, 1), mode="reflect"))]),
    ("median:5", 10, [("OpenCV", "byte", lambda x: cv2.medianBlur(x, 5))]),
    ("gaussian-blur:1", 10, [("OpenCV", "float", lambda x: cv2.GaussianBlur(x, (9, 9), 1)),
                             ("SciPy", "float", lambda x: scipy.ndimage.gaussian_filter(x, (1, 1, 0), mode="reflect"))]),
    ("bilateral:5-0.1-2", 10, [("OpenCV", "float", lambda x: cv2.bilateralFilter(x, 5, 0.1, 2)),
                               ("OpenCV, bytes", "byte", lambda x: cv2.bilateralFilter(x, 5, 25.5, 2))]),
    ("nlm:11-3-4", 10, [("OpenCV", "byte", lambda x: cv2.fastNlMeansDenoising(x, None, 4, 3, 11) if x.shape[2] == 1
                         else cv2.fastNlMeansDenoisingColored(x, None, 4, 4, 3, 11))]),
    ("jpeg:75", 3, [("libjpeg", "libjpeg", None), ("Pillow", "byte", pillow_jpeg),
                    ("OpenCV", "byte", lambda x: cv2.imdecode(
                        cv2.imencode(".jpg", x, [cv2.IMWRITE_JPEG_QUALITY, 75])[1], cv2.IMREAD_UNCHANGED))]),
    ("gaussian-noise:0.1", 10, [("NumPy", "float", lambda x: x + np.float32(0.1) *
                                 GENERATOR.standard_normal(x.shape, dtype=np.float32))]),
    ("uniform-noise:0.1", 10, [("NumPy", "float", lambda x: x + np.float32(0.2) *
                                (GENERATOR.random(x.shape, dtype=np.float32) - np.float32(0.5)))]),
    ("resize-pad:24", 10, [("OpenCV", "float", resize_pad)]),
    ("thermometer:16", 10, [("NumPy", "float", thermometer)]),
    ("tv:0.03", None, []),
]


class Pavise:
    """The benchmark program on one batch; answers lines with JSON."""

    def __init__(self, program, file, images, threads):
        count, height, width, channels = images.shape
        images.transpose(0, 3, 1, 2).tofile(file)
        self.process = subprocess.Popen([program, file, str(count), str(channels), str(height), str(width)],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        env={"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "passive"})

    def ask(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        if "error" in answer:
            sys.exit(f"compare_filters.py: {line}: {answer['error']}")
        return answer["samples"]

    def close(self):
        self.process.stdin.write("quit\n")
        self.process.stdin.flush()
        self.process.wait()


def peer_samples(function, images, threads, seconds, pool):
    """Times of the whole batch, image by image; in one loop, or in one for each of several threads."""
    def loop(part):
        for image in part:
            function(image)

    chunks = [images[i::threads] for i in range(threads)]
    times = []
    end = time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        start = time.perf_counter()
        if pool is None:
            loop(images)
        else:
            list(pool.map(loop, chunks))
        times.append(time.perf_counter() - start)
    return times


def measure(case, images, pavise, arguments):
    name, required, peers = case
    forms = {"byte": list(images), "float": list(images.astype(np.float32) / 255),
             "pillow": [Image.fromarray(image.squeeze()) for image in images]}
    ours = []
    theirs = {}
    with ThreadPoolExecutor(arguments.threads) as pool:
        for _ in range(arguments.rounds):
            ours += pavise.ask(f"time {name} {arguments.seconds}")
            for package, form, function in peers:
                if form == "libjpeg":
                    theirs.setdefault(package, []).extend(pavise.ask(f"libjpeg 75 {arguments.seconds}"))
                    continue
                for label, with_pool in ((package, None), (f"{package}, threads", pool)):
                    cv2.setNumThreads(arguments.threads if with_pool is None else 1)
                    theirs.setdefault(label, []).extend(
                        peer_samples(function, forms[form], arguments.threads, arguments.seconds, with_pool))
    best = {label: min(times) for label, times in theirs.items()}
    median = {label: statistics.median(times) for label, times in theirs.items()}
    fastest = min(best, key=best.get) if best else None
    # JPEG is asked to beat libjpeg itself; Python's wrappers around it are slower.
    return {"name": name, "required": required, "count": len(images), "ours_best": min(ours),
            "ours_median": statistics.median(ours), "peer": fastest, "peer_best": best.get(fastest),
            "peer_median": min(median.values()) if median else None, "shape": images.shape[1:]}


HEADER = ["filter", "images", "Pavise best / median", "fastest other best / median", "which", "ratio best / median",
          "required"]


def cells(row):
    def micro(value):
        return "-" if value is None else f"{value / row['count'] * 1e6:.2f}"

    ratio = "-"
    if row["peer"]:
        ratio = f"{row['peer_best'] / row['ours_best']:.1f} / {row['peer_median'] / row['ours_median']:.1f}"
    height, width, channels = row["shape"]
    return [row["name"], f"{width}x{height}x{channels}", f"{micro(row['ours_best'])} / {micro(row['ours_median'])}",
            f"{micro(row['peer_best'])} / {micro(row['peer_median'])}", row["peer"] or "-", ratio,
            f"{row['required']}x" if row["required"] else "-"]


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="TEXT", help="filters whose name contains this; writes nothing")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.15, help="of one side in a round, at least one batch")
    parser.add_argument("--count", type=int, default=512, help="images of a batch")
    parser.add_argument("--threads", type=int, default=2, help="on each side")
    parser.add_argument("--colour", metavar="TAR", help="an archive of colour pictures of one size")
    parser.add_argument("--program", help="benchmarks/filters, as built (default: the newest in build*)")
    parser.add_argument("--out", help="write the page here")
    arguments = parser.parse_args()
    if not arguments.program:
        found = [path for pattern in ("build*/benchmarks", "build/*/benchmarks") for path in ROOT.glob(f"{pattern}/filters")]
        if not found:
            sys.exit("compare_filters.py: build the program with\n  cmake --preset release && cmake --build build/release "
                     "--target pavise_benchmark_filters\nor give its path with --program")
        arguments.program = str(max(found, key=lambda path: path.stat().st_mtime))
    if not any(arguments.only in case[0] for case in CASES):
        sys.exit(f"compare_filters.py: no filter contains {arguments.only}; there are {', '.join(c[0] for c in CASES)}")
    if not GREY.is_file():
        sys.exit(f"compare_filters.py: there is no {GREY}; install Debian's dataset-fashion-mnist")
    return arguments


REASONS = """What is hard to beat: the bilateral filter computes an exponential for every neighbour, where OpenCV looks bytes up in a
table; OpenCV's filters of bytes in three interleaved channels hold four times as many pixels in a register as filters of
floats; resizing and thermometer code of colour images write more than they compute."""


def write_page(path, arguments, rows):
    host = machine()
    commit = output_of("git", "-C", str(ROOT), "log", "-1", "--format=%h of %cs").strip() or "unknown"
    versions = f"OpenCV {cv2.__version__}, SciPy {scipy.__version__}, NumPy {np.__version__}, Pillow {PIL.__version__}"
    facts = [["processor", host["cpu"]], ["instruction sets", host["isa"]],
             ["cores", f"{host['cores']}, {arguments.threads} threads on each side"], ["system", host["system"]],
             ["compiler", compiler_of(arguments.program)], ["Pavise", commit], ["packages", versions],
             ["date", datetime.date.today().isoformat()],
             ["rounds", f"{arguments.rounds} of {arguments.seconds} s on each side, {arguments.count} images a batch"]]
    text = ["# Filters: Pavise and the usual packages", "",
            "Written by `benchmarks/compare_filters.py`, whose head says how it measures. Times are microseconds for each",
            "image, of Pavise's in lanes; a ratio is the fastest other package's time over that of Pavise; `required` is the least that the",
            "project asks of itself (for JPEG: of libjpeg-turbo's encoding and decoding).", "",
            markdown_table(["", ""], facts), "", markdown_table(HEADER, [cells(row) for row in rows]), "", REASONS, ""]
    Path(path).write_text("\n".join(text))


def main():
    arguments = parse()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for images in (load_grey(arguments.count), load_colour(arguments.count, arguments.colour)):
            pavise = Pavise(arguments.program, str(Path(folder) / "images"), images, arguments.threads)
            for case in CASES:
                if arguments.only in case[0]:
                    rows.append(measure(case, images, pavise, arguments))
                    print(" | ".join(cells(rows[-1])), flush=True)
            pavise.close()
    for row in rows:
        if row["required"] and row["peer_best"] / row["ours_best"] < row["required"]:
            print(f"{row['name']} {row['shape']} falls short: {row['peer_best'] / row['ours_best']:.1f}x of "
                  f"{row['required']}x")
    page = arguments.out or (None if arguments.only else HERE / "FILTERS.md")
    if page:
        write_page(page, arguments, rows)
        print(f"wrote {page}", file=sys.stderr)


if __name__ == "__main__":
    main()
