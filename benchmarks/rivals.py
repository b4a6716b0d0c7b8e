"""The sides of a race: fnn on each of its backends, and other libraries, each in the best form that it offers.

All train the same problem, in its dtype, by the same steps: ``W -= rate * gradient``, the loss being the squared error
summed over the outputs and averaged over the batch, as fnn defines it.  Where a library defines it otherwise the rate
makes up for it, and the class says how.  Nobody shuffles.  Every library uses the threads that it takes by itself.
"""

# ruff: noqa: D102 - Rival documents the methods

from __future__ import annotations

import ctypes
import functools
import importlib
import os
import re
import shutil
import tempfile
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from problems import Problem


class MissingError(Exception):
    """A library is not installed; the message says what is missing."""


class Rival(ABC):
    """One library training one problem.  Made for its data and rate; weights are loaded afterwards, as often as wanted.

    Parameters
    ----------
    problem : Problem
    rate : float
        Learning rate by fnn's definition of the loss.
    hidden : {"relu", "identity"}, default "relu"
        Activation of the inner layers.
    """

    checked_with = "relu"  # the activation with which agreement is checked
    footnote = ""

    @staticmethod
    @abstractmethod
    def describe() -> str:
        """Name and version of the library; raises MissingError."""

    @staticmethod
    def takes(problem: Problem) -> bool:
        """Whether the library can train the problem at all."""
        return True

    @abstractmethod
    def __init__(self, problem: Problem, rate: float, hidden: str = "relu") -> None: ...

    @abstractmethod
    def load(self, blocks: list[np.ndarray]) -> None:
        """Take over blocks (I + 1, O) of weights, the bias row last."""

    @abstractmethod
    def train(self, epochs: int) -> None:
        """Go that often through the data, and return when all is done."""

    @abstractmethod
    def blocks(self) -> list[np.ndarray]:
        """Blocks (I + 1, O) of the present weights."""


