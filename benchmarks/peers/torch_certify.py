#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Randomized smoothing in PyTorch (CPU), for benchmarks/compare_certify.py.

    python3 torch_certify.py --model FILE.safetensors --images IMAGES.gz --labels LABELS.gz --sigma S

Requests on standard input, each answered by a line of JSON:

    samples VARIANT BATCH SECONDS   noisy samples a second of one image: noise, forward pass, arg-max and counting
    certify PROCEDURE I             CERTIFY of Cohen et al. (2019) for image I: 100 samples for the class and 100,000 for
                                    the Clopper-Pearson bound at alpha 0.001; PROCEDURE is `cohen`, the published
                                    procedure written in PyTorch (batches of 1000), or `art`, that of the Adversarial
                                    Robustness Toolbox. {"radius": 0 where it abstains, "correct": ..., "seconds": ...}
    version, quit

The network is small-cnn; its tensors come from a file that Pavise wrote. The variants are those of torch_workloads.py.
"""

import argparse
import copy
import gzip
import json
import os
import sys
import time

from torch_workloads import compiled, small_cnn, torch

import numpy as np
from safetensors.torch import load_file
from scipy.stats import beta, norm

N0, N, ALPHA, BATCH = 100, 100_000, 0.001, 1000


def idx(path):
    data = gzip.open(path).read() if str(path).endswith(".gz") else open(path, "rb").read()
    rank = data[3]
    shape = [int.from_bytes(data[4 + 4 * i:8 + 4 * i], "big") for i in range(rank)]
    return np.frombuffer(data, np.uint8, offset=4 + 4 * rank).reshape(shape)


class Peer:
    def __init__(self, arguments):
        self.sigma = arguments.sigma
        self.images = torch.from_numpy(idx(arguments.images).astype(np.float32) / 255)[:, None]
        self.labels = idx(arguments.labels)
        model = small_cnn()
        tensors = load_file(arguments.model)
        ordered = [tensors[f"{layer}.{part}"] for layer in ("conv1", "conv2", "fc1", "fc2") for part in ("weight", "bias")]
        for parameter, value in zip(model.parameters(), ordered):
            parameter.data.copy_(value)
            parameter.requires_grad_(False)
        self.model = model.eval()
        self.made = {}
        self.toolbox = None

    def votes_of(self, variant):
        """A function (noisy batch) -> arg-max of each."""
        if variant not in self.made:
            model = self.model
            if variant == "channels_last":
                model = copy.deepcopy(model).to(memory_format=torch.channels_last)
            sigma = self.sigma

            def votes(image, batch):
                noisy = torch.randn_like(batch).mul_(sigma).add_(image)
                return model(noisy).argmax(1)

            self.made[variant] = compiled(lambda image, batch: model(image + sigma * torch.randn_like(batch)).argmax(1)) \
                if variant == "compile" else votes
        return self.made[variant]

    def samples(self, variant, batch, seconds):
        votes = self.votes_of(variant)
        room = torch.empty(batch, 1, 28, 28)
        if variant == "channels_last":
            room = room.contiguous(memory_format=torch.channels_last)
        best, counts, total, begin = 1e9, torch.zeros(10, dtype=torch.int64), 0, 0.0
        with torch.inference_mode() if variant != "compile" else torch.no_grad():
            for _ in range(3):
                votes(self.images[:1], room)
            begin = time.perf_counter()
            while time.perf_counter() - begin < seconds:
                clock = time.perf_counter()
                counts += torch.bincount(votes(self.images[:1], room), minlength=10)
                best = min(best, time.perf_counter() - clock)
                total += batch
        return {"best": batch / best, "mean": total / (time.perf_counter() - begin)}

    def count(self, image, n):
        counts = np.zeros(10, dtype=np.int64)
        with torch.inference_mode():
            while n > 0:
                this = min(BATCH, n)
                n -= this
                batch = image.repeat((this, 1, 1, 1))
                noise = torch.randn_like(batch) * self.sigma
                predictions = self.model(batch + noise).argmax(1).numpy()
                for p in predictions:
                    counts[p] += 1
        return counts

    def cohen(self, i):
        image = self.images[i:i + 1]
        chosen = int(self.count(image, N0).argmax())
        won = int(self.count(image, N)[chosen])
        bound = float(beta.ppf(ALPHA, won, N - won + 1))
        return chosen, self.sigma * float(norm.ppf(bound)) if bound > 0.5 else 0.0

    def art(self, i):
        if self.toolbox is None:
            from art.estimators.certification.randomized_smoothing import PyTorchRandomizedSmoothing
            self.toolbox = PyTorchRandomizedSmoothing(
                model=self.model, loss=torch.nn.CrossEntropyLoss(), input_shape=(1, 28, 28), nb_classes=10,
                sample_size=N0, scale=self.sigma, alpha=ALPHA, device_type="cpu")
        predicted, radius = self.toolbox.certify(self.images[i:i + 1].numpy(), n=N, batch_size=BATCH)
        return int(predicted[0]), max(float(radius[0]), 0.0)

    def certify(self, procedure, i):
        clock = time.perf_counter()
        chosen, radius = self.cohen(i) if procedure == "cohen" else self.art(i)
        return {"radius": radius, "correct": chosen == int(self.labels[i]), "seconds": time.perf_counter() - clock}


def main():
    parser = argparse.ArgumentParser(description="Randomized smoothing in PyTorch, for compare_certify.py.")
    parser.add_argument("--model", required=True)
    parser.add_argument("--images", required=True)
    parser.add_argument("--labels", required=True)
    parser.add_argument("--sigma", type=float, required=True)
    peer = Peer(parser.parse_args())
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print goes to standard error
    for line in sys.stdin:
        words = line.split()
        if not words or words[0] == "quit":
            break
        try:
            if words[0] == "samples":
                reply = peer.samples(words[1], int(words[2]), float(words[3]))
            elif words[0] == "certify":
                reply = peer.certify(words[1], int(words[2]))
            else:
                reply = {"version": f"PyTorch {torch.__version__}, {torch.get_num_threads()} threads"}
        except Exception as error:  # reported; the other requests go on
            reply = {"error": f"{type(error).__name__}: {error}".splitlines()[0][:300]}
        out.write(json.dumps(reply) + "\n")
        out.flush()


if __name__ == "__main__":
    main()
