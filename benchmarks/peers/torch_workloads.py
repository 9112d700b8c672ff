#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The workloads of benchmarks/workloads.cpp in PyTorch (CPU), each in several variants.

    python3 torch_workloads.py --serve              the line protocol, for compare.py
    python3 torch_workloads.py --list               the names, WORKLOAD:VARIANT
    python3 torch_workloads.py --run NAME [...]     measure here and print a table; a bare WORKLOAD is all its variants

The line protocol: `WORKLOAD:VARIANT SECONDS` on standard input, answered by one line of JSON,
    {"workload": ..., "samples": [seconds of each iteration, ...], "flops_per_iteration": null, "peak_gflops": null,
     "items_per_iteration": n}
or {"workload": ..., "error": "..."}; `list` answers {"workloads": [...]}; `quit` ends.

What is done so that PyTorch shows its best:
  * an attack's gradient is that of the input alone, through a view of the model whose parameters share the storage of
    the trained ones and do not require gradients; forward runs under inference_mode;
  * the bounds of the projection are computed once for each batch, and the update is done in place;
  * Adam is the fused one; gradients are set to None, never zeroed;
  * denormals are flushed to zero, so that a model that has learnt its batch does not slow down;
  * the model starts again from its first weights before each sample, outside the timed part.

The variants:
  eager                plain modules
  channels_last        the same with input and weights in channels_last
  compile              torch.compile of model and loss; autograd around it
  compile_step         torch.compile of a whole attack step: forward, torch.func.grad, sign, projection
  compile_freeze       torch.compile with frozen weights (packed once, batch norm folded): forward only
  compile_train        torch.compile of loss and, in the attack, of whole steps (training workloads)
"""

import argparse
import copy
import json
import os
import statistics
import subprocess
import sys
import time

# Both sides get the same number of threads, and no thread of a waiting process spins on a core that the other needs.
THREADS = int(os.environ.get("OMP_NUM_THREADS", "2"))
os.environ["OMP_NUM_THREADS"] = str(THREADS)
os.environ.setdefault("MKL_NUM_THREADS", str(THREADS))
os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")  # no pool of compiler processes left beside the measurement

try:
    import torch
    import torch.nn.functional as F
    from torch import nn
except ImportError as error:
    sys.exit(f"torch_workloads.py: {error}; install PyTorch for this Python ({sys.executable}): "
             "pip install torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu")

EPS = 0.1
PGD_STEPS = 7
PGD_ALPHA = 2.5 * EPS / PGD_STEPS
FGSM_ALPHA = 1.25 * EPS
BATCH = 128
RESNET_BATCH = 32
RANDN_ITEMS = 16_777_216
MEMORY_STEPS = 50


# --- models -----------------------------------------------------------------------------------------------------------


def small_cnn():
    """The network of the Fast-AT paper for (1,28,28): conv 1-16 and 16-32 (4x4, stride 2, pad 1), fc 100, fc 10."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 4, stride=2, padding=1), nn.ReLU(inplace=True),
        nn.Conv2d(16, 32, 4, stride=2, padding=1), nn.ReLU(inplace=True),
        nn.Flatten(), nn.Linear(32 * 7 * 7, 100), nn.ReLU(inplace=True), nn.Linear(100, 10))


class BasicBlock(nn.Module):
    def __init__(self, c_in, c_out, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.shortcut = nn.Identity()
        if stride != 1 or c_in != c_out:
            self.shortcut = nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out))

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = self.bn2(self.conv2(y))
        return F.relu(y + self.shortcut(x), inplace=True)


def resnet18():
    """ResNet-18 for (3,32,32): 3x3 stem of 64, four stages of two BasicBlocks, widths 64 to 512, global average."""
    layers = [nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU(inplace=True)]
    c_in = 64
    for c_out, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        layers += [BasicBlock(c_in, c_out, stride), BasicBlock(c_out, c_out, 1)]
        c_in = c_out
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10)).eval()


def frozen_view(model):
    """The same model with parameters that share the storage of `model`'s and do not require gradients."""
    view = copy.deepcopy(model)
    for mine, theirs in zip(view.parameters(), model.parameters()):
        mine.data = theirs.data
        mine.requires_grad_(False)
    return view


