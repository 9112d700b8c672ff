#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs attacks of Pavise and of the AutoAttack and torchattacks packages on the same weights, in alternation.

    cmake --preset release && cmake --build build/release --target pavise_program
    python3 benchmarks/compare_attacks.py              everything; prints the table and writes benchmarks/ATTACKS.md
    python3 benchmarks/compare_attacks.py --quick      a tenth of the images, one round; writes nothing
    python3 benchmarks/compare_attacks.py --only cw    the attacks whose name contains this; writes nothing

Two small-cnn are trained with Pavise on Fashion-MNIST (Debian's dataset-fashion-mnist), one adversarially and one
plainly, and saved; PyTorch loads the same files. A round is one run of each side, each in a process of its own with the
same number of threads; the time is that of the attack alone, on images in memory. Of several rounds the best and the
median count. The packages and their versions: pip install torch==2.13.0 safetensors torchattacks pyautoattack.
"""

import argparse
import datetime
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from compare import ROOT, compiler_of, machine, output_of
from results import markdown_table

HERE = Path(__file__).resolve().parent
PEER = HERE / "peers" / "torch_attacks.py"
DATA = Path("/usr/share/datasets/fashion-mnist")

# Name, title, model, images, required ratio, the program's arguments, the peer's.
CASES = [
    ("apgd-ce", "APGD-CE, 100 steps", "robust", 1000, 5.0, ["--attack", "apgd-ce"], ["--attack", "apgd-ce"]),
    ("apgd-ce-plain", "APGD-CE, 100 steps, on a model that holds nothing", "plain", 1000, None,
     ["--attack", "apgd-ce"], ["--attack", "apgd-ce"]),
    ("apgd-t", "targeted APGD, 9 targets of 100 steps", "robust", 300, None, ["--attack", "apgd-t"],
     ["--attack", "apgd-t"]),
    ("fab-t", "targeted FAB, 9 targets of 100 steps", "robust", 300, None, ["--attack", "fab-t"],
     ["--attack", "fab-t"]),
    ("square", "Square, 5000 queries", "robust", 500, 5.0, ["--attack", "square"], ["--attack", "square"]),
    ("cw", "Carlini-Wagner L2, c 1, 100 steps", "robust", 500, 5.0,
     ["--attack", "cw", "--norm", "l2", "--steps", "100", "--set", "search_steps=1", "--set", "initial_constant=1"],
     ["--attack", "cw"]),
]
TRAINING = {"robust": ["--defense", "fgsm-rs", "--epochs", "5"], "plain": ["--defense", "none", "--epochs", "2"]}


def find_program(wanted):
    if wanted:
        return wanted
    found = [path for pattern in ("build*/examples", "build/*/examples") for path in ROOT.glob(f"{pattern}/pavise")
             if path.is_file() and not re.search(r"asan|debug|sanit|tidy", str(path))]
    return str(max(found, key=lambda path: path.stat().st_mtime)) if found else shutil.which("pavise")


def run(command, environment):
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          env=environment)
    if done.returncode != 0:
        sys.exit(f"compare_attacks.py: {' '.join(map(str, command))} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return done.stdout


def measure(case, arguments, models, environment):
    name, title, model, count, required, ours, theirs = case
    count = max(20, count // 10) if arguments.quick else count
    common = ["--model-file", models[model], "--eps", arguments.eps, "--count", count]
    samples = {"ours": [], "theirs": []}
    last = {}
    for index in range(1 if arguments.quick else arguments.rounds):
        order = ["ours", "theirs"] if index % 2 == 0 else ["theirs", "ours"]
        for side in order:
            if side == "ours":
                out = json.loads(run([arguments.program, "attack", *common, "--data", "fashion-mnist", "--quiet", "--json",
                                      "-", *ours], environment))
                samples[side].append(out["seconds"])
                # The images that were right and became wrong at any distance, for the mean distance.
                distance = out.get("distance") or {}
                last[side] = {"robust": out["robust"]["correct"], "fell": distance.get("images"),
                              "mean_l2": distance.get("mean")}
            else:
                out = json.loads(run([arguments.python, PEER, *common, "--data", DATA, *theirs], environment))
                samples[side].append(out["seconds"])
                last[side] = {name: out[name] for name in ("robust", "fell", "mean_l2", "package")}
    return {"name": name, "title": title, "count": count, "required": required, "package": last["theirs"]["package"],
            "best": {side: min(values) for side, values in samples.items()},
            "median": {side: statistics.median(values) for side, values in samples.items()},
            "last": last, "minimum_norm": name == "cw"}


HEADER = ["attack", "images", "Pavise best / median", "package best / median", "package", "ratio best / median",
          "required", "outcome: Pavise, package"]


def cells(row):
    def pair(side):
        return f"{row['best'][side]:.2f} s / {row['median'][side]:.2f} s"

    def outcome(side):
        last = row["last"][side]
        if not row["minimum_norm"]:
            return f"{last['robust']} stand"
        return f"{last['fell']} fall, mean distance {last['mean_l2'] or 0:.3f}"

    ratio = [row[kind]["theirs"] / row[kind]["ours"] for kind in ("best", "median")]
    return [row["title"], str(row["count"]), pair("ours"), pair("theirs"), row["package"],
            f"{ratio[0]:.1f} / {ratio[1]:.1f}", f"{row['required']:g}x" if row["required"] else "-",
            f"{outcome('ours')}, {outcome('theirs')}"]


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the images, one round; writes nothing")
    parser.add_argument("--only", default="", metavar="TEXT", help="attacks whose name contains this; writes nothing")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2, help="on each side")
    parser.add_argument("--eps", default="0.1")
    parser.add_argument("--program", help="the pavise program (default: the newest in build*)")
    parser.add_argument("--python", default=sys.executable, help="a Python with the packages (default: this one)")
    parser.add_argument("--out", help="write the page here")
    arguments = parser.parse_args()
    arguments.program = find_program(arguments.program)
    if not arguments.program:
        sys.exit("compare_attacks.py: the program is not built; build it with\n  cmake --preset release && cmake --build "
                 "build/release --target pavise_program\nor give its path with --program")
    if arguments.rounds < 1:
        sys.exit(f"compare_attacks.py: --rounds {arguments.rounds}, expected 1 or more")
    if not any(arguments.only in case[0] for case in CASES):
        sys.exit(f"compare_attacks.py: no attack contains {arguments.only}; there are {', '.join(c[0] for c in CASES)}")
    if not (DATA / "t10k-images-idx3-ubyte.gz").is_file():
        sys.exit(f"compare_attacks.py: {DATA} has no Fashion-MNIST; install Debian's dataset-fashion-mnist")
    packages = "import torch, safetensors, torchattacks, pyautoattack; print(torch.__version__)"
    arguments.torch = output_of(arguments.python, "-c", packages).strip()
    if not arguments.torch:
        sys.exit(f"compare_attacks.py: {arguments.python} has not all of torch, safetensors, torchattacks, pyautoattack:\n"
                 "  python3 -m venv peers && peers/bin/pip install torch==2.13.0 safetensors torchattacks pyautoattack\n"
                 "  python3 benchmarks/compare_attacks.py --python peers/bin/python")
    return arguments


def write_page(path, arguments, rows):
    host = machine()
    versions = output_of(arguments.python, "-m", "pip", "list", "--format=freeze")
    versions = ", ".join(re.findall(r"^(?:torch|torchattacks|pyautoattack)==\S+", versions, re.M | re.I))
    commit = output_of("git", "-C", str(ROOT), "log", "-1", "--format=%h of %cs").strip() or "unknown"
    facts = [["processor", host["cpu"]], ["instruction sets", host["isa"]],
             ["cores", f"{host['cores']}, {arguments.threads} threads on each side"], ["system", host["system"]],
             ["compiler", compiler_of(arguments.program)], ["Pavise", commit], ["packages", versions],
             ["date", datetime.date.today().isoformat()], ["rounds", str(arguments.rounds)],
             ["radius", f"Linf {arguments.eps}, where the attack has one"]]
    text = ["# Attacks: Pavise and the Python packages", "",
            "Written by `benchmarks/compare_attacks.py`, whose head says how it measures. A ratio is the package's time over",
            "that of Pavise; `required` is the least that the project asks of itself. Both sides attack the same weights",
            "(small-cnn, Fashion-MNIST) and the same images; the outcome shows that neither takes a short cut: the images",
            "that stand, or how many were broken and their mean L2 distance. The package's robust count and ours need not",
            "be equal, because the random starts are not.", "", markdown_table(["", ""], facts), "",
            markdown_table(HEADER, [cells(row) for row in rows]), ""]
    Path(path).write_text("\n".join(text))


def main():
    arguments = parse()
    environment = dict(os.environ, OMP_NUM_THREADS=str(arguments.threads), MKL_NUM_THREADS=str(arguments.threads))
    whole = not arguments.quick and not arguments.only
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        models = {}
        for name, training in TRAINING.items():
            models[name] = Path(folder) / f"{name}.safetensors"
            run([arguments.program, "train", "--data", "fashion-mnist", "--model", "small-cnn", *training, "--eps",
                 arguments.eps, "--seed", "0", "--quiet", "--out", models[name]], environment)
        for case in CASES:
            if arguments.only in case[0]:
                rows.append(measure(case, arguments, models, environment))
                print(" | ".join(cells(rows[-1])), flush=True)
    for row in rows:
        ratio = row["best"]["theirs"] / row["best"]["ours"]
        if row["required"] and ratio < row["required"]:
            print(f"{row['title']} falls short: {ratio:.1f}x of {row['required']:g}x")
    page = arguments.out or (HERE / "ATTACKS.md" if whole else None)
    if page:
        write_page(page, arguments, rows)
        print(f"wrote {page}", file=sys.stderr)


if __name__ == "__main__":
    main()
