#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Randomized smoothing: Pavise against PyTorch, the published procedure and the Adversarial Robustness Toolbox.

    cmake --preset release && cmake --build build/release --target pavise_program
    python3 benchmarks/compare_certify.py --data-dir DIRECTORY      prints both tables and writes benchmarks/CERTIFY.md

DIRECTORY holds MNIST's four IDX files. A small-cnn is trained on noisy images first (sigma 0.5; kept in --work). Then, in
alternation and on as many threads on each side:

  * noisy samples a second of one image: noise, forward pass, arg-max and counting; PyTorch in several modes and sizes of
    batch. Pavise's is `pavise certify --method fixed`, whose noise is drawn exactly on the grid of pixel values.
  * certified images an hour at one guarantee: the share of images for which a radius of 1 holds, each falsely with
    probability 0.001 at most. Pavise stops as soon as the evidence suffices; the others draw the published 100 + 100,000
    samples. The others' certificates are computed in floating point, without regard to rounding; Pavise's are sound.

The packages: pip install torch==2.13.0 numpy scipy statsmodels safetensors adversarial-robustness-toolbox.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path

from compare import HERE, ROOT, Server, ServerError, compiler_of, machine, output_of, python_with_torch
from results import markdown_table

SIGMA, RADIUS = 0.5, 1.0
VARIANTS = ("eager", "channels_last", "compile")
BATCHES = (128, 256, 1000)


def find(directory, stem):
    for suffix in (".gz", ""):
        path = Path(directory) / (stem + suffix)
        if path.is_file():
            return path
    sys.exit(f"compare_certify.py: {directory} has no {stem}[.gz]")


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", required=True, help="MNIST's four files, as IDX, gzipped or not")
    parser.add_argument("--program", default=str(ROOT / "build" / "release" / "examples" / "pavise"))
    parser.add_argument("--python", help="a Python with PyTorch (default: this one, then python3)")
    parser.add_argument("--work", default=str(ROOT / "runs" / "compare-certify"), help="where the model is kept")
    parser.add_argument("--threads", type=int, default=2, help="threads on each side (default 2)")
    parser.add_argument("--rounds", type=int, default=7, help="rounds of samples a second (default 7)")
    parser.add_argument("--images", type=int, default=300, help="images that Pavise certifies (default 300)")
    parser.add_argument("--peer-images", type=int, default=8, help="images for the others, evenly among those (default 8)")
    parser.add_argument("--out", default=str(HERE / "CERTIFY.md"), help="the page (default benchmarks/CERTIFY.md)")
    return parser.parse_args()


class Ours:
    def __init__(self, arguments):
        self.program, self.data, self.work = arguments.program, f"mnist:{arguments.data_dir}", Path(arguments.work)
        self.environment = dict(os.environ, OMP_NUM_THREADS=str(arguments.threads))
        self.model = self.work / "small-cnn.safetensors"
        self.work.mkdir(parents=True, exist_ok=True)
        if not self.model.exists():
            self.run("train", "--model", "small-cnn", "--defense", "gaussian", "--gaussian-sigma", str(SIGMA), "--epochs", "10",
                     "--learning-rate", "2e-3", "--out", str(self.model))

    def run(self, command, *words):
        subprocess.run([self.program, command, "--data", self.data, "--quiet", *words], check=True, env=self.environment,
                       stdout=subprocess.DEVNULL)

    def certify(self, *words):
        """The record of a run and its certificates."""
        with tempfile.TemporaryDirectory(dir=self.work) as folder:
            record, lines = Path(folder) / "record.json", Path(folder) / "certificates.jsonl"
            self.run("certify", "--model-file", str(self.model), "--sigma", str(SIGMA), "--seed", "0", *words, "--out",
                     str(lines), "--json", str(record))
            return json.loads(record.read_text()), [json.loads(line) for line in lines.read_text().splitlines()]


def certified(radius, correct):
    return correct and radius >= RADIUS