# --- the parts that a workload is made of -----------------------------------------------------------------------------


def compiled(function, **options):
    """torch.compile of `function` under a code object of its own: what was compiled for the other workloads of this
    process is kept by code object, and would be searched at each call."""
    def own(*arguments):
        return function(*arguments)

    own.__code__ = own.__code__.replace()
    return torch.compile(own, dynamic=False, fullgraph=True, **options)


class Setup:
    """A model and a batch in one variant's memory format."""

    def __init__(self, make_model, shape, variant):
        torch.manual_seed(0)
        self.variant = variant
        self.model = make_model()
        self.x = torch.rand(shape)
        self.y = torch.randint(0, 10, (shape[0],))
        if variant.startswith("channels_last"):
            self.model = self.model.to(memory_format=torch.channels_last)
            self.x = self.x.contiguous(memory_format=torch.channels_last)
        self.view = frozen_view(self.model)
        self.first_weights = [p.detach().clone() for p in self.model.parameters()]

    @torch.no_grad()
    def restart(self):
        for parameter, value in zip(self.model.parameters(), self.first_weights):
            parameter.copy_(value)


def summed_loss(model):
    """Cross-entropy, summed: the gradient of each image is then that of its own loss."""
    return lambda x, y: F.cross_entropy(model(x), y, reduction="sum")


def input_gradient(setup):
    """A function (x, y) -> gradient of each image's loss with respect to the image."""
    if setup.variant == "compile_step":
        return compiled(torch.func.grad(summed_loss(setup.view)))
    loss = summed_loss(setup.view)
    if setup.variant == "compile":
        loss = compiled(loss)

    def gradient(x, y):
        x = x.detach().requires_grad_()
        return torch.autograd.grad(loss(x, y), x)[0]

    return gradient


def pgd_attack(setup, steps=PGD_STEPS, alpha=PGD_ALPHA):
    """A function (x, y) -> adversarial x: random start in the eps-cube, `steps` steps of the gradient's sign, each
    projected on the cube and on [0,1]. One step of 1.25 eps is FGSM with random start."""
    if setup.variant in ("compile_step", "compile_train"):
        gradient = torch.func.grad(summed_loss(setup.view))
        start = compiled(lambda x: ((x - EPS).clamp(min=0), (x + EPS).clamp(max=1), x + (2 * torch.rand_like(x) - 1) * EPS))
        step = compiled(lambda x, y, low, high: (x + alpha * gradient(x, y).sign()).clamp(low, high))

        @torch.no_grad()
        def attack(x, y):
            low, high, x_adv = start(x)
            for _ in range(steps):
                x_adv = step(x_adv, y, low, high)
            return x_adv

        return attack

    gradient = input_gradient(setup)

    def attack(x, y):
        low, high = (x - EPS).clamp_(min=0), (x + EPS).clamp_(max=1)
        x_adv = torch.empty_like(x).uniform_(-EPS, EPS).add_(x)
        for _ in range(steps):
            x_adv = x_adv.add_(gradient(x_adv, y).sign_(), alpha=alpha).clamp_(low, high)
        return x_adv

    return attack


def adam_step(setup):
    """A function (x, y) that does one training step (mean cross-entropy, Adam 1e-3), and one that starts again."""
    optimizer = torch.optim.Adam(setup.model.parameters(), lr=1e-3, fused=True)

    def loss(x, y):
        return F.cross_entropy(setup.model(x), y)

    if setup.variant in ("compile", "compile_train"):
        loss = compiled(loss)

    def step(x, y):
        loss(x, y).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def restart():
        setup.restart()
        for state in optimizer.state.values():
            for value in state.values():
                value.zero_()

    return step, restart


# --- the workloads: each makes (iterate, restart, items of an iteration) ----------------------------------------------


def nothing():
    pass


def forward(make_model, shape):
    def make(variant):
        setup = Setup(make_model, shape, variant)
        model = setup.view.eval()
        if variant == "compile":
            model = compiled(model)
        elif variant == "compile_freeze":
            model = compiled(model, options={"freezing": True})
        # Frozen weights are folded while gradients are off; inference_mode itself is not accepted there.
        guard = torch.no_grad if variant == "compile_freeze" else torch.inference_mode

        def iterate():
            with guard():
                model(setup.x)

        return iterate, nothing, shape[0]

    return make


