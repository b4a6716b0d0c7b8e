"""Dense feed-forward neural networks on CPUs: a NumPy layer API over a backward sweep compiled in Cython."""

from fnn._digits import load_digits
from fnn._dispatch import available_backends, backend, set_backend, show_config
from fnn._float_neural_net import FloatNeuralNet, Options
from fnn._formulas import activations, losses
from fnn._modelfile import ModelFileError
from fnn._network import Dense, Input, Network, load
from fnn._optimizers import SGD, Adam
from fnn._threads import get_threads, set_threads
from fnn._train import DivergenceError, History

__version__ = "0.1.0"

__all__ = [
    "SGD",
    "Adam",
    "Dense",
    "DivergenceError",
    "FloatNeuralNet",
    "History",
    "Input",
    "ModelFileError",
    "Network",
    "Options",
    "__version__",
    "activations",
    "available_backends",
    "backend",
    "get_threads",
    "load",
    "load_digits",
    "losses",
    "set_backend",
    "set_threads",
    "show_config",
]
