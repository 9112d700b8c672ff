#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Joins the results of benchmarks/gpu.sh in DIR into results.json and prints a short table.

    table.py DIR
"""

import json
import pathlib
import sys


def lines(path):
    if not path.exists():
        return []
    out = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            out.append(json.loads(text))
        except ValueError:
            pass  # the last line of a run that was cut off
    return out


def main():
    out = pathlib.Path(sys.argv[1])
    ours = lines(out / "bench.jsonl")
    peers = lines(out / "peers.jsonl")
    (out / "results.json").write_text(json.dumps({"bench": ours, "peers": peers}, indent=1), encoding="utf-8")
    by = {}
    for r in ours:
        by.setdefault(r["section"], []).append(r)
    for r in by.get("device", []):
        print(f"{r['name']}, compute capability {r['major']}.{r['minor']}, {r['multiprocessors']} multiprocessors")
    for r in by.get("ceilings", []):
        print(f"measured {r['name']}: " + (f"{r['tflops']:.1f} TFLOP/s" if "tflops" in r else f"{r['tb_per_s']:.2f} TB/s"))
    best = {}
    for p in peers:
        if p.get("section") == "peers" and "ms" in p:
            best.setdefault(p["name"], []).append((p["ms"], p["variant"]))
    print("\n| workload | ms | share of FMA peak | PyTorch fp32 eager | tf32 eager | best | ratio to eager tf32 / best |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    names = {r["name"] for r in by.get("network", [])}
    for r in by.get("network", []):
        if r["name"].replace(", graph", "") != r["name"]:
            continue
        faster = [o for o in by["network"] if o["name"].replace(", graph", "") == r["name"]]
        ms = min(o["ms"] for o in faster)
        row = sorted(best.get(r["name"].replace(", fast", "").replace(", bf16", ""), []))
        of = dict((v, m) for m, v in row)
        cells = [f"{of[v]:.3f}" if v in of else "-" for v in ("fp32", "tf32")]
        cells.append(f"{row[0][0]:.3f} ({row[0][1]})" if row else "-")
        ratio = f"{of['tf32'] / ms:.2f} / {row[0][0] / ms:.2f}" if row and "tf32" in of else "-"
        share = r["flops"] / (ms * 1e-3) / (r["flops"] / (r["ms"] * 1e-3) / r["share_of_fma"]) if "share_of_fma" in r else 0
        speed = f" ({r['images_per_s']:,.0f} images/s, {r['ms_per_step']:.3f} ms a step)" if "ms_per_step" in r else ""
        print(f"| {r['name']} | {ms:.3f}{speed} | {share:.0%} | {' | '.join(cells)} | {ratio} |")
    for name in sorted(set(best) - names):
        row = sorted(best[name])
        of = dict((v, m) for m, v in row)
        print(f"| {name} (PyTorch alone) | - | - | {of.get('fp32', 0):.3f} | {of.get('tf32', 0):.3f} | "
              f"{row[0][0]:.3f} ({row[0][1]}) | - |")
    print("\n| kernel | ms | share of FMA peak or copy bandwidth |\n| --- | --- | --- |")
    for r in by.get("layers", []) + by.get("weights", []) + by.get("elements", []) + by.get("filters", []):
        shares = []
        if "share_of_fma" in r:
            shares.append(f"{r['share_of_fma']:.0%} fma")
        if "share_of_copy" in r:
            shares.append(f"{r['share_of_copy']:.0%} copy")
        print(f"| {r['name']} | {r['ms']:.4f} | {', '.join(shares)} |")
    sweep = {}
    for r in by.get("tiles", []):
        name, tile = r["name"].rsplit(" b", 1)
        sweep.setdefault(name, []).append((r.get("share_of_fma", 0), tile.split(" ", 1)[1]))
    if sweep:
        print("\n| product | own choice | best tiles |\n| --- | --- | --- |")
    for name, tiles in sweep.items():
        own = [s for s, t in tiles if t == "own choice"]
        rest = sorted((x for x in tiles if x[1] != "own choice"), reverse=True)[:4]
        print(f"| {name} | {own[0]:.0%} | " + ", ".join(f"{t} {s:.0%}" for s, t in rest) + " |")


if __name__ == "__main__":
    main()