def input_grad(make_model, shape):
    def make(variant):
        setup = Setup(make_model, shape, variant)
        gradient = input_gradient(setup)
        return lambda: gradient(setup.x, setup.y), nothing, shape[0]

    return make


def attack_only(make_model, shape):
    def make(variant):
        setup = Setup(make_model, shape, variant)
        setup.view.eval()
        attack = pgd_attack(setup)
        return lambda: attack(setup.x, setup.y), nothing, shape[0]

    return make


def train(steps=0, alpha=0.0):
    def make(variant):
        setup = Setup(small_cnn, (BATCH, 1, 28, 28), variant)
        step, restart = adam_step(setup)
        if steps == 0:
            return lambda: step(setup.x, setup.y), restart, BATCH
        attack = pgd_attack(setup, steps, alpha)
        return lambda: step(attack(setup.x, setup.y), setup.y), restart, BATCH

    return make


def normals(variant):
    if variant == "eager":
        buffer = torch.empty(RANDN_ITEMS)
        return buffer.normal_, nothing, RANDN_ITEMS
    if variant == "torch_randn":
        return lambda: torch.randn(RANDN_ITEMS), nothing, RANDN_ITEMS
    draw = compiled(lambda: torch.randn(RANDN_ITEMS))
    return draw, nothing, RANDN_ITEMS


FORWARD = ("eager", "channels_last", "compile", "compile_freeze")
GRADIENT = ("eager", "channels_last", "compile", "compile_step")
TRAIN = ("eager", "channels_last", "compile", "compile_train")
MEMORY = "peak_memory_pgd7"

SMALL = (BATCH, 1, 28, 28)
COLOUR = (RESNET_BATCH, 3, 32, 32)

WORKLOADS = {
    "small_cnn_forward_b128": (FORWARD, forward(small_cnn, SMALL)),
    "small_cnn_input_grad_b128": (GRADIENT, input_grad(small_cnn, SMALL)),
    "small_cnn_train_adam_b128": (("eager", "channels_last", "compile"), train()),
    "small_cnn_fgsm_rs_train_b128": (TRAIN, train(1, FGSM_ALPHA)),
    "small_cnn_pgd7_train_b128": (TRAIN, train(PGD_STEPS, PGD_ALPHA)),
    "small_cnn_pgd7_attack_b1": (GRADIENT, attack_only(small_cnn, (1, 1, 28, 28))),
    "randn": (("eager", "torch_randn", "compile"), normals),
    "resnet18_forward_b32": (FORWARD, forward(resnet18, COLOUR)),
    "resnet18_pgd7_attack_b32": (GRADIENT, attack_only(resnet18, COLOUR)),
    MEMORY: (("eager", "channels_last"), None),
}


# --- measuring --------------------------------------------------------------------------------------------------------


def peak_resident_bytes():
    """The peak resident memory of this process. VmHWM, because on Linux ru_maxrss begins at that of the process which
    started this one."""
    try:
        with open("/proc/self/status", encoding="ascii") as status:
            for line in status:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    import resource
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def memory_job(variant):
    """The PGD-7 training job: 50 steps, a fresh random batch each."""
    setup = Setup(small_cnn, SMALL, variant)
    step, _ = adam_step(setup)
    attack = pgd_attack(setup)
    for _ in range(MEMORY_STEPS):
        x, y = setup.x.uniform_(0, 1), setup.y.random_(0, 10)
        step(attack(x, y), y)
    return peak_resident_bytes()


