#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Attacks of the AutoAttack and torchattacks packages on a model file of Pavise, for compare_attacks.py.

    python3 torch_attacks.py --model-file m.safetensors --data DIR --attack apgd-ce --eps 0.3 --count 1000

Prints one line of JSON: {"attack", "package", "seconds", "clean", "robust", "count", "fell", "mean_l2"}; the last two are
of the images that were right and became wrong. The time is that of the attack alone, on images already in memory;
loading and one warm-up batch are not in it. DIR holds MNIST's (or Fashion-MNIST's) t10k files as gzipped IDX. The model is small-cnn; its tensors have PyTorch's names and shapes.
"""

import argparse
import gzip
import json
import os
import sys
import time

THREADS = int(os.environ.get("OMP_NUM_THREADS", "2"))

try:
    import torch
    from safetensors.torch import load_file
    from torch import nn
except ImportError as error:
    sys.exit(f"torch_attacks.py: {error}; install: pip install torch==2.13.0 safetensors torchattacks pyautoattack")


class SmallCnn(nn.Module):
    """conv 1-16 and 16-32 (4x4, stride 2, pad 1), fc 100, fc 10, as the Fast-AT paper's network."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 4, stride=2, padding=1)
        self.conv2 = nn.Conv2d(16, 32, 4, stride=2, padding=1)
        self.fc1 = nn.Linear(32 * 7 * 7, 100)
        self.fc2 = nn.Linear(100, 10)

    def forward(self, x):
        x = torch.relu(self.conv2(torch.relu(self.conv1(x))))
        return self.fc2(torch.relu(self.fc1(x.flatten(1))))


def read_idx(directory, count):
    with gzip.open(os.path.join(directory, "t10k-images-idx3-ubyte.gz")) as file:
        pixels = torch.frombuffer(bytearray(file.read()[16:16 + count * 784]), dtype=torch.uint8)
    with gzip.open(os.path.join(directory, "t10k-labels-idx1-ubyte.gz")) as file:
        labels = torch.frombuffer(bytearray(file.read()[8:8 + count]), dtype=torch.uint8)
    return pixels.view(-1, 1, 28, 28).float() / 255, labels.long()


def correct(model, x, y):
    with torch.no_grad():
        return int((model(x).argmax(1) == y).sum())


def auto_attack(name, model, x, y, options):
    from pyautoattack import AutoAttack
    suite = AutoAttack(model, norm="Linf", eps=options.eps, version="custom", attacks=[name], device="cpu",
                       seed=options.seed)
    if name == "apgd-ce":
        suite.apgd.n_restarts = 1
        suite.apgd.n_iter = options.steps or 100
    if name == "square":
        suite.square.n_queries = options.steps or 5000
    out = suite.run_standard_evaluation(x, y, batch_size=options.batch)
    return out[0] if isinstance(out, tuple) else out  # some versions return the accuracies too


def carlini_wagner(model, x, y, options):
    import torchattacks
    attack = torchattacks.CW(model, c=1, kappa=0, steps=options.steps or 100, lr=0.01)
    return torch.cat([attack(a, b) for a, b in zip(x.split(options.batch), y.split(options.batch))])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model-file", required=True)
    parser.add_argument("--data", required=True, help="directory with the t10k files")
    parser.add_argument("--attack", required=True, choices=["apgd-ce", "apgd-t", "fab-t", "square", "cw"])
    parser.add_argument("--eps", type=float, default=0.3)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=0, help="0: the attack's own (100; 5000 queries)")
    parser.add_argument("--batch", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(THREADS)
    torch.manual_seed(options.seed)
    model = SmallCnn().eval()
    model.load_state_dict(load_file(options.model_file), strict=True)
    for p in model.parameters():
        p.requires_grad_(False)
    x, y = read_idx(options.data, options.count)
    clean = correct(model, x, y)
    model(x[:options.batch])
    out = sys.stdout
    sys.stdout = sys.stderr  # AutoAttack prints what it does
    start = time.perf_counter()
    if options.attack == "cw":
        adversarial = carlini_wagner(model, x, y, options)
    else:
        adversarial = auto_attack(options.attack, model, x, y, options)
    seconds = time.perf_counter() - start
    sys.stdout = out
    distance = (adversarial - x).flatten(1).norm(dim=1)
    fell = (model(x).argmax(1) == y) & (model(adversarial).argmax(1) != y)
    print(json.dumps({"attack": options.attack, "package": "torchattacks" if options.attack == "cw" else "AutoAttack",
                      "seconds": seconds, "clean": clean, "robust": correct(model, adversarial, y),
                      "count": options.count, "fell": int(fell.sum()),
                      "mean_l2": float(distance[fell].mean()) if fell.any() else None}))


if __name__ == "__main__":
    main()
