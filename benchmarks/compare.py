#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs the workloads of Pavise and of PyTorch in alternation and compares them.

    cmake --preset release && cmake --build build/release --target pavise_benchmarks
    python3 benchmarks/compare.py                    everything; prints the table and writes benchmarks/RESULTS.md
    python3 benchmarks/compare.py --quick            a rough look in a few minutes; writes nothing
    python3 benchmarks/compare.py --isa avx2         the same with both sides held to AVX2: the page's other table
    python3 benchmarks/compare.py --only pgd7,randn  the workloads whose name contains one of these; writes nothing
    python3 benchmarks/compare.py --from FILE.json   measures nothing; writes the page from what --json wrote

Both programs are started once and answer one request at a time, so that only one of them computes. A round is one
short sample of Pavise and one of each PyTorch variant; noise of the machine that lasts longer than a sample then meets
all of them alike. Of all iterations of all rounds the best and the median count. PyTorch's best is that of its best
variant, and its median that of the variant with the lowest median, which need not be the same one.
"""

import argparse
import datetime
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

from results import (MEMORY, REQUIRED, SECTIONS, PageError, cells, format_value, read_page, shortfall, text_table,
                     write_page)

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
PEER = HERE / "peers" / "torch_workloads.py"
OURS = "pavise-bench-workloads"


class ServerError(Exception):
    """A server that does not start, ends or answers something else than a line of JSON."""


class Server:
    """A program that answers the line protocol of benchmarks/workloads.cpp and peers/torch_workloads.py."""

    def __init__(self, title, command, environment):
        self.title = title
        self.log = open(os.devnull, "w") if not os.environ.get("COMPARE_VERBOSE") else None
        try:
            self.process = subprocess.Popen([str(word) for word in command], stdin=subprocess.PIPE,
                                            stdout=subprocess.PIPE, stderr=self.log, text=True, bufsize=1,
                                            env=environment)
        except OSError as error:
            raise ServerError(f"{title}: cannot start {command[0]}: {error.strerror}") from error

    def exchange(self, line):
        try:
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
            answer = self.process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            raise ServerError(f"{self.title} ended (exit code {self.process.wait()}) at the request `{line}`; "
                              "COMPARE_VERBOSE=1 shows what it says")
        return answer

    def ask(self, line):
        answer = self.exchange(line)
        try:
            return json.loads(answer)
        except json.JSONDecodeError as error:
            raise ServerError(f"{self.title} answered `{line}` with `{answer.strip()[:200]}`, "
                              "expected one line of JSON") from error

    def names(self):
        """The workloads; the answer to `list` is an object with the array `workloads`, or the plain words."""
        answer = self.exchange("list")
        return json.loads(answer)["workloads"] if answer.startswith("{") else answer.split()

    def close(self):
        if self.process.poll() is None:
            try:
                self.process.stdin.write("quit\n")
                self.process.stdin.close()
                self.process.wait(timeout=10)
            except (OSError, subprocess.TimeoutExpired):
                self.process.kill()
                self.process.wait()


class Series:
    """All samples of one workload on one side."""

    def __init__(self):
        self.samples = []
        self.last = {}
        self.peak = 0.0  # the highest of all rounds: a disturbed measurement of the peak would flatter the share
        self.error = None

    def add(self, answer):
        if answer.get("error"):
            self.error = answer["error"]
        elif not answer.get("samples"):
            self.error = "no samples"
        else:
            self.samples += answer["samples"]
            self.peak = max(self.peak, answer.get("peak_gflops") or 0.0)
            self.last = answer

    @property
    def usable(self):
        return bool(self.samples) and self.error is None

    @property
    def best(self):
        return min(self.samples)

    @property
    def median(self):
        return statistics.median(self.samples)


def measure(name, ours, torch, variants, arguments, log):
    """Alternates samples of one workload; returns (our series or None, {variant: series})."""
    mine = Series() if ours else None
    theirs = {variant: Series() for variant in variants}
    rounds = min(arguments.rounds, 3) if name == MEMORY else arguments.rounds
    # A first, untimed request each: compilation and first touch must not fall into a round.
    for server, request, series in [(ours, name, mine)] * bool(ours) + [
            (torch, f"{name}:{variant}", theirs[variant]) for variant in variants]:
        if name != MEMORY:
            log(f"{name}: warming {request}")
            series.add(server.ask(f"{request} 0.05"))
            series.samples.clear()
    start = time.perf_counter()
    for index in range(rounds):
        spent = time.perf_counter() - start
        # Workloads whose single iteration takes seconds stop early, but never before three rounds.
        if spent > arguments.limit and index >= 3:
            break
        log(f"{name}: round {index + 1} of {rounds}")
        requests = [(torch, f"{name}:{variant}", series) for variant, series in theirs.items() if series.error is None]
        if ours and mine.error is None:
            requests.insert(0, (ours, name, mine))
        if index % 2:  # the order turns, so that no side always runs after the same one
            requests.reverse()
        for server, request, series in requests:
            time.sleep(0.01)  # the waiting threads of the other side go to sleep
            series.add(server.ask(f"{request} {arguments.seconds}"))
        # After some rounds, a variant that is far behind in both measures costs only time.
        if index == 2:
            usable = [series for series in theirs.values() if series.usable]
            if usable:
                best, median = min(s.best for s in usable), min(s.median for s in usable)
                for series in usable:
                    if series.best > 1.5 * best and series.median > 1.5 * median:
                        series.error = f"left out after {index + 1} rounds (best {format_value(name, series.best)})"
    return mine, theirs


def summarise(name, mine, theirs):
    """One row of the table, as plain values (seconds or bytes)."""
    title, required, required_share = REQUIRED.get(name, (name, None, None))
    row = {"workload": name, "title": title, "required_ratio": required, "required_share_of_peak": required_share,
           "ours_best": None, "ours_median": None, "ours_iterations": 0, "torch_best": None, "torch_median": None,
           "torch_best_variant": None, "torch_median_variant": None, "ratio_best": None, "ratio_median": None,
           "gflops": None, "peak_gflops": None, "share_of_peak": None, "errors": {}, "variants": {}}
    if mine is not None and mine.error:
        row["errors"]["pavise"] = mine.error
    if mine is not None and mine.usable:
        row.update(ours_best=mine.best, ours_median=mine.median, ours_iterations=len(mine.samples))
        flops, peak = mine.last.get("flops_per_iteration"), mine.peak
        if flops:
            row["gflops"] = flops / mine.best * 1e-9
            if peak:
                row.update(peak_gflops=peak, share_of_peak=row["gflops"] / peak)
    for variant, series in theirs.items():
        if series.samples:
            row["variants"][variant] = {"best": series.best, "median": series.median,
                                        "iterations": len(series.samples)}
        if series.error:
            row["errors"][variant] = series.error
    usable = {variant: series for variant, series in theirs.items() if series.usable}
    if usable:
        by_best = min(usable, key=lambda variant: usable[variant].best)
        by_median = min(usable, key=lambda variant: usable[variant].median)
        row.update(torch_best=usable[by_best].best, torch_best_variant=by_best,
                   torch_median=usable[by_median].median, torch_median_variant=by_median)
    if row["ours_best"] and row["torch_best"]:
        row.update(ratio_best=row["torch_best"] / row["ours_best"],
                   ratio_median=row["torch_median"] / row["ours_median"])
    return row


def output_of(*command):
    try:
        return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, timeout=30).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""


def compiler_of(program):
    """The compiler that built the program, by its build folder's CMakeCache.txt; else the one that is installed."""
    for folder in Path(program).resolve().parents if program else []:
        cache = folder / "CMakeCache.txt"
        if cache.is_file():
            text = cache.read_text(errors="replace")
            found = {key: value for key, value in re.findall(r"^(CMAKE_[A-Z_]+):[A-Z]+=(.*)$", text, re.M)}
            kind = found.get("CMAKE_BUILD_TYPE", "")
            flags = f"{found.get('CMAKE_CXX_FLAGS', '')} {found.get('CMAKE_CXX_FLAGS_' + kind.upper(), '')}".strip()
            version = output_of(found.get("CMAKE_CXX_COMPILER", "c++"), "--version").splitlines()
            return f"{version[0] if version else 'unknown'}, {kind or 'no build type'} ({flags or 'no flags'})"
    version = output_of("c++", "--version").splitlines()
    return f"{version[0] if version else 'unknown'} (installed; the build folder of the program is not known)"


