"""The workloads: what is trained, on what data, and the least time that a sample can take on a given machine.

Data and initial weights are the same for every side, and synthetic but for images: speed depends on neither, but for
the zeros.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np

import fashion
from machine import Limits

QUICK_SAMPLES = 1024
EPOCH_SECONDS = 0.04
SLOW_LAYER, SLOW_GFLOPS, SLOW_GBS = (
    1e-4,
    100,
    2,
)  # what a library that is not fast spends on a step, GB of weights a second


@dataclass(frozen=True)
class Problem:
    """One workload: a ReLU network with a linear output, trained by plain SGD on squared error.

    Parameters
    ----------
    name : str
    sizes : tuple of int
        Width of the input followed by the width of every layer.
    batch : int
        Rows of a mini-batch; 1 is online training.
    samples : int
        Rows of an epoch, a multiple of `batch`.
    zeros : float, default 0
        Share of the inputs that are zero.
    dtype : {"float32", "float64"}, default "float32"
    start : int, default 1
        Seed of the initial weights.
    images : bool, default False
        Whether the inputs are Fashion-MNIST's first images, `zeros` being what they have.
    """

    name: str
    sizes: tuple[int, ...]
    batch: int
    samples: int
    zeros: float = 0.0
    dtype: str = "float32"
    start: int = 1
    images: bool = False

    @property
    def layers(self) -> str:
        """The sizes on one line, repeated ones counted: ``784-2048x2-10``."""
        runs = [(size, len(list(run))) for size, run in groupby(self.sizes)]
        return "-".join(f"{size}x{count}" if count > 1 else str(size) for size, count in runs)

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """Shape (I, O) of every layer's weights."""
        return list(zip(self.sizes[:-1], self.sizes[1:], strict=True))

    @property
    def operations(self) -> int:
        """Floating-point operations of a sample: 4 I O in the first layer (forward, gradient), 6 I O in every other."""
        products = [fan_in * fan_out for fan_in, fan_out in self.shapes]
        return 4 * products[0] + 6 * sum(products[1:])

    @property
    def parameters(self) -> int:
        """Number of all weights and biases."""
        return sum((fan_in + 1) * fan_out for fan_in, fan_out in self.shapes)

    @property
    def float_bytes(self) -> int:
        """Bytes of a number."""
        return np.dtype(self.dtype).itemsize

    @property
    def parameter_bytes(self) -> int:
        """Bytes of all weights and biases."""
        return self.float_bytes * self.parameters

    @property
    def touched_bytes(self) -> float:
        """Bytes of the weights and biases that one sample reads: the rows of its zero inputs are not."""
        fan_in, fan_out = self.shapes[0]
        return self.parameter_bytes - self.float_bytes * self.zeros * fan_in * fan_out

    def floor(self, limits: Limits, threads: int | None = None) -> float:
        """The least microseconds per sample that a machine of these limits allows.

        A mini-batch: the operations over the multiply-add peak, measured in float32 and half of it in float64, of
        `threads` cores, all unless given.  Online: one read of every touched weight forward, one read and one write
        backward, over one core's bandwidth of the cache that the weights fit in.
        """
        if self.batch > 1:
            peak = limits.peak_gflops[threads or max(limits.peak_gflops)] * 4 / self.float_bytes
            return self.operations / (peak * 1e3)
        read, update = limits.bandwidth(self.parameter_bytes)
        return (self.touched_bytes / read + 2 * self.touched_bytes / update) / 1e3

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """Inputs (N, I) and targets (N, O), standard normal but for images and zeros; the same in every call."""
        rng = np.random.default_rng(0)
        x = rng.standard_normal((self.samples, self.sizes[0]), np.dtype(self.dtype))
        y = rng.standard_normal((self.samples, self.sizes[-1]), np.dtype(self.dtype))
        if self.images:
            x = (fashion.images("train")[: self.samples] / 255).astype(x.dtype)
        elif self.zeros:
            x[rng.random(x.shape) < self.zeros] = 0
        return x, y

    def initial_blocks(self) -> list[np.ndarray]:
        """Blocks (I + 1, O) of initial weights, the bias row last; the same in every call.

        He's variance, so that a hundred layers pass on neither denormal nor huge numbers, which some CPUs take slowly.
        """
        rng = np.random.default_rng(self.start)
        blocks = []
        for fan_in, fan_out in self.shapes:
            block = rng.standard_normal((fan_in + 1, fan_out), np.dtype(self.dtype))
            block[:-1] *= np.sqrt(2 / fan_in)
            block[-1] *= 0.1
            blocks.append(block)
        return blocks

    def quick(self) -> Problem:
        """The same with an epoch of about a thousand rows at most: for trying out, not for figures."""
        return replace(self, samples=min(self.samples, max(self.batch, QUICK_SAMPLES // self.batch * self.batch)))

    def check(self) -> Problem:
        """The same with the few batches on which agreement is checked."""
        return replace(self, samples=min(self.samples, 64 if self.batch == 1 else 8 * self.batch))


def of_shape(name: str, sizes: Sequence[int], batch: int, dtype: str = "float32") -> Problem:
    """A workload with an epoch of 4 to 256 batches, so many that a library that is not fast takes EPOCH_SECONDS."""
    one = Problem(name, tuple(sizes), batch, batch, dtype=dtype)
    arithmetic, traffic = batch * one.operations / (SLOW_GFLOPS * 1e9), one.parameter_bytes / (SLOW_GBS * 1e9)
    step = SLOW_LAYER * len(one.shapes) + arithmetic + traffic
    return replace(one, samples=batch * min(256, max(4, int(EPOCH_SECONDS / step))))


FASHION_IMAGES = Problem("fashion-online-images", (784, 128, 10), 1, 2000, zeros=0.5, images=True)
PROBLEMS = {
    problem.name: problem
    for problem in (
        Problem("xor-online", (2, 4, 1), 1, 4000),
        Problem("digits-online", (64, 32, 10), 1, 3000),
        Problem("digits-online-sparse", (64, 32, 10), 1, 3000, zeros=0.5),
        Problem("fashion-online", (784, 128, 10), 1, 2000),
        Problem("fashion-online-sparse", (784, 128, 10), 1, 2000, zeros=0.5),
        *([FASHION_IMAGES] if fashion.is_installed() else []),
        Problem("digits-b32", (64, 64, 10), 32, 32 * 400),
        Problem("fashion-b32", (784, 128, 10), 32, 32 * 300),
        Problem("fashion-b128", (784, 512, 512, 10), 128, 128 * 60),
        Problem("wide-b256", (784, 2048, 2048, 10), 256, 256 * 8),
        Problem("deep-b32", (*[32] * 101, 1), 32, 32 * 30),
    )
}
