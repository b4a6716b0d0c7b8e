"""The workloads: what is trained, on what data, and the least time that a sample can take on a given machine.

Data and initial weights are synthetic and the same for every side: speed depends on neither, but for the zeros.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from machine import Limits

FLOAT_BYTES = 4
TRAIN_RATE = 1e-6  # so small that the share of active ReLUs stays, however many epochs a side needs to fill its time
CHECK_RATE = 1e-3  # so large that the weights move by far more than float32's rounding
QUICK_SAMPLES = 1024


@dataclass(frozen=True)
class Problem:
    """One workload: a ReLU network with a linear output, trained by plain SGD on squared error, in float32.

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
    """

    name: str
    sizes: tuple[int, ...]
    batch: int
    samples: int
    zeros: float = 0.0

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
    def parameter_bytes(self) -> int:
        """Bytes of all weights and biases."""
        return FLOAT_BYTES * sum((fan_in + 1) * fan_out for fan_in, fan_out in self.shapes)

    @property
    def touched_bytes(self) -> float:
        """Bytes of the weights and biases that one sample reads: the rows of its zero inputs are not."""
        fan_in, fan_out = self.shapes[0]
        return self.parameter_bytes - FLOAT_BYTES * self.zeros * fan_in * fan_out

    def floor(self, limits: Limits) -> float:
        """The least microseconds per sample that a machine of these limits allows.

        A mini-batch: the operations over the multiply-add peak of all the cores used.  Online: one read of every
        touched weight forward, one read and one write backward, over one core's bandwidth of the cache that the weights
        fit in.
        """
        if self.batch > 1:
            return self.operations / (limits.peak_gflops[max(limits.peak_gflops)] * 1e3)
        read, update = limits.bandwidth(self.parameter_bytes)
        return (self.touched_bytes / read + 2 * self.touched_bytes / update) / 1e3

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """Inputs (N, I) and targets (N, O), float32, standard normal but for the zeros; the same in every call."""
        rng = np.random.default_rng(0)
        x = rng.standard_normal((self.samples, self.sizes[0]), np.float32)
        y = rng.standard_normal((self.samples, self.sizes[-1]), np.float32)
        if self.zeros:
            x[rng.random(x.shape) < self.zeros] = 0
        return x, y

    def initial_blocks(self) -> list[np.ndarray]:
        """Blocks (I + 1, O) of initial weights, the bias row last; the same in every call.

        He's variance, so that a hundred layers pass on neither denormal nor huge numbers, which some CPUs take slowly.
        """
        rng = np.random.default_rng(1)
        blocks = []
        for fan_in, fan_out in self.shapes:
            block = rng.standard_normal((fan_in + 1, fan_out), np.float32)
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


PROBLEMS = {
    problem.name: problem
    for problem in (
        Problem("xor-online", (2, 4, 1), 1, 4000),
        Problem("digits-online", (64, 32, 10), 1, 3000),
        Problem("digits-online-sparse", (64, 32, 10), 1, 3000, zeros=0.5),
        Problem("fashion-online", (784, 128, 10), 1, 2000),
        Problem("fashion-online-sparse", (784, 128, 10), 1, 2000, zeros=0.5),
        Problem("digits-b32", (64, 64, 10), 32, 32 * 400),
        Problem("fashion-b32", (784, 128, 10), 32, 32 * 300),
        Problem("fashion-b128", (784, 512, 512, 10), 128, 128 * 60),
        Problem("wide-b256", (784, 2048, 2048, 10), 256, 256 * 8),
        Problem("deep-b32", (*[32] * 101, 1), 32, 32 * 30),
    )
}
