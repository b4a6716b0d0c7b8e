"""Dense feed-forward neural networks on CPUs: a NumPy layer API over a backward sweep compiled in Cython."""

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from fnn._auto_rate import AutoRate, AutoRate2
from fnn._convert import from_sklearn, to_sklearn
from fnn._depth import rate_by_depth
from fnn._digits import load_digits
from fnn._dispatch import available_backends, backend, set_backend, show_config
from fnn._emphasis import Emphasis
from fnn._float_neural_net import FloatNeuralNet
from fnn._formulas import activations, losses
from fnn._gradient_flow import GradientFlow
from fnn._layers import Dense, Input
from fnn._modelfile import ModelFileError
from fnn._network import Network, load
from fnn._optimizers import FISTA, SGD, Adam
from fnn._pass_options import Options
from fnn._patch import patch_sklearn, sklearn_is_patched, unpatch_sklearn
from fnn._plan import EpochPlan
from fnn._reclaim import ReclaimDeadNeurons
from fnn._sklearn_extra import needed_by
from fnn._threads import get_threads, set_threads
from fnn._train import DivergenceError, History
from fnn._tweak import TweakGradient

if TYPE_CHECKING:
    from fnn._estimator import MLPClassifier, MLPRegressor

__version__ = "0.1.0"

__all__ = [
    "FISTA",
    "SGD",
    "Adam",
    "AutoRate",
    "AutoRate2",
    "Dense",
    "DivergenceError",
    "Emphasis",
    "EpochPlan",
    "FloatNeuralNet",
    "GradientFlow",
    "History",
    "Input",
    "MLPClassifier",
    "MLPRegressor",
    "ModelFileError",
    "Network",
    "Options",
    "ReclaimDeadNeurons",
    "TweakGradient",
    "__version__",
    "activations",
    "available_backends",
    "backend",
    "from_sklearn",
    "get_threads",
    "load",
    "load_digits",
    "losses",
    "patch_sklearn",
    "rate_by_depth",
    "set_backend",
    "set_threads",
    "show_config",
    "sklearn_is_patched",
    "to_sklearn",
    "unpatch_sklearn",
]

if find_spec("sklearn") is None:  # so that `from fnn import *` needs NumPy only
    __all__ = [name for name in __all__ if not name.startswith("MLP")]


def __dir__() -> list[str]:
    """Name the estimators too, before they are imported."""
    return sorted({*globals(), *__all__})


def __getattr__(name: str) -> Any:
    """Import the estimators, and scikit-learn with them, when they are first asked for."""
    if name not in ("MLPClassifier", "MLPRegressor"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with needed_by(name):
        from fnn import _estimator
    return getattr(_estimator, name)
