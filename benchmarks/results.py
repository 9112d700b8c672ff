# SPDX-License-Identifier: MIT
"""How the numbers of compare.py are shown: tables for the terminal, and the page benchmarks/RESULTS.md.

The page has a section for each of compare.py's --isa. A run writes its own section again and leaves the other as it is.
Beside each section stands a place for what people write about it, between the markers `<!-- notes ISA -->` and
`<!-- end of notes ISA -->`: it is kept, whatever is measured.
"""

import re
from pathlib import Path

MEMORY = "peak_memory_pgd7"

# The workloads in the order of the table: title, required ratio, required share of the FMA peak.
REQUIRED = {
    "small_cnn_forward_b128": ("small-cnn forward, batch 128", 1.7, 0.75),
    "small_cnn_input_grad_b128": ("gradient of the input, batch 128", 4.0, None),
    "small_cnn_train_adam_b128": ("training step with Adam, batch 128", 3.0, None),
    "small_cnn_fgsm_rs_train_b128": ("FGSM-RS adversarial training step, batch 128", 3.5, None),
    "small_cnn_pgd7_train_b128": ("PGD-7 adversarial training step, batch 128", 4.0, 0.70),
    "small_cnn_pgd7_attack_b1": ("PGD-7 attack on a single image", 5.0, None),
    "randn": ("normal random numbers, 16,777,216", 4.0, None),
    "resnet18_forward_b32": ("resnet18 (32x32) forward, batch 32", 2.5, None),
    "resnet18_pgd7_attack_b32": ("resnet18, PGD-7 attack (evaluation mode), batch 32", 2.5, None),
    MEMORY: ("peak memory of the PGD-7 job", 5.0, None),
}

# The sections of the page, in order: compare.py's --isa and its heading.
SECTIONS = {"native": "With every instruction set of the processor", "avx2": "With both sides held to AVX2"}


def format_value(name, value):
    if value is None:
        return "-"
    if name == MEMORY:
        return f"{value / 2**20:.1f} MiB"
    return f"{value * 1e3:.3f} ms" if value < 0.1 else f"{value * 1e3:.0f} ms"


HEADER = ["workload", "Pavise best / median", "PyTorch best / median", "variant", "ratio best / median", "required",
          "share of peak"]


def cells(row):
    name = row["workload"]

    def pair(side):
        if row[f"{side}_best"] is None:
            return "-"
        return f"{format_value(name, row[f'{side}_best'])} / {format_value(name, row[f'{side}_median'])}"

    variants = sorted({row["torch_best_variant"], row["torch_median_variant"]} - {None})
    ratio = "-" if row["ratio_best"] is None else f"{row['ratio_best']:.2f} / {row['ratio_median']:.2f}"
    required = "-" if row["required_ratio"] is None else f"{row['required_ratio']:g}x"
    if row["required_share_of_peak"]:
        required += f", {row['required_share_of_peak']:.0%}"
    share = "-" if row["share_of_peak"] is None else f"{row['share_of_peak']:.0%}"
    return [row["title"], pair("ours"), pair("torch"), ", ".join(variants) or "-", ratio, required, share]


def shortfall(row):
    """How a row falls short of what is required, from the bests; an empty text where it does not."""
    parts = []
    if row["ratio_best"] is not None and row["required_ratio"] and row["ratio_best"] < row["required_ratio"]:
        parts.append(f"{row['ratio_best']:.2f}x of {row['required_ratio']:g}x")
    if row["share_of_peak"] is not None and row["required_share_of_peak"]:
        if row["share_of_peak"] < row["required_share_of_peak"]:
            parts.append(f"{row['share_of_peak']:.0%} of peak where {row['required_share_of_peak']:.0%} is required")
    return ", ".join(parts)


def text_table(rows):
    table = [HEADER] + [cells(row) for row in rows]
    widths = [max(len(line[column]) for line in table) for column in range(len(HEADER))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in table)


def markdown_table(header, lines):
    body = [header, ["---"] * len(header)] + lines
    return "\n".join("| " + " | ".join(line) + " |" for line in body)