def machine():
    text = ""
    if Path("/proc/cpuinfo").is_file():
        text = Path("/proc/cpuinfo").read_text()
    model = re.search(r"^model name\s*:\s*(.*)$", text, re.M)
    flags = re.search(r"^flags\s*:\s*(.*)$", text, re.M)
    flags = set(flags.group(1).split()) if flags else set()
    wide = [title for flag, title in (("fma", "FMA"), ("avx2", "AVX2"), ("avx512f", "AVX-512")) if flag in flags]
    family = re.search(r"^cpu family\s*:\s*(\d+)\nmodel\s*:\s*(\d+)", text, re.M)
    name = model.group(1) if model else platform.processor() or platform.machine()
    if family:
        name += f" (family {family.group(1)}, model {family.group(2)})"
    return {"cpu": name, "isa": ", ".join(wide) or platform.machine(), "cores": os.cpu_count(),
            "system": f"{platform.system()} {platform.release()}"}


def find_program(wanted):
    if wanted:
        return wanted
    found = [path for pattern in ("build*/benchmarks", "build/*/benchmarks") for name in (OURS, "workloads")
             for path in ROOT.glob(f"{pattern}/{name}") if os.access(path, os.X_OK) and path.is_file()]
    found = [path for path in found if not re.search(r"asan|debug|sanit|tidy", str(path.relative_to(ROOT)))] or found
    return max(found, key=lambda path: path.stat().st_mtime) if found else shutil.which(OURS)