def main():
    arguments = parse()
    ours = Ours(arguments)
    python, missing = python_with_torch(arguments.python)
    if not python:
        sys.exit(missing)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("OPENBLAS_")}
    environment.update(OMP_NUM_THREADS=str(arguments.threads), MKL_NUM_THREADS=str(arguments.threads))
    peer = Server("PyTorch", [python, HERE / "peers" / "torch_certify.py", "--model", ours.model, "--images",
                              find(arguments.data_dir, "t10k-images-idx3-ubyte"), "--labels",
                              find(arguments.data_dir, "t10k-labels-idx1-ubyte"), "--sigma", str(SIGMA)], environment)
    version = peer.ask("version")["version"]

    def say(text):
        print(text, file=sys.stderr, flush=True)

    def ask(request):
        answer = peer.ask(request)
        if "error" in answer:
            raise ServerError(f"`{request}`: {answer['error']}")
        return answer

    rates, mine = {}, []
    for index in range(arguments.rounds):
        say(f"samples a second: round {index + 1} of {arguments.rounds}")
        record, _ = ours.certify("--method", "fixed", "--count", "6", "--n", "50000")
        mine.append(record["samples_per_second"])
        for variant in VARIANTS:
            for batch in BATCHES:
                rates.setdefault((variant, batch), []).append(ask(f"samples {variant} {batch} 0.7"))
    best = max(rates, key=lambda key: max(a["mean"] for a in rates[key]))
    median = max(rates, key=lambda key: statistics.median(a["mean"] for a in rates[key]))

    def theirs(key, of):
        return of(a["mean"] for a in rates[key])

    def name(key):
        return f"{key[0]}, batch {key[1]}"

    ratio = max(mine) / theirs(best, max), statistics.median(mine) / theirs(median, statistics.median)
    samples = [["Pavise", f"{max(mine):,.0f} / {statistics.median(mine):,.0f}", "1"]]
    samples += [[f"PyTorch, {name(key)}", f"{theirs(key, max):,.0f} / {theirs(key, statistics.median):,.0f}",
                 f"{max(mine) / theirs(key, max):.2f} / {statistics.median(mine) / theirs(key, statistics.median):.2f}"]
                for key in rates]

    say(f"certifying {arguments.images} images in Pavise")
    record, lines = ours.certify("--radius", str(RADIUS), "--count", str(arguments.images))
    step = max(arguments.images // arguments.peer_images, 1)
    chosen = list(range(0, arguments.images, step))[:arguments.peer_images]
    holds = [certified(float.fromhex(c["radius"]), c["chosen"] == c["label"]) for c in lines]
    drawn = statistics.mean(c["n"] + sum(c["selection"]) for c in lines)
    hours = record["seconds"] / 3600
    rows = [["Pavise, sequential", f"{arguments.images}", f"{drawn:,.0f}", f"{record['seconds'] / arguments.images:.4f}",
             f"{sum(holds) / len(holds):.1%}", f"{sum(holds) / hours:,.0f}", "1"]]
    ours_rate = sum(holds) / hours
    full, fixed = ours.certify("--method", "fixed", "--count", str(arguments.images), "--skip", str(step))
    fixed_holds = [certified(float.fromhex(c["radius"]), c["chosen"] == c["label"]) for c in fixed]
    fixed_rate = sum(fixed_holds) / (full["seconds"] / 3600)
    rows.append(["Pavise, 100 + 100,000 samples", f"{len(fixed)}", "100,100", f"{full['seconds'] / len(fixed):.3f}",
                 f"{sum(fixed_holds) / len(fixed):.1%}", f"{fixed_rate:,.0f}", f"{ours_rate / fixed_rate:.1f}"])
    for procedure, title in (("cohen", "the published procedure in PyTorch"), ("art", "Adversarial Robustness Toolbox")):
        answers = []
        for i in chosen:
            say(f"{procedure}: image {i}")
            answers.append(ask(f"certify {procedure} {i}"))
        seconds = sum(a["seconds"] for a in answers)
        count = sum(certified(a["radius"], a["correct"]) for a in answers)
        rows.append([title, f"{len(answers)}", "100,100", f"{seconds / len(answers):.3f}", f"{count / len(answers):.1%}",
                     f"{count / seconds * 3600:,.0f}", f"{ours_rate / (count / seconds * 3600):.0f}" if count else "-"])
    peer.close()

    toolbox = output_of(python, "-c", "import art; print(art.__version__)").strip().splitlines()[-1:]
    host = machine()
    facts = [["processor", host["cpu"]], ["instruction sets", host["isa"]],
             ["cores", f"{host['cores']}, {arguments.threads} threads on each side"],
             ["compiler", compiler_of(arguments.program)],
             ["Pavise", output_of("git", "-C", str(ROOT), "log", "-1", "--format=%h of %cs").strip()],
             ["peers", f"{version}; Adversarial Robustness Toolbox {toolbox[0] if toolbox else 'unknown'}"],
             ["date", str(date.today())]]
    first = markdown_table(["", "noisy samples a second, best / median", "Pavise is faster by (best / median)"], samples)
    second = markdown_table(["", "images", "samples an image", "seconds an image", f"certified at {RADIUS:g}",
                             "certified images an hour", "Pavise, sequential, is faster by"], rows)
    page = f"""# Certification: Pavise, PyTorch and the Adversarial Robustness Toolbox

Written by `benchmarks/compare_certify.py`, whose head says what is measured. small-cnn, MNIST, sigma {SIGMA:g}, alpha 0.001.

{markdown_table(["", ""], facts)}

## Noisy samples a second

{first}

Against PyTorch's best: {ratio[0]:.2f}x of the best samples, {ratio[1]:.2f}x of the medians (required: 3.5x).

## Certified images an hour, radius {RADIUS:g}

{second}

Required: 50x. The other packages' images are every {step}th of Pavise's, so that their share of certified images is a coarse one.
"""
    Path(arguments.out).write_text(page)
    print(page)


if __name__ == "__main__":
    try:
        main()
    except (ServerError, subprocess.CalledProcessError, OSError) as error:
        sys.exit(f"compare_certify.py: {error}")