def _need(module: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingError(str(error)) from error


def _split(blocks: Iterable[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
    return [(block[:-1], block[-1]) for block in blocks]


def _join(weights: Iterable[np.ndarray], biases: Iterable[np.ndarray]) -> list[np.ndarray]:
    return [np.vstack([w, b[None, :]]) for w, b in zip(weights, biases, strict=True)]


class Fnn(Rival):
    """`Network.fit` on one backend, as a user calls it: its checks and its history are part of the time."""

    @staticmethod
    def describe() -> str:
        return f"fnn {_need('fnn').__version__}"

    def __init__(self, problem: Problem, rate: float, hidden: str = "relu", backend: str = "numpy") -> None:
        import fnn

        self._backend = backend
        self._network = fnn.Network(list(problem.sizes), activation=hidden, output="identity", dtype=problem.dtype)
        self._data = problem.data()
        self._options: dict[str, Any] = {
            "batch_size": problem.batch,
            "loss": "squared_error",
            "optimizer": fnn.SGD(rate),
            "shuffle": False,
            "reduction": "mean",
        }

    def load(self, blocks: list[np.ndarray]) -> None:
        self._network.parameters = np.concatenate([block.ravel() for block in blocks])

    def train(self, epochs: int) -> None:
        import fnn

        fnn.set_backend(self._backend)
        self._network.fit(*self._data, epochs=epochs, **self._options)

    def blocks(self) -> list[np.ndarray]:
        return _join(self._network.weights, self._network.biases)


class Sklearn(Rival):
    """`MLPRegressor.fit`, all epochs in one call.

    Its loss is halved and summed over the outputs where the gradient is concerned: twice the rate makes the same step.
    """

    @staticmethod
    def describe() -> str:
        return f"scikit-learn {_need('sklearn').__version__}"

    def __init__(self, problem: Problem, rate: float, hidden: str = "relu") -> None:
        from sklearn.neural_network import MLPRegressor

        x, y = problem.data()
        self._data = (x, y if y.shape[1] > 1 else y.ravel())
        self._network = MLPRegressor(
            hidden_layer_sizes=problem.sizes[1:-1],
            activation=hidden,
            solver="sgd",
            alpha=0,
            batch_size=problem.batch,
            learning_rate_init=2 * rate,
            momentum=0,
            nesterovs_momentum=False,
            shuffle=False,
            warm_start=True,
            n_iter_no_change=np.inf,
        )
        self.train(1)  # its weights exist after a first fit

    def load(self, blocks: list[np.ndarray]) -> None:
        for own_weights, own_biases, (weights, biases) in zip(
            self._network.coefs_, self._network.intercepts_, _split(blocks), strict=True
        ):
            own_weights[...] = weights
            own_biases[...] = biases

    def train(self, epochs: int) -> None:
        from sklearn.exceptions import ConvergenceWarning

        self._network.max_iter = epochs
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # it says so whenever it makes the epochs asked for
            self._network.fit(*self._data)

    def blocks(self) -> list[np.ndarray]:
        return _join(self._network.coefs_, self._network.intercepts_)


class Torch(Rival):
    """PyTorch, eager: autograd, and one fused update of all parameters.

    Calling the functions directly and asking for the gradients alone was faster than torch.nn modules with
    torch.optim.SGD, foreach or fused (digits-online: 100 us against 163 us).  The loss is also averaged over the O
    outputs: O times the rate.
    """

    @staticmethod
    def describe() -> str:
        torch = _need("torch")
        return f"PyTorch {torch.__version__}, {torch.get_num_threads()} threads"

    def __init__(self, problem: Problem, rate: float, hidden: str = "relu") -> None:
        import torch

        x, y = (torch.from_numpy(array) for array in problem.data())
        self._batches = list(zip(x.split(problem.batch), y.split(problem.batch), strict=True))
        self._rate = rate * problem.sizes[-1]
        self._hidden = torch.nn.functional.relu if hidden == "relu" else torch.nn.Identity()
        shapes = [shape for fan_in, fan_out in problem.shapes for shape in ((fan_out, fan_in), (fan_out,))]
        self._parameters = [torch.zeros(shape, dtype=x.dtype, requires_grad=True) for shape in shapes]

    def load(self, blocks: list[np.ndarray]) -> None:
        import torch

        arrays = [array for weights, biases in _split(blocks) for array in (weights.T, biases)]
        with torch.no_grad():
            for parameter, array in zip(self._parameters, arrays, strict=True):
                parameter.copy_(torch.from_numpy(array.copy()))

    def train(self, epochs: int) -> None:
        import torch

        parameters, rate = self._parameters, self._rate
        for _ in range(epochs):
            for x, y in self._batches:
                loss = _torch_loss(parameters, x, y, self._hidden)
                gradients = torch.autograd.grad(loss, parameters)
                with torch.no_grad():
                    torch._foreach_add_(parameters, gradients, alpha=-rate)

    def blocks(self) -> list[np.ndarray]:
        arrays = [parameter.detach().numpy() for parameter in self._parameters]
        return _join([weights.T for weights in arrays[::2]], arrays[1::2])


def _torch_loss(parameters: Any, x: Any, y: Any, hidden: Any) -> Any:
    from torch.nn import functional

    for weights, biases in zip(parameters[:-2:2], parameters[1:-2:2], strict=True):
        x = hidden(functional.linear(x, weights, biases))
    return functional.mse_loss(functional.linear(x, parameters[-2], parameters[-1]), y)


@functools.cache
def _torch_compiled_step() -> Any:
    """One training step as one compiled graph.  Made once a process: the checked code is the timed code."""
    import torch

    def step(parameters: Any, x: Any, y: Any, rate: Any, hidden: Any) -> None:
        gradients = torch.func.grad(_torch_loss)(parameters, x, y, hidden)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.sub_(rate * gradient)

    # A C++ caller of the kernels instead of a Python one: digits-online 54 us instead of 62, deep-b32 51 instead of 66.
    return torch.compile(step, fullgraph=True, options={"cpp_wrapper": True})


class TorchCompile(Torch):
    """PyTorch with forward, backward and update in one graph of `torch.compile`.  The rate is as in eager mode."""

    @staticmethod
    def describe() -> str:
        compiler = os.environ.get("CXX", "g++")
        description = Torch.describe()
        if shutil.which(compiler) is None:
            raise MissingError(f"torch.compile needs a C++ compiler, and there is no {compiler}")
        return description

    def __init__(self, problem: Problem, rate: float, hidden: str = "relu") -> None:
        import torch

        super().__init__(problem, rate, hidden)
        self._rate = torch.tensor(
            self._rate, dtype=self._parameters[0].dtype
        )  # a tensor, so that another rate needs no other code
        for parameter in self._parameters:
            parameter.requires_grad_(False)

    def train(self, epochs: int) -> None:
        import torch

        step, parameters, rate, hidden = _torch_compiled_step(), self._parameters, self._rate, self._hidden
        with torch.no_grad():
            for _ in range(epochs):
                for x, y in self._batches:
                    step(parameters, x, y, rate, hidden)


class Jax(Rival):
    """JAX with all epochs in one jitted loop over scans, the data already on the device."""

    @staticmethod
    def describe() -> str:
        os.environ.setdefault("JAX_PLATFORMS", "cpu")
        return f"JAX {_need('jax').__version__}"

    def __init__(self, problem: Problem, rate: float, hidden: str = "relu") -> None:
        os.environ.setdefault("JAX_PLATFORMS", "cpu")
        import jax
        import jax.numpy as jnp

        jax.config.update("jax_enable_x64", problem.dtype == "float64")
        x, y = problem.data()
        self._x = jnp.asarray(x.reshape(-1, problem.batch, problem.sizes[0]))
        self._y = jnp.asarray(y.reshape(-1, problem.batch, problem.sizes[-1]))
        activation = jax.nn.relu if hidden == "relu" else lambda z: z

        def loss(parameters: Any, x: Any, y: Any) -> Any:
            for weights, biases in parameters[:-1]:
                x = activation(x @ weights + biases)
            weights, biases = parameters[-1]
            return jnp.sum((x @ weights + biases - y) ** 2) / problem.batch

        def step(parameters: Any, batch: Any) -> Any:
            gradient = jax.grad(loss)(parameters, *batch)
            return jax.tree.map(lambda p, g: p - rate * g, parameters, gradient), None

        def run(parameters: Any, x: Any, y: Any, epochs: Any) -> Any:
            def epoch(_: Any, p: Any) -> Any:
                return jax.lax.scan(step, p, (x, y))[0]

            return jax.lax.fori_loop(0, epochs, epoch, parameters)

        self._run = jax.jit(run)
        self._parameters: Any = None

    def load(self, blocks: list[np.ndarray]) -> None:
        import jax.numpy as jnp

        self._parameters = [(jnp.array(weights), jnp.array(biases)) for weights, biases in _split(blocks)]

    def train(self, epochs: int) -> None:
        import jax

        self._parameters = jax.block_until_ready(self._run(self._parameters, self._x, self._y, epochs))

    def blocks(self) -> list[np.ndarray]:
        weights, biases = zip(*self._parameters, strict=True)
        return _join(map(np.asarray, weights), map(np.asarray, biases))


FANN_TRAIN_INCREMENTAL = 0
FANN_ERRORFUNC_LINEAR = 0
FANN_LINEAR = 0
FANN_LINEAR_PIECE = 12
FANN_CONNECTIONS = re.compile(rb"(?m)^connections \(connected_to_neuron, weight\)=.*$")


class Fann(Rival):
    """FANN's incremental training, an epoch in one call.  Online only; its error is halved, so twice the rate.

    FANN 2.2 has no ReLU.  It is timed with FANN_LINEAR_PIECE, the nearest and as cheap, which also clips at 1; that is
    another function, so agreement is checked with linear layers.  Only its file format takes weights in bulk.
    """

    checked_with = "identity"
    footnote = (
        "FANN 2.2 has no ReLU: it is timed with FANN_LINEAR_PIECE, a ReLU that also clips at 1, and agreement was "
        "checked with linear layers."
    )

    @staticmethod
    def describe() -> str:
        _fann()
        return "FANN 2.2 (libfloatfann.so.2)"

    @staticmethod
    def takes(problem: Problem) -> bool:
        return problem.batch == 1 and problem.dtype == "float32"

    def __init__(self, problem: Problem, rate: float, hidden: str = "relu") -> None:
        self._sizes = problem.sizes
        self._rate = 2 * rate
        self._library = _fann()
        sizes = (ctypes.c_uint * len(self._sizes))(*self._sizes)
        self._network = ctypes.c_void_p(self._library.fann_create_standard_array(len(sizes), sizes))
        function = FANN_LINEAR_PIECE if hidden == "relu" else FANN_LINEAR
        self._library.fann_set_activation_function_hidden(self._network, function)
        self._library.fann_set_activation_function_output(self._network, FANN_LINEAR)
        self._library.fann_set_activation_steepness_hidden(self._network, ctypes.c_float(1))  # 0.5 by default
        self._library.fann_set_activation_steepness_output(self._network, ctypes.c_float(1))
        self._library.fann_set_train_error_function(self._network, FANN_ERRORFUNC_LINEAR)  # not an atanh of the error
        self._library.fann_set_training_algorithm(self._network, FANN_TRAIN_INCREMENTAL)
        self._data = self._training_data(*problem.data())

    def _training_data(self, x: np.ndarray, y: np.ndarray) -> ctypes.c_void_p:
        def fill(row: int, _: int, __: int, inputs: int, outputs: int) -> None:
            ctypes.memmove(inputs, x[row].ctypes.data, x[row].nbytes)
            ctypes.memmove(outputs, y[row].ctypes.data, y[row].nbytes)

        filler = ctypes.CFUNCTYPE(None, *[ctypes.c_uint] * 3, *[ctypes.c_void_p] * 2)(fill)
        create = self._library.fann_create_train_from_callback
        return ctypes.c_void_p(create(len(x), x.shape[1], y.shape[1], filler))

    def load(self, blocks: list[np.ndarray]) -> None:
        starts = self._layer_starts()
        entries = []
        for start, block in zip(starts, blocks, strict=False):
            sources = range(start, start + len(block))
            # Neuron by neuron; a layer's bias neuron is its last and has no connections of its own.
            entries += [
                f"({source}, {weight:.9g})"
                for column in block.T
                for source, weight in zip(sources, column.tolist(), strict=True)
            ]
        line = "connections (connected_to_neuron, weight)=" + " ".join(entries) + " "
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "network")
            self._library.fann_save(self._network, bytes(path))
            path.write_bytes(FANN_CONNECTIONS.sub(line.encode(), path.read_bytes(), count=1))
            self._library.fann_destroy(self._network)
            self._network = ctypes.c_void_p(self._library.fann_create_from_file(bytes(path)))
        self._library.fann_set_learning_rate(self._network, ctypes.c_float(self._rate))

    def train(self, epochs: int) -> None:
        for _ in range(epochs):
            self._library.fann_train_epoch(self._network, self._data)

    def blocks(self) -> list[np.ndarray]:
        count = self._library.fann_get_total_connections(self._network)
        connections = np.zeros(count, [("source", np.uint32), ("target", np.uint32), ("weight", np.float32)])
        self._library.fann_get_connection_array(self._network, connections.ctypes.data_as(ctypes.c_void_p))
        starts, found = self._layer_starts(), []
        for layer, fan_out in enumerate(self._sizes[1:]):
            block = np.full((self._sizes[layer] + 1, fan_out), np.nan, np.float32)
            of_layer = (connections["source"] >= starts[layer]) & (connections["source"] < starts[layer + 1])
            own = connections[of_layer]
            block[own["source"] - starts[layer], own["target"] - starts[layer + 1]] = own["weight"]
            found.append(block)
        return found

    def _layer_starts(self) -> list[int]:
        """Number of each layer's first neuron: every layer, and the input, ends with a bias neuron."""
        return [0, *accumulate(size + 1 for size in self._sizes)][:-1]


@functools.cache
def _fann() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL("libfloatfann.so.2")
    except OSError as error:
        raise MissingError(f"{error} (Debian package libfann2)") from error
    pointers = ("fann_create_standard_array", "fann_create_train_from_callback", "fann_create_from_file")
    for name in pointers:
        getattr(library, name).restype = ctypes.c_void_p
    library.fann_train_epoch.restype = ctypes.c_float
    return library


@dataclass(frozen=True)
class Contestant:
    """A rival with the options it is run with.

    Attributes
    ----------
    family : str
        Name by which --rivals chooses it.
    label : str
        Heading of its column.
    rival : type of Rival
    options : dict
        More arguments of the rival.
    cpus : int, optional
        The CPUs that its process may run on, all of this process's unless given: every library takes so many threads.
    """

    family: str
    label: str
    rival: type[Rival]
    options: dict[str, str] = field(default_factory=dict)
    cpus: int | None = None


PEERS = (
    Contestant("sklearn", "scikit-learn", Sklearn),
    Contestant("torch", "PyTorch", Torch),
    Contestant("torch-compile", "torch.compile", TorchCompile),
    Contestant("jax", "JAX", Jax),
    Contestant("fann", "FANN", Fann),
)
FAMILIES = ("fnn", *(peer.family for peer in PEERS))


def contestants(families: Iterable[str]) -> list[Contestant]:
    """The contestants of those families: fnn's backends that can run here, the best first, then the peers.

    Raises MissingError without fnn, whose NumPy backend is what all are checked against.
    """
    own = [Contestant("fnn", f"fnn {name}", Fnn, {"backend": name}) for name in _need("fnn").available_backends()]
    chosen = set(families)
    return [contestant for contestant in (*own, *PEERS) if contestant.family in chosen]


def chosen_contestants(families: Iterable[str]) -> list[Contestant]:
    """The same with two of fnn's backends at most: the one that fnn chooses by itself, and NumPy's."""
    kept = {_need("fnn").backend(), "numpy"}
    return [c for c in contestants(families) if c.family != "fnn" or c.options["backend"] in kept]