def python_with_torch(wanted):
    """A Python that has PyTorch, and the text to print where there is none."""
    candidates = [wanted] if wanted else [sys.executable, shutil.which("python3"), shutil.which("python")]
    for candidate in dict.fromkeys(filter(None, candidates)):
        if output_of(candidate, "-c", "import torch; print(torch.__version__)").strip():
            return candidate, ""
    return None, (f"compare.py: {candidates[0]} has no PyTorch, and the comparison needs it (Pavise itself does not).\n"
                  "  python3 -m venv peers && peers/bin/pip install torch==2.13.0 --index-url "
                  "https://download.pytorch.org/whl/cpu\n"
                  "  python3 benchmarks/compare.py --python peers/bin/python\n"
                  "or measure Pavise alone: python3 benchmarks/compare.py --side pavise")


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="3 rounds of 0.1 s; RESULTS.md is not written")
    parser.add_argument("--only", default="", metavar="TEXT,...", help="workloads whose name contains one of these")
    parser.add_argument("--rounds", type=int, help="rounds of a workload (default 25)")
    parser.add_argument("--seconds", type=float, help="length of a sample (default 0.3)")
    parser.add_argument("--limit", type=float, help="seconds after which a workload starts no further round, "
                                                    "once it has three (default 90)")
    parser.add_argument("--threads", type=int, default=2, help="threads on each side (default 2)")
    parser.add_argument("--isa", choices=list(SECTIONS), default="native",
                        help="avx2: keep both sides to AVX2 on a processor that has AVX-512 (default native)")
    parser.add_argument("--side", choices=["both", "pavise", "torch"], default="both", help="measure one side alone")
    parser.add_argument("--program", metavar="PATH", help=f"the Pavise side (default: the newest build*/.../{OURS})")
    parser.add_argument("--python", metavar="PATH", help="a Python with PyTorch (default: this one, then python3)")
    parser.add_argument("--json", metavar="PATH", help="write all numbers as JSON (`-`: to standard output, alone)")
    parser.add_argument("--out", metavar="PATH", help="write the page here (default benchmarks/RESULTS.md for a full "
                                                      "run of both sides, else nowhere)")
    parser.add_argument("--from", dest="recorded", metavar="PATH",
                        help="measure nothing; write the page from this file, which --json wrote")
    arguments = parser.parse_args()
    if arguments.recorded and (arguments.quick or arguments.only or arguments.side != "both") and not arguments.out:
        parser.error("--from needs no --quick, --only or --side")
    for option, usual, quick in (("rounds", 25, 3), ("seconds", 0.3, 0.1), ("limit", 90.0, 20.0)):
        if getattr(arguments, option) is None:
            setattr(arguments, option, quick if arguments.quick else usual)
        elif getattr(arguments, option) <= 0:
            parser.error(f"--{option} must be positive, got {getattr(arguments, option)}")
    return arguments


def select(only, available):
    order = [name for name in REQUIRED if name in available] + [name for name in available if name not in REQUIRED]
    wanted = [text for text in only.split(",") if text]
    chosen = [name for name in order if not wanted or any(text in name for text in wanted)]
    if not chosen:
        sys.exit(f"compare.py: no workload contains {' or '.join(wanted)}; there are {', '.join(order)}")
    return chosen


