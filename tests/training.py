"""A training worth sharing between threads; the tests' other threads and processes import it by name."""

import threading

import numpy as np

import fnn


def problem(seed=0):
    """A network that is large enough for several threads, and data for it."""
    rng = np.random.default_rng(seed)
    x, labels = rng.normal(size=(256, 300)).astype("float32"), rng.integers(0, 10, 256)
    return fnn.Network([300, 300, 10], output="softmax", seed=seed), x, labels


def fitted(seed=0, **options):
    """Train on `problem` and return the parameters as bytes."""
    network, x, labels = problem(seed)
    usual = {"epochs": 2, "batch_size": 128, "loss": "cross_entropy", "seed": seed, "threads": 2}
    network.fit(x, labels, **usual | options)
    return network.parameters.tobytes()


def fitted_and_threads(seed):
    """Train with the default of this process, and say what that is."""
    return fitted(seed, threads=None), fnn.get_threads()


class Background:
    """A Python thread that trains, epoch after epoch; `with` waits until it does, and ends it."""

    def __enter__(self):
        self.begun, self.end = threading.Event(), threading.Event()
        self.thread = threading.Thread(target=fitted, kwargs={"epochs": 10**9, "callbacks": self._after_an_epoch})
        self.thread.start()
        self.begun.wait()
        return self

    def _after_an_epoch(self, network, history):
        self.begun.set()
        return self.end.is_set()

    def __exit__(self, *error):
        self.end.set()
        self.thread.join()