def section(report):
    """What a run writes about itself: the machine, the table, what falls short, and every variant."""
    host, rows = report["machine"], report["rows"]
    peak = f"{report['peak_gflops']:.0f} GFLOP/s in the same run" if report["peak_gflops"] else "-"
    facts = [["processor", host["cpu"]], ["instruction sets", f"{host['isa']}; used: {report['isa']}"],
             ["cores", f"{host['cores']}, {report['threads']} threads on each side"], ["system", host["system"]],
             ["load before the run", f"{report['load']:.2f} processes"], ["compiler", report["compiler"]],
             ["Pavise", report["commit"]], ["PyTorch", report["torch_version"]], ["date", report["date"]],
             ["FMA peak", peak],
             ["rounds", f"up to {report['rounds']} (at least 3; none begins after {report['limit']:g} s), samples of "
                        f"{report['seconds']:g} s"],
             ["command", f"`{report['command']}`"]]
    text = [markdown_table(["", ""], facts), "", markdown_table(HEADER, [cells(row) for row in rows]), ""]
    short = [f"- {row['title']}: {shortfall(row)}" for row in rows if shortfall(row)]
    text += (["Short of what is required (by the best of each side):", ""] + short + [""]) if short else []
    lines = []
    for row in rows:
        for variant in {**row["variants"], **row["errors"]}:
            if variant == "pavise":
                continue
            numbers = row["variants"].get(variant, {})
            lines.append([row["workload"], variant, format_value(row["workload"], numbers.get("best")),
                          format_value(row["workload"], numbers.get("median")), str(numbers.get("iterations", 0)),
                          row["errors"].get(variant, "").replace("|", "\\|")])
    text += ["<details><summary>Every PyTorch variant</summary>", "",
             markdown_table(["workload", "variant", "best", "median", "iterations", "remark"], lines), "", "</details>"]
    return "\n".join(text)


INTRODUCTION = """# Workloads: Pavise and PyTorch

Written by `benchmarks/compare.py`, but for what stands between the markers of the notes. A ratio is PyTorch's time (or
memory) over that of Pavise, so more is better; `required` is the least ratio, and the least share of the FMA peak, that
the project asks of itself on two AVX2 cores.
"""

METHOD = """## Method

Both programs run all the time and answer one request at a time. A round is a sample of Pavise and one of each PyTorch
variant, in an order that turns with every round. Best and median are over all iterations of all rounds. PyTorch's
best is that of its best variant and its median that of the variant with the lowest median. A variant that is more
than 1.5 times behind in both after three rounds is left out of the rest. The variants and what is done to be fair to
them stand at the top of `benchmarks/peers/torch_workloads.py`. Held to AVX2, both sides are told so by their own
settings, ATen, oneDNN and MKL each by its. The FMA peak is measured by a loop of fused multiply-adds on the same
threads in the same run; the share of peak is that of the best iteration, counting the operations of the direct
algorithm. Peak memory is the high-water mark of resident memory of a fresh process that does 50 PGD-7 training steps,
libraries included.
"""


class PageError(Exception):
    """A page whose markers do not say what is to be kept."""


def blocks(text):
    """{name: text} of what stands between `<!-- NAME -->` and `<!-- end of NAME -->`, for sections and their notes."""
    found = {}
    for isa in SECTIONS:
        for name in (f"table {isa}", f"notes {isa}"):
            begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
            if text.count(begin) != text.count(end) or text.count(begin) > 1:
                raise PageError(f"`{begin}` stands there {text.count(begin)} times and `{end}` {text.count(end)} times")
            if begin in text:
                match = re.search(re.escape(begin) + r"\n?(.*?)\n?" + re.escape(end), text, re.S)
                if not match:
                    raise PageError(f"`{end}` stands before `{begin}`")
                found[name] = match.group(1)
    return found


def read_page(path):
    """The blocks of the page that is there; PageError if there is one that has none, because it would be lost."""
    path = Path(path)
    if not path.is_file() or not path.read_text().strip():
        return {}
    found = blocks(path.read_text())
    if not found:
        raise PageError("it has no markers such as `<!-- notes native -->`, so that all of it would be lost")
    return found


def write_page(path, report):
    """Writes the section of this report; what the page has besides it is kept."""
    kept = read_page(path)
    kept[f"table {report['isa']}"] = section(report)
    page = [INTRODUCTION]
    for isa, title in SECTIONS.items():
        if f"table {isa}" not in kept and not kept.get(f"notes {isa}", "").strip():
            continue
        page += [f"## {title}", ""]
        for name in (f"table {isa}", f"notes {isa}"):
            page += [f"<!-- {name} -->", kept.get(name, ""), f"<!-- end of {name} -->", ""]
    text = "\n".join(page + [METHOD])
    partial = Path(f"{path}.partial")
    partial.write_text(text)
    partial.replace(path)