def start_servers(arguments):
    environment = dict(os.environ, OMP_NUM_THREADS=str(arguments.threads), MKL_NUM_THREADS=str(arguments.threads))
    if arguments.isa == "avx2":
        # ATen's setting is also the one by which TorchInductor chooses the width of the vectors that it writes.
        environment.update(PAVISE_ISA="avx2", ATEN_CPU_CAPABILITY="avx2", ONEDNN_MAX_CPU_ISA="AVX2",
                           MKL_ENABLE_INSTRUCTIONS="AVX2")
    ours = torch = program = None
    if arguments.side != "torch":
        program = find_program(arguments.program)
        if not program:
            sys.exit(f"compare.py: {OURS} is not built; build it with\n  cmake --preset release && cmake --build "
                     "build/release --target pavise_benchmarks\nor give its path with --program")
    if arguments.side != "pavise":
        python, missing = python_with_torch(arguments.python)
        if not python:
            sys.exit(missing)
        torch = Server("PyTorch", [python, PEER, "--serve"], environment)
    if program:
        ours = Server("Pavise", [program, "--serve"], environment)
    return ours, torch, program


def main():
    arguments = parse()
    whole = not arguments.quick and not arguments.only and arguments.side == "both"
    page = arguments.out or (HERE / "RESULTS.md" if whole else None)
    try:
        if page:
            read_page(page)  # what cannot be kept is found out before an hour of measuring
        if arguments.recorded:
            write_page(page, json.loads(Path(arguments.recorded).read_text()))
            print(f"wrote {page}", file=sys.stderr)
            return
    except PageError as error:
        sys.exit(f"compare.py: {page}: {error}; move it away, or write the markers where they belong")
    load = os.getloadavg()[0]
    ours, torch, program = start_servers(arguments)

    def log(text):
        if sys.stderr.isatty():
            print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)

    try:
        if load > 0.5 * (os.cpu_count() or 1):
            print(f"compare.py: the machine is busy (load {load:.1f}); the numbers will say little", file=sys.stderr)
        our_names = ours.names() if ours else []
        variants = {}
        for full_name in torch.names() if torch else []:
            name, _, variant = full_name.partition(":")
            variants.setdefault(name, []).append(variant)
        torch_version = torch.ask("version")["version"] if torch else "not measured"
        if arguments.isa == "avx2" and "AVX512" in torch_version:
            sys.exit(f"compare.py: PyTorch was told to use AVX2 and says that it is {torch_version}")
        rows = []
        for name in select(arguments.only, list(dict.fromkeys(our_names + list(variants)))):
            mine, theirs = measure(name, ours if name in our_names else None, torch, variants.get(name, []), arguments,
                                   log)
            rows.append(summarise(name, mine, theirs))
            if ours and name not in our_names:
                rows[-1]["errors"]["pavise"] = "the program does not have this workload"
            log("")
            if arguments.json != "-":
                print(" | ".join(cells(rows[-1])), flush=True)
    except ServerError as error:
        sys.exit(f"compare.py: {error}")
    finally:
        for server in filter(None, (ours, torch)):
            server.close()

    commit = output_of("git", "-C", str(ROOT), "log", "-1", "--format=%h of %cs").strip() or "unknown"
    if output_of("git", "-C", str(ROOT), "status", "--porcelain", "--untracked-files=no", "--", "include", "kernels",
                 "benchmarks/workloads.cpp"):
        commit += ", with local changes"
    report = {"machine": machine(), "isa": arguments.isa, "threads": arguments.threads, "load": load,
              "compiler": compiler_of(program), "commit": commit, "torch_version": torch_version,
              "date": datetime.date.today().isoformat(), "seconds": arguments.seconds, "rounds": arguments.rounds,
              "limit": arguments.limit, "command": " ".join(["python3 benchmarks/compare.py"] + public_arguments()),
              "peak_gflops": max((row["peak_gflops"] for row in rows if row["peak_gflops"]), default=None),
              "rows": rows}
    if arguments.json == "-":
        print(json.dumps(report, indent=1))
    else:
        print("\n" + text_table(rows))
        for row in rows:
            for side, error in row["errors"].items():
                print(f"{row['workload']}, {side}: {error}")
            if shortfall(row):
                print(f"{row['workload']} falls short: {shortfall(row)}")
        if arguments.json:
            Path(arguments.json).write_text(json.dumps(report, indent=1) + "\n")
    if page:
        write_page(page, report)
        print(f"wrote {page}", file=sys.stderr)


def public_arguments():
    """The arguments, without those that only say where things are on this machine."""
    words, skip = [], False
    for word in sys.argv[1:]:
        if skip:
            skip = False
        elif word in ("--python", "--program", "--json", "--out"):
            skip = True
        elif not re.match(r"--(python|program|json|out)=", word):
            words.append(word)
    return words


if __name__ == "__main__":
    main()