class Runner:
    """Keeps every workload that was asked for once, compiled and warm, for the samples that follow."""

    def __init__(self):
        self.made = {}

    def names(self):
        return [f"{name}:{variant}" for name, (variants, _) in WORKLOADS.items() for variant in variants]

    def sample(self, full_name, seconds):
        name, _, variant = full_name.partition(":")
        if name not in WORKLOADS:
            raise ValueError(f"unknown workload `{name}`; there are {', '.join(WORKLOADS)}")
        variants, make = WORKLOADS[name]
        variant = variant or variants[0]
        if variant not in variants:
            raise ValueError(f"unknown variant `{variant}` of {name}; there are {', '.join(variants)}")
        if name == MEMORY:
            child = subprocess.run([sys.executable, os.path.abspath(__file__), "--memory-job", variant], check=True,
                                   stdout=subprocess.PIPE, text=True)
            return self.answer(full_name, [int(child.stdout.split()[-1])], BATCH * MEMORY_STEPS)
        if full_name not in self.made:
            iterate, restart, items = make(variant)
            for _ in range(3):  # the first compiles, the next ones settle allocator and caches
                iterate()
            self.made[full_name] = iterate, restart, items, self.timed(iterate)
        iterate, restart, items, estimate = self.made[full_name]
        restart()
        clock = time.perf_counter()
        while estimate < 0.1 * seconds and time.perf_counter() - clock < 0.1 * seconds:  # caches, clock frequency
            iterate()
        samples = []
        clock = time.perf_counter()
        while not samples or time.perf_counter() - clock + 0.5 * samples[-1] < seconds:
            samples.append(self.timed(iterate))
        return self.answer(full_name, samples, items)

    @staticmethod
    def timed(iterate):
        clock = time.perf_counter()
        iterate()
        return time.perf_counter() - clock

    @staticmethod
    def answer(name, samples, items):
        return {"workload": name, "samples": samples, "flops_per_iteration": None, "peak_gflops": None,
                "items_per_iteration": items}


def serve(runner):
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever a compiler prints goes to standard error, never into the protocol
    for line in sys.stdin:
        words = line.split()
        if not words:
            continue
        if words[0] == "quit":
            return
        if words[0] == "list":
            reply = {"workloads": runner.names()}
        elif words[0] == "version":
            reply = {"version": f"PyTorch {torch.__version__}, {torch.get_num_threads()} threads, "
                                f"{torch.backends.cpu.get_cpu_capability()}"}
        else:
            try:
                reply = runner.sample(words[0], float(words[1]))
            except Exception as error:  # a variant that cannot run is reported, and the others go on
                reply = {"workload": words[0], "error": f"{type(error).__name__}: {error}".splitlines()[0][:400]}
        out.write(json.dumps(reply) + "\n")
        out.flush()


def run(runner, names, seconds):
    known = runner.names()
    chosen = [full for wanted in names for full in known if wanted in (full, full.partition(":")[0], "all")]
    if not chosen:
        sys.exit(f"torch_workloads.py: no workload is called {' or '.join(names)}; there are: {' '.join(known)}")
    for full in chosen:
        clock = time.perf_counter()
        try:
            samples = runner.sample(full, seconds)["samples"]
        except Exception as error:
            print(f"{full:46} fails: {str(error).splitlines()[0][:200]}", flush=True)
            continue
        scale, unit = (1 / 2**20, "MiB") if full.startswith(MEMORY) else (1e3, "ms")
        print(f"{full:46} best {min(samples) * scale:10.3f} {unit}  median {statistics.median(samples) * scale:10.3f} "
              f"{unit}  ({len(samples)} iterations, {time.perf_counter() - clock:.0f} s in all)", flush=True)


def main():
    parser = argparse.ArgumentParser(description="The benchmark workloads in PyTorch (CPU).")
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--serve", action="store_true", help="answer the line protocol on standard input and output")
    action.add_argument("--list", action="store_true", help="print the names, WORKLOAD:VARIANT")
    action.add_argument("--run", nargs="+", metavar="NAME", help="measure these (or `all`) and print a table")
    action.add_argument("--memory-job", metavar="VARIANT", help="do the PGD-7 training job and print the peak in bytes")
    parser.add_argument("--seconds", type=float, default=1.0, help="time of each measurement with --run (default 1)")
    arguments = parser.parse_args()
    torch.set_num_threads(THREADS)
    torch.set_flush_denormal(True)
    runner = Runner()
    if arguments.serve:
        serve(runner)
    elif arguments.list:
        print("\n".join(runner.names()))
    elif arguments.memory_job:
        print(memory_job(arguments.memory_job))
    else:
        run(runner, arguments.run, arguments.seconds)


if __name__ == "__main__":
    main()
