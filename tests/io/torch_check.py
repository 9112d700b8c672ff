#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Pavise against PyTorch on the same weights: state dicts of every layout are imported, and logits and input gradients
must agree to 1e-4 of an image's largest value. Nothing is trained: weights are random.

In float64 all of them must. In float32 all logits must, and the gradients of at least three quarters of the images: where an
activation is zero but for rounding, the two may take its ReLU for open and for shut (PyTorch does so against itself in another
memory layout, for one or two of 24 images of a ResNet-18).

    torch_check.py PAVISE [--python PYTHON]

Needs PyTorch, NumPy and safetensors, in this Python or the one that --python (or PAVISE_TORCH_PYTHON) names. The exit status
is 0 where all agree, 77 (skipped) where there is no PyTorch.
"""

import argparse
import collections
import os
import pathlib
import subprocess
import sys
import tempfile

TOLERANCE = 1e-4
IMAGES = 24  # more than the sixteen of one group, and not a multiple


def python_with_torch(wanted):
    """Goes on in a Python that has PyTorch and safetensors; otherwise says so and skips."""
    try:
        import numpy  # noqa: F401
        import safetensors.torch  # noqa: F401
        import torch  # noqa: F401
        return
    except ImportError as missing:
        wanted = wanted or os.environ.get("PAVISE_TORCH_PYTHON")
        if wanted and "PAVISE_TORCH_TRIED" not in os.environ:
            os.environ["PAVISE_TORCH_TRIED"] = "1"
            os.execv(wanted, [wanted, *sys.argv])
        print(f"SKIPPED: {missing} (pip install torch safetensors, or name a Python that has them by PAVISE_TORCH_PYTHON)")
        sys.exit(77)


def networks():
    """The networks as PyTorch code of the literature writes them, by layout: (module, image shape, pixel normalisation)."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    def fast_at():
        return nn.Sequential(nn.Conv2d(1, 16, 4, stride=2, padding=1), nn.ReLU(),
                             nn.Conv2d(16, 32, 4, stride=2, padding=1), nn.ReLU(), nn.Flatten(),
                             nn.Linear(32 * 7 * 7, 100), nn.ReLU(), nn.Linear(100, 10))

    def named(*modules):
        return nn.Sequential(collections.OrderedDict(modules))

    class Trades(nn.Module):
        def __init__(self):
            super().__init__()
            self.feature_extractor = named(
                ("conv1", nn.Conv2d(1, 32, 3)), ("relu1", nn.ReLU()), ("conv2", nn.Conv2d(32, 32, 3)),
                ("relu2", nn.ReLU()), ("maxpool1", nn.MaxPool2d(2)), ("conv3", nn.Conv2d(32, 64, 3)),
                ("relu3", nn.ReLU()), ("conv4", nn.Conv2d(64, 64, 3)), ("relu4", nn.ReLU()), ("maxpool2", nn.MaxPool2d(2)))
            self.classifier = named(
                ("fc1", nn.Linear(64 * 4 * 4, 200)), ("relu1", nn.ReLU()), ("drop", nn.Dropout(0.5)),
                ("fc2", nn.Linear(200, 200)), ("relu2", nn.ReLU()), ("fc3", nn.Linear(200, 10)))

        def forward(self, x):
            return self.classifier(self.feature_extractor(x).flatten(1))

    class Madry(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1 = nn.Conv2d(1, 32, 5, padding=2)
            self.conv2 = nn.Conv2d(32, 64, 5, padding=2)
            self.linear1 = nn.Linear(7 * 7 * 64, 1024)
            self.linear2 = nn.Linear(1024, 10)

        def forward(self, x):
            x = F.max_pool2d(F.relu(self.conv1(x)), 2)
            x = F.max_pool2d(F.relu(self.conv2(x)), 2)
            return self.linear2(F.relu(self.linear1(x.flatten(1))))

    class LeNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1 = nn.Conv2d(1, 20, 5)
            self.conv2 = nn.Conv2d(20, 50, 5)
            self.fc1 = nn.Linear(4 * 4 * 50, 500)
            self.fc2 = nn.Linear(500, 10)

        def forward(self, x):
            x = F.max_pool2d(F.relu(self.conv1(x)), 2)
            x = F.max_pool2d(F.relu(self.conv2(x)), 2)
            return self.fc2(F.relu(self.fc1(x.flatten(1))))

    class BasicBlock(nn.Module):
        def __init__(self, inputs, outputs, stride):
            super().__init__()
            self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
            self.bn1 = nn.BatchNorm2d(outputs)
            self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
            self.bn2 = nn.BatchNorm2d(outputs)
            self.shortcut = nn.Sequential()
            if stride != 1 or inputs != outputs:
                self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False),
                                              nn.BatchNorm2d(outputs))

        def forward(self, x):
            out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
            return F.relu(out + self.shortcut(x))

    class PreActBlock(nn.Module):
        def __init__(self, inputs, outputs, stride):
            super().__init__()
            self.bn1 = nn.BatchNorm2d(inputs)
            self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
            self.bn2 = nn.BatchNorm2d(outputs)
            self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
            if stride != 1 or inputs != outputs:
                self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False))

        def forward(self, x):
            out = F.relu(self.bn1(x))
            side = self.shortcut(out) if hasattr(self, "shortcut") else x
            return self.conv2(F.relu(self.bn2(self.conv1(out)))) + side

    class ResNet18(nn.Module):
        def __init__(self, block, classes=10):
            super().__init__()
            self.pre = block is PreActBlock
            self.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
            if not self.pre:
                self.bn1 = nn.BatchNorm2d(64)
            inputs = 64
            for i, outputs in enumerate((64, 128, 256, 512)):
                stage = nn.Sequential(block(inputs, outputs, 1 if i == 0 else 2), block(outputs, outputs, 1))
                setattr(self, f"layer{i + 1}", stage)
                inputs = outputs
            if self.pre:
                self.bn = nn.BatchNorm2d(512)
            self.linear = nn.Linear(512, classes)

        def forward(self, x):
            x = self.conv1(x)
            x = x if self.pre else F.relu(self.bn1(x))
            for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
                x = stage(x)
            x = F.relu(self.bn(x)) if self.pre else x
            return self.linear(F.avg_pool2d(x, 4).flatten(1))

    class Wrapped(nn.Module):
        """A network with its normalisation and a second time within its attacker."""
        class Normalizer(nn.Module):
            def __init__(self, mean, deviation):
                super().__init__()
                self.register_buffer("new_mean", mean)
                self.register_buffer("new_std", deviation)

            def forward(self, x):
                return (torch.clamp(x, 0, 1) - self.new_mean) / self.new_std

        def __init__(self, model):
            super().__init__()
            mean = torch.tensor([0.4914, 0.4822, 0.4465]).view(3, 1, 1)
            deviation = torch.tensor([0.2023, 0.1994, 0.2010]).view(3, 1, 1)
            self.normalizer = self.Normalizer(mean, deviation)
            self.model = model
            self.attacker = nn.ModuleDict({"normalize": self.Normalizer(mean, deviation), "model": model})

        def forward(self, x):
            return self.model(self.normalizer(x))

    grey, colour = (1, 28, 28), (3, 32, 32)
    cifar = (torch.tensor([0.4914, 0.4822, 0.4465]).view(3, 1, 1), torch.tensor([0.2471, 0.2435, 0.2616]).view(3, 1, 1))
    return {
        "fast-at-mnist": (fast_at(), grey, None),
        "fast-at-cifar": (ResNet18(PreActBlock), colour, cifar),
        "trades-mnist": (Trades(), grey, None),
        "madry-mnist": (Madry(), grey, None),
        "madry-cifar": (nn.DataParallel(Wrapped(ResNet18(BasicBlock))), colour, None),
        "resnet18": (ResNet18(BasicBlock, classes=100), colour, None),
        "preact-resnet18": (ResNet18(PreActBlock), colour, None),
        "lenet": (LeNet(), grey, None),
    }


