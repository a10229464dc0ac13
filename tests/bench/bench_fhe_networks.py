"""Encrypted networks beside the operators that TenSEAL's tutorials use, on the same images in the same run.

Run as a script: prints two tables and the bars. One process; torch and the linear algebra library use one
thread; seeds are fixed. The digits network is conv 4@3×3, square, dense 32, square, dense 10; the wide one is
784-128-10 with a square, on the same digits enlarged to 28×28. "compute" is the median of what the server
does, "first" its first run, which also reads the ciphertexts and encodes the weights.
"""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import resource
import sys
import time
from statistics import median

import numpy as np
import tenseal
import torch
from report import at_least, at_most, bars, compare, machine, show
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

from twopm_kit.fhe import KeyHolder
from twopm_kit.fhe.networks.module import EncryptedModule
from twopm_kit.fhe.networks.module import compile as compiled

SEED = 7
REPEATS = 5
TUTORIAL_IMAGES = 4
WIDE_IMAGES = 1000


class Convolution(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.hidden, self.out = nn.Conv2d(1, 4, 3), nn.Linear(144, 32), nn.Linear(32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x.view(-1, 1, 8, 8)) ** 2
        return self.out(self.hidden(x.flatten(1)) ** 2)


class Wide(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.out = nn.Linear(784, 128), nn.Linear(128, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.hidden(x) ** 2)


def trained(module: nn.Module, x: np.ndarray, y: np.ndarray) -> nn.Module:
    optimiser = torch.optim.Adam(module.parameters(), lr=3e-3, weight_decay=1e-4)
    rows, labels = torch.tensor(x, dtype=torch.float32), torch.tensor(y)
    for _ in range(40):
        for chosen in torch.randperm(len(rows)).split(64):
            optimiser.zero_grad()
            nn.functional.cross_entropy(module(rows[chosen]), labels[chosen]).backward()
            optimiser.step()
    return module.eval()


def row_of(name: str, images: int, compute: float, sent: int, opened: np.ndarray, clear: np.ndarray, **more):
    return {
        "code": name,
        "images": images,
        "compute s": compute,
        "images/s": images / compute,
        "bytes up an image": sent / images,
        "error / largest logit": np.abs(opened - clear).max() / np.abs(clear).max(),
        "same answer": f"{(opened.argmax(1) == clear.argmax(1)).sum():,} of {len(clear):,}",
        **more,
    }


def tutorial(module: Convolution, x: np.ndarray, clear: np.ndarray) -> dict[str, object]:
    """Convolution as im2col, channels packed, dense layers as vector-matrix products."""
    bits = [31, 26, 26, 26, 26, 26, 26, 31]
    context = tenseal.context(tenseal.SCHEME_TYPE.CKKS, 8192, -1, bits, n_threads=1)
    context.global_scale = 2**26
    context.generate_galois_keys()
    kernels, offsets = module.conv.weight.data[:, 0].tolist(), module.conv.bias.data.tolist()
    dense = [(part.weight.T.data.tolist(), part.bias.data.tolist()) for part in (module.hidden, module.out)]
    times, opened, sent = [], [], 0
    for image in x:
        encrypted, windows = tenseal.im2col_encoding(context, image.reshape(8, 8).tolist(), 3, 3, 1)
        sent += len(encrypted.serialize())
        start = time.perf_counter()
        channels = [encrypted.conv2d_im2col(k, windows) + b for k, b in zip(kernels, offsets, strict=True)]
        values = tenseal.CKKSVector.pack_vectors(channels)
        values.square_()
        values = values.mm(dense[0][0]) + dense[0][1]
        values.square_()
        values = values.mm(dense[1][0]) + dense[1][1]
        times.append(time.perf_counter() - start)
        opened.append(values.decrypt())
    name = "TenSEAL operators, one image a vector"
    return row_of(name, 1, median(times), sent // len(x), np.array(opened), clear)


def ours(
    name: str, net: EncryptedModule, x: np.ndarray, clear: np.ndarray, repeats: int
) -> dict[str, object]:
    """The kit, in the layout that it chooses."""
    holder = KeyHolder.generate(net.profile, budget=1_000_000)
    layout, plan = net.layout(len(x)), net.plan_for(len(x))
    key = holder.evaluator(rotations=plan.rotations)
    start = time.perf_counter()
    enc = holder.encrypt(x, layout=layout)
    encrypting = time.perf_counter() - start
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        scores = net.predict(enc, key=key)
        times.append(time.perf_counter() - start)
    opened = np.asarray(holder.decrypt(scores, flood=False))
    return row_of(
        name,
        len(x),
        median(times[1:] or times),
        enc.nbytes,
        opened,
        clear,
        **{
            "planned s": plan.seconds,
            "first s": times[0],
            "encrypt s": encrypting,
            "key bytes": key.keys.nbytes,
        },
    )


def in_clear(module: nn.Module, x: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return module(torch.tensor(x, dtype=torch.float32)).numpy()


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    x, y = load_digits(return_X_y=True)
    x = x / 16.0
    train, test, labels, answers = train_test_split(x, y, test_size=0.3, random_state=SEED, stratify=y)
    machine("tenseal", "torch", "numpy", "twopm-kit", seed=SEED, threads=1)

    small = trained(Convolution(), train, labels)
    net, clear = compiled(small, calibration=train), in_clear(small, test)
    print(f"digits network, {(clear.argmax(1) == answers).mean():.1%} right in clear, profile {net.profile}")
    many = np.resize(test, (4096, 64))
    rows = [
        tutorial(small, test[:TUTORIAL_IMAGES], clear[:TUTORIAL_IMAGES]),
        ours("twopm_kit, one image", net, test[:1], clear[:1], REPEATS),
        ours("twopm_kit, blocks of 16", net, test[:16], clear[:16], REPEATS),
        ours("twopm_kit, columns", net, many, np.resize(clear, (4096, 10)), 3),
    ]
    show(compare(rows, "images/s"))

    def enlarged(images: np.ndarray) -> np.ndarray:
        large = np.kron(images.reshape(-1, 8, 8), np.ones((1, 3, 3)))
        return np.pad(large, ((0, 0), (2, 2), (2, 2))).reshape(len(images), 784)

    wide = trained(Wide(), enlarged(train), labels)
    net = compiled(wide, calibration=enlarged(train))
    images = np.resize(enlarged(test), (WIDE_IMAGES, 784))
    clear = in_clear(wide, images)
    right = (clear.argmax(1) == np.resize(answers, WIDE_IMAGES)).mean()
    print(f"wide network 784-128-10, {right:.1%} right in clear, profile {net.profile}")
    wides = [
        ours("twopm_kit, one image", net, images[:1], clear[:1], REPEATS),
        ours("twopm_kit, 1,000 images", net, images, clear, 2),
    ]
    show(wides)
    _, one, _, batched = rows
    bars(
        [
            at_most("digits, one image", one["compute s"], 0.4, "s"),
            at_least("digits, one image, beside TenSEAL", one["images/s, ×"], 6, "×"),
            at_least("digits, batched", batched["images/s"], 500, "images/s"),
            at_most("digits, error / largest logit", max(r["error / largest logit"] for r in rows[1:]), 1e-4),
            at_most("784-128-10, 1,000 images", wides[1]["compute s"], 90, "s"),
        ]
    )
    print(f"largest memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.1f} GB")


if __name__ == "__main__":
    sys.exit(main())
