#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The workloads of benchmarks/gpu/bench.cpp in PyTorch on the same GPU, each in several variants.

    peers.py FILE [--seconds N]      writes a line of JSON for each variant as soon as it is measured

Times are medians between CUDA events, warm, on random inputs. What is done so that PyTorch shows its best: an attack's
gradient is that of the input alone (parameters do not require gradients), the update is in place, Adam is the fused one,
whole steps are captured in a CUDA graph or compiled.

    fp32        plain modules, float32 throughout (TF32 off)
    tf32        the same with TF32 in convolutions and products
    bf16        autocast to bfloat16
    *_cl        with input and weights in channels_last
    *_graph     the whole step as one CUDA graph
    *_compile   torch.compile, mode reduce-overhead (which uses CUDA graphs)
"""

import json
import pathlib
import statistics
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "peers"))
try:
    import torch
    import torch.nn.functional as F
except ImportError as error:
    sys.exit(f"peers.py: {error}; install PyTorch for this Python ({sys.executable})")
from torch_workloads import frozen_view, resnet18, small_cnn  # noqa: E402

EPS, STEPS = 0.1, 7
ALPHA = 2.5 * EPS / STEPS
APGD_PASSES = 101


def median_ms(work, budget_ms=150.0):
    for _ in range(3):
        work()
    torch.cuda.synchronize()
    times, total = [], 0.0
    while (total < budget_ms and len(times) < 100) or len(times) < 5:
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        work()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end))
        total += times[-1]
    return statistics.median(times)


class Setup:
    def __init__(self, make, shape, variant):
        torch.manual_seed(0)
        precision = variant.split("_")[0]
        torch.backends.cuda.matmul.allow_tf32 = precision != "fp32"
        torch.backends.cudnn.allow_tf32 = precision != "fp32"
        torch.backends.cudnn.benchmark = True
        self.bf16 = precision == "bf16"
        self.model = make().cuda()
        self.x = torch.rand(shape, device="cuda")
        self.y = torch.randint(0, 10, (shape[0],), device="cuda")
        if "_cl" in variant:
            self.model = self.model.to(memory_format=torch.channels_last)
            self.x = self.x.contiguous(memory_format=torch.channels_last)
        self.view = frozen_view(self.model)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-3, fused=True, capturable=True)
        self.low, self.high = (self.x - EPS).clamp(0, 1), (self.x + EPS).clamp(0, 1)
        self.net, self.net_view = self.model, self.view
        if "_compile" in variant:
            self.net = torch.compile(self.model, mode="reduce-overhead", dynamic=False)
            self.net_view = torch.compile(self.view, mode="reduce-overhead", dynamic=False)

    def logits(self, net, x):
        with torch.autocast("cuda", dtype=torch.bfloat16, enabled=self.bf16, cache_enabled=False):
            return net(x)

    def gradient(self, x):
        x = x.detach().requires_grad_(True)
        loss = F.cross_entropy(self.logits(self.net_view, x).float(), self.y, reduction="sum")
        return torch.autograd.grad(loss, x)[0]

    def attack(self, steps=STEPS):
        x = torch.clamp(self.x + (torch.rand_like(self.x) * 2 - 1) * EPS, 0, 1)
        for _ in range(steps):
            g = self.gradient(x)
            x = torch.minimum(torch.maximum(x + ALPHA * g.sign(), self.low), self.high)
        return x

    def train_on(self, x):
        self.optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(self.logits(self.net, x).float(), self.y).backward()
        self.optimizer.step()


def forward(s):
    def work():
        with torch.inference_mode():
            s.logits(s.net_view, s.x)
    return work


def pgd_train(s):
    return lambda: s.train_on(s.attack())


def pgd(s):
    return lambda: s.attack()


def apgd_passes(s):
    """As many passes as Auto-PGD of 100 steps takes, with plain steps: no momentum, no best points, no verdicts."""
    return lambda: s.attack(APGD_PASSES)


def smoothing(s):
    votes = torch.zeros(10, dtype=torch.int64, device="cuda")
    ones = torch.ones_like(s.y)

    def work():
        with torch.no_grad():
            noisy = s.x[:1] + 0.25 * torch.randn_like(s.x)
            votes.scatter_add_(0, s.logits(s.net_view, noisy).argmax(1), ones)
    return work


def as_graph(work):
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            work()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph.replay


SMALL = (small_cnn, (4096, 1, 28, 28))
RESNET = (resnet18, (1024, 3, 32, 32))
WORKLOADS = [  # the order is that of what is learnt for the time
    ("pgd7 training step b4096", SMALL, pgd_train, ["fp32", "tf32", "bf16", "tf32_graph", "bf16_graph", "tf32_cl_graph",
                                                    "bf16_cl_graph", "fp32_graph"]),
    ("smoothing b4096", SMALL, smoothing, ["fp32", "tf32", "bf16", "tf32_graph", "bf16_graph", "bf16_cl_graph"]),
    ("forward b4096", SMALL, forward, ["fp32", "tf32", "tf32_graph", "bf16_graph"]),
    ("apgd100 attack b4096", SMALL, apgd_passes, ["fp32", "tf32", "tf32_graph", "bf16_graph"]),
    ("pgd7 attack b4096", SMALL, pgd, ["fp32", "tf32", "tf32_graph", "bf16_graph"]),
    ("resnet18 forward b1024", RESNET, forward, ["fp32", "tf32", "bf16", "tf32_cl", "bf16_cl"]),
    ("resnet18 pgd7 b1024", RESNET, pgd, ["tf32_cl", "bf16_cl"]),
    ("pgd7 training step b4096", SMALL, pgd_train, ["tf32_compile", "bf16_compile"]),
    ("smoothing b4096", SMALL, smoothing, ["bf16_compile"]),
    ("resnet18 forward b1024", RESNET, forward, ["bf16_cl_compile"]),
]


def main():
    deadline = time.monotonic() + (float(sys.argv[sys.argv.index("--seconds") + 1]) if "--seconds" in sys.argv else 1e9)
    with open(sys.argv[1], "w", encoding="utf-8") as out:
        def line(record):
            out.write(json.dumps(record) + "\n")
            out.flush()
            print(record)

        line({"section": "torch", "name": torch.__version__, "device": torch.cuda.get_device_name(0)})
        for name, (make, shape), build, variants in WORKLOADS:
            for variant in variants:
                if time.monotonic() > deadline:
                    line({"section": "peers", "name": name, "variant": variant, "error": "no time left"})
                    continue
                try:
                    work = build(Setup(make, shape, variant))
                    if variant.endswith("_graph"):
                        work = as_graph(work)
                    line({"section": "peers", "name": name, "variant": variant, "ms": median_ms(work)})
                except Exception as error:  # one variant that fails leaves the others
                    line({"section": "peers", "name": name, "variant": variant, "error": str(error)[:300]})
                torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
