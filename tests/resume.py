#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Kills the `pavise` program at random moments, and fills the disk under it: training, an attack and a certification must
go on where they were and end with the bits of a run that nobody disturbed.

    tests/resume.py [--program build/release/examples/pavise] [--kills 100] [--seed 0] [--only training|attack|certification]

A full disk is a tmpfs of a few MiB where this process may mount one (root), else a limit on the size of files. Python's
standard library alone.
"""
import argparse
import contextlib
import json
import os
import pathlib
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time

TRAIN = "train --data drawn-digits --train-count 640 --learning-rate 0.002 --quiet --seed 3 --threads 1"


def without_times(path):
    """A record without what may differ from run to run: when it was made, how long it took, and by how many threads."""
    record = json.loads(path.read_text())
    for key in ("seconds", "date", "images_per_second", "build"):
        record.pop(key, None)
    record["evaluation"].pop("seconds")
    for row in record["evaluation"]["attacks"]:
        row.pop("seconds")
    return record


class Workload:
    def __init__(self, name, arguments, state, result, model=None, read=lambda path: path.read_bytes()):
        self.name, self.arguments, self.model = name, arguments, model
        self.state, self.result, self.read = state, result, read


WORKLOADS = [
    Workload("training", f"{TRAIN} --epochs 2 --defense fgsm-rs --eps 0.05 --checkpoint-interval 1 --checkpoint run.checkpoint "
             "--out run.safetensors", "run.checkpoint", "run.safetensors"),
    Workload("attack", "evaluate --data drawn-digits --eps 0.05 --count 24 --steps 10 --queries 100 --sign-images 8 --quiet "
             "--threads 1 --model-file model.safetensors --state run.state --json run.json", "run.state", "run.json",
             f"{TRAIN} --epochs 1 --out model.safetensors", without_times),
    Workload("certification", "certify --data drawn-digits --sigma 0.25 --count 60 --n 2000 --radii 0.1,0.2 --quiet --threads 1 "
             "--model-file model.safetensors --out run.jsonl", "run.jsonl", "run.jsonl",
             f"{TRAIN} --epochs 1 --model mlp --gaussian-sigma 0.25 --out model.safetensors"),
]


class Failure(Exception):
    pass


def expect(holds, *what):
    if not holds:
        raise Failure(" ".join(str(w) for w in what))


class Runs:
    """The runs of one workload in one folder, under the same command: it is part of a model's file."""

    def __init__(self, program, workload, folder):
        self.program, self.workload, self.folder = program, workload, folder
        self.state, self.result = folder / workload.state, folder / workload.result

    def start(self, arguments=None, limit=None):
        def before():
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write beyond the limit fails then, and does not kill
            if limit is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        return subprocess.Popen([self.program, *(arguments or self.workload.arguments).split()], cwd=self.folder,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, preexec_fn=before,
                                restore_signals=False)

    def finish(self, process):
        text = process.communicate()[0]
        expect(process.returncode == 0, self.workload.name, "ended with status", process.returncode, text[-2000:])

    def clean(self):
        keep = {"model.safetensors", "model.training.json"}
        for path in self.folder.iterdir():
            if path.name not in keep:
                path.unlink()

    def unbroken(self):
        """The result of a run from beginning to end, and how long it takes."""
        if self.workload.model:
            self.finish(self.start(self.workload.model))
        begin = time.monotonic()
        self.finish(self.start())
        seconds = time.monotonic() - begin
        expected = self.workload.read(self.result)
        self.clean()
        return expected, seconds

    def check(self, expected, after):
        expect(self.workload.read(self.result) == expected, self.workload.name, "has another result after", after)
        self.clean()


def kill_and_resume(runs, kills, draw):
    expected, seconds = runs.unbroken()
    killed = ended = gone_on = left = 0
    while killed < kills:
        gone_on += runs.state.exists()
        process = runs.start()
        try:
            text = process.communicate(timeout=draw.uniform(0, 1.1 * seconds))[0]
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            killed += 1
            continue
        expect(process.returncode == 0, runs.workload.name, "ended with status", process.returncode, text[-2000:])
        ended += 1
        left += sum(path.name.endswith(".tmp") for path in runs.folder.iterdir())
        runs.check(expected, f"{killed} kills")
    runs.finish(runs.start())
    left += sum(path.name.endswith(".tmp") for path in runs.folder.iterdir())
    runs.check(expected, f"{killed} kills")
    print(f"{runs.workload.name}: killed {killed} times within {seconds:.2f} s, {gone_on} runs went on from a file, "
          f"{ended + 1} came to their end, all with the same bits; {left} unfinished temporary files lay about", flush=True)


@contextlib.contextmanager
def small_disk(folder, mebibytes):
    """A file system of its own at `folder`; yields whether it is one."""
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs", folder],
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", folder], check=True)


def full_disk(runs, mounted):
    expected, seconds = runs.unbroken()
    process = runs.start()  # killed once there is something to go on from
    while process.poll() is None and not (runs.state.exists() and runs.state.stat().st_size):
        time.sleep(0.002)
    process.kill()
    process.communicate()
    before = runs.state.read_bytes()
    complete = before[: before.rfind(b"\n") + 1] if runs.state == runs.result else before  # lines that have their end
    expect(len(complete) > 0 and (runs.state == runs.result or not runs.result.exists()), runs.workload.name,
           "was not stopped in the middle")
    filler = runs.folder / "filler"
    if mounted:
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(1 << 12))
        process = runs.start()
    else:
        process = runs.start(limit=len(complete) + 50 if runs.state == runs.result else 1000)
    text = process.communicate()[0]
    expect(process.returncode == 1 and runs.workload.state in text and "cannot be written" in text, runs.workload.name,
           "on a full disk: status", process.returncode, text[-2000:])
    after = runs.state.read_bytes()
    expect(after.startswith(complete) if runs.state == runs.result else after == before, runs.workload.name,
           "lost what was in its file on a full disk")
    expect(not any(path.name.endswith(".tmp") for path in runs.folder.iterdir()), "a temporary file is left")
    filler.unlink(missing_ok=True)
    runs.finish(runs.start())
    runs.check(expected, "a full disk")
    print(f"{runs.workload.name}: {'a full disk' if mounted else 'a limit on the size of files'} gives an error "
          f"({text.strip().splitlines()[-1]}), the file before it is intact, and the run goes on to the same bits", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default="build/release/examples/pavise", type=pathlib.Path)
    parser.add_argument("--kills", default=100, type=int, help="of each workload")
    parser.add_argument("--seed", default=0, type=int, help="of the moments")
    parser.add_argument("--only", choices=[w.name for w in WORKLOADS])
    options = parser.parse_args()
    program = options.program.resolve()
    if not program.is_file():
        sys.exit(f"{program} is not there: cmake --preset release && cmake --build --preset release --target pavise_program")
    failed = 0
    for workload in WORKLOADS:
        if options.only not in (None, workload.name):
            continue
        memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # every file is written through to the disk
        folder = pathlib.Path(tempfile.mkdtemp(prefix="pavise-resume-", dir=memory))
        try:
            kill_and_resume(Runs(program, workload, folder), options.kills, random.Random(options.seed))
            shutil.rmtree(folder)
            folder.mkdir()
            with small_disk(folder, 16) as mounted:
                full_disk(Runs(program, workload, folder), mounted)
        except Failure as failure:
            print(f"FAILED: {failure}", flush=True)
            failed += 1
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