def randomize(module):
    """Batch normalisation that is not the identity: weights, means and variances as after training."""
    import torch
    for m in module.modules():
        if isinstance(m, torch.nn.BatchNorm2d):
            m.weight.data.uniform_(0.5, 1.5)
            m.bias.data.uniform_(-0.2, 0.2)
            m.running_mean.uniform_(-0.2, 0.2)
            m.running_var.uniform_(0.5, 1.5)


def run(program, *arguments):
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"FAILED: pavise {' '.join(map(str, arguments))}: {done.stderr}")


def differences(ours, theirs):
    """The largest difference of each image, by the largest value of that image."""
    import numpy as np
    ours, theirs = (a.reshape(len(a), -1).astype(np.float64) for a in (ours, theirs))
    scale = np.abs(theirs).max(axis=1)
    if not (scale > 0).all():
        sys.exit("FAILED: a gradient or all logits of an image are zero: the comparison would say nothing")
    return np.abs(ours - theirs).max(axis=1) / scale


def check(program, layout, module, shape, normalisation, scratch):
    """What is wrong, and a line of figures."""
    import numpy as np
    import safetensors.torch
    import torch

    module.eval()
    randomize(module)
    state = {name: tensor.clone().contiguous() for name, tensor in module.state_dict().items()}
    safetensors.torch.save_file(state, scratch / "state.safetensors")
    images = torch.rand(IMAGES, *shape)
    labels = torch.randint(0, 10, (IMAGES,))
    np.save(scratch / "images.npy", images.numpy())
    np.save(scratch / "labels.npy", labels.numpy())
    run(program, "import", "--layout", layout, "--in", scratch / "state.safetensors", "--out", scratch / "model.safetensors")
    module = module.module if isinstance(module, torch.nn.DataParallel) else module
    wrong, figures = [], []
    for name, dtype, flags in (("float64", torch.float64, ["--double"]), ("float32", torch.float32, [])):
        run(program, "logits", "--model-file", scratch / "model.safetensors", "--images", scratch / "images.npy",
            "--labels", scratch / "labels.npy", "--out", scratch, *flags)
        module = module.to(dtype)
        x = images.to(dtype).requires_grad_(True)
        mean, deviation = normalisation if normalisation is not None else (torch.zeros(1), torch.ones(1))
        logits = module((x - mean.to(dtype)) / deviation.to(dtype))
        torch.nn.functional.cross_entropy(logits, labels, reduction="sum").backward()
        logits = differences(np.load(scratch / "logits.npy"), logits.detach().numpy())
        gradients = differences(np.load(scratch / "gradients.npy"), x.grad.numpy())
        beyond = int((gradients > TOLERANCE).sum())
        if not logits.max() <= TOLERANCE:
            wrong.append(f"{name}: logits differ by {logits.max():.1e}")
        if not np.isfinite(gradients).all() or beyond > (0 if name == "float64" else IMAGES // 4):
            wrong.append(f"{name}: the gradients of {beyond} of {IMAGES} images differ by more than {TOLERANCE}")
        figures.append(f"{logits.max():.1e}  {gradients.max():.1e}" if name == "float64" else
                       f"{logits.max():.1e}  {np.median(gradients):.1e}  {gradients.max():.1e}  {beyond}")
    return wrong, "    ".join(figures)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", help="the `pavise` program")
    parser.add_argument("--python", help="a Python that has PyTorch and safetensors")
    options = parser.parse_args()
    python_with_torch(options.python)
    import torch

    torch.manual_seed(0)
    failed = False
    print(f"PyTorch {torch.__version__}, {IMAGES} images, relative differences. float64: largest of logits and of gradients; "
          "float32: largest of logits, median and largest of gradients, images beyond 1e-4")
    for layout, (module, shape, normalisation) in networks().items():
        with tempfile.TemporaryDirectory(prefix="pavise-torch-") as scratch:
            wrong, figures = check(options.program, layout, module, shape, normalisation, pathlib.Path(scratch))
        failed = failed or bool(wrong)
        print(f"{'FAILED' if wrong else 'ok':7}{layout:17}{figures}  {'; '.join(wrong)}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
