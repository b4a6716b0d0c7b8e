"""What a training run allocates beyond data and parameters (docs/engine.md, memory)."""

import tracemalloc

import numpy as np
import pytest

import fnn

SHAPES = [((784, 512, 512, 10), 128), ((300, 1000, 300), 32), ((784, 128, 10), 256), ((50, *[50] * 40, 5), 100)]
COMPILED = [name for name in fnn.available_backends() if name != "numpy"]  # NumPy makes new arrays at every step
ROWS = 300  # a few batches, and a part of one
SMALL_THINGS = 400_000  # bytes: the order of the rows, each thread's block of W^T and lists, padding, Python's objects


def peak_of_training(sizes, batch_size, optimizer, dtype, threads, epochs):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(ROWS, sizes[0])).astype(dtype), rng.normal(size=(ROWS, sizes[-1])).astype(dtype)
    net = fnn.Network(list(sizes), dtype=dtype)
    net.fit(x, y, epochs=1, batch_size=batch_size, optimizer=optimizer, threads=threads)  # what is cached once
    tracemalloc.start()
    try:
        net.fit(x, y, epochs=epochs, batch_size=batch_size, optimizer=optimizer, threads=threads)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("optimizer", "states"),
    [(fnn.SGD(1e-4), 0), (fnn.SGD(1e-4, momentum=0.9), 1), (fnn.Adam(), 2), (fnn.FISTA(1e-5), 2)],
    ids=["sgd", "momentum", "adam", "fista"],
)
@pytest.mark.parametrize(("sizes", "batch_size"), SHAPES, ids=str)
@pytest.mark.parametrize("backend", COMPILED, indirect=True)
def test_memory_of_a_training_run(backend, sizes, batch_size, optimizer, states, dtype):
    """One vector of P numbers beside the optimiser's own and three batches of activations, however many epochs."""
    n_parameters = fnn.Network(list(sizes)).parameters.size
    allowed = ((1 + states) * n_parameters + 3 * batch_size * sum(sizes)) * np.dtype(dtype).itemsize + SMALL_THINGS
    for threads in (1, 2):
        one = peak_of_training(sizes, batch_size, optimizer, dtype, threads, 1)
        assert one <= allowed, f"{threads} threads: {one:,} bytes, more than {allowed:,}"
        assert peak_of_training(sizes, batch_size, optimizer, dtype, threads, 2) <= one + 50_000
