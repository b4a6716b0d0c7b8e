"""Training: epochs, validation, stopping, callbacks, history."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from fnn import _checks, _dispatch, _threads
from fnn._dropout import NUMBERS
from fnn._formulas import BINARY_CROSS_ENTROPY, CROSS_ENTROPY, LOSSES, SQUARED_ERROR, Loss, find_loss
from fnn._layout import Layout
from fnn._optimizers import SGD, Optimizer, Rule, find_optimizer
from fnn._plan import EpochPlan
from fnn._progress import Progress

if TYPE_CHECKING:
    from fnn._network import Network

Metric = Callable[[np.ndarray, np.ndarray], float]
PROPAGATIONS = ("before", "updated")


class DivergenceError(ArithmeticError):
    """Training stopped because the loss or a parameter became infinite or NaN."""


@dataclass
class History:
    """What `Network.fit` saw, epoch by epoch.

    Attributes
    ----------
    loss : list of float
        Training loss over the epoch's rows, each taken before the update that it led to, and with what it dropped.
    validation_loss : list of float
        Loss on the validation data after the epoch; empty without them.
    metric : list of float
        Metric on the validation data after the epoch; empty without them or with ``metric=None``.
    metric_name : str
        What `metric` holds, "" for nothing.
    seconds : list of float
        Time that the epoch's training took, validation and callbacks not counted.
    """

    loss: list[float] = field(default_factory=list)
    validation_loss: list[float] = field(default_factory=list)
    metric: list[float] = field(default_factory=list)
    metric_name: str = ""
    seconds: list[float] = field(default_factory=list)

    @property
    def epochs(self) -> int:
        """Number of epochs trained."""
        return len(self.loss)

    def facts(self) -> str:
        """Describe the last epoch in a few words."""
        parts = [f"loss {self.loss[-1]:.4g}"] if self.loss else []
        if self.validation_loss:
            parts.append(f"validation loss {self.validation_loss[-1]:.4g}")
        if self.metric:
            parts.append(f"{self.metric_name} {self.metric[-1]:.4g}")
        return ", ".join(parts)

    def __repr__(self) -> str:
        facts = f", {self.facts()}" if self.loss else ""
        return f"<History: {self.epochs} epochs{facts}, {sum(self.seconds):.3g} s>"


def fit(
    network: Network,
    x: Any,
    y: Any,
    *,
    epochs: Any,
    batch_size: Any,
    loss: Any,
    optimizer: Any,
    saturation: Any,
    weight_floor: Any,
    sample_weight: Any,
    validation: Any,
    metric: Any,
    reduction: Any,
    shuffle: Any,
    seed: Any,
    threads: Any,
    callbacks: Any,
    progress: Any,
    propagate: Any,
) -> History:
    """Train `network`: the whole of `Network.fit`, which describes the arguments."""
    layout, dtype, parameters = network.layout, network.dtype, network.parameters
    n_epochs, batch_size = _checks.whole_number(epochs, "epochs"), _checks.whole_number(batch_size, "batch_size")
    found_loss, found_optimizer = fitting_loss(loss, layout), find_optimizer(optimizer)
    limit = _checks.saturation_limit(saturation)
    if isinstance(found_optimizer, SGD):
        found_optimizer = found_optimizer.at_depth(layout.n_layers)
    rule = found_optimizer.rule(limit)._replace(floor=_checks.weight_floor(weight_floor, limit))
    through_updated = _through_updated(propagate, batch_size, found_optimizer, layout)
    mean = _checks.is_mean(reduction)
    shuffle, progress = _checks.flag(shuffle, "shuffle"), _checks.flag(progress, "progress")
    rng, n_threads, callbacks = _checks.generator(seed), _threads.thread_count(threads), _callables(callbacks)
    metric_name, compute_metric = find_metric(metric, found_loss, layout)
    rows, targets = checked_data(x, y, layout, dtype, found_loss)
    weights = _checks.row_weights(sample_weight, len(rows), dtype, "sample_weight")
    held_out = None if validation is None else _checked_validation(validation, layout, dtype, found_loss)
    _checks.as_finite(parameters[None, :], dtype, "parameters")
    if not parameters.flags.writeable:
        raise ValueError(
            "parameters: expected an array that can be written to, got a read-only one, as of a file mapped into "
            "memory; copy.deepcopy(network) has its own"
        )

    starters = [callback.before_epoch for callback in callbacks if hasattr(callback, "before_epoch")]
    n_rows = len(rows)
    kernels = _dispatch.kernels  # the same to the end, whatever a callback sets
    work = kernels.Workspace(layout, dtype, min(batch_size, n_rows), rule.states, n_threads)
    work.load(parameters, rule.saturation)
    draws_before = network.draws
    if layout.drops:  # no draw of an earlier call comes again, though the seed may
        work.mask_seed = (int(rng.integers(NUMBERS, dtype=np.uint64)) + draws_before) % NUMBERS
    # With validation data an epoch's end counts only when their loss is finite too.
    trained = parameters if held_out is None else np.empty_like(parameters)
    history = History(metric_name=metric_name if held_out is not None else "")
    order = np.arange(n_rows, dtype=np.intp)
    with Progress(n_epochs, n_rows) if progress else nullcontext() as line:
        tick = None if line is None else line.tick
        for epoch in range(1, n_epochs + 1):
            planned, weighed = rule, weights
            if starters:
                plan = EpochPlan(
                    epoch, rule.rate, weights, rows, targets, mean, layout, parameters, found_loss, kernels, n_threads
                )
                for before_epoch in starters:
                    before_epoch(network, plan)
                take_in(parameters, work, rule)
                planned = rule._replace(rate=_checks.planned_rate(plan.rate))
                weighed = _checks.row_weights(plan.sample_weight, n_rows, dtype, "callbacks: plan.sample_weight")
            if shuffle:
                order = rng.permutation(n_rows).astype(np.intp, copy=False)
            begin = time.perf_counter()
            try:
                total = kernels.train_epoch(
                    work, rows, targets, order, found_loss, planned, mean, tick, weighed, through_updated
                )
            except KeyboardInterrupt:
                if work.is_finite():
                    work.store(parameters)
                raise
            finally:
                network.draws = draws_before + work.updates * layout.drops
            seconds = time.perf_counter() - begin
            if not math.isfinite(total):
                raise _divergence(epoch, f"the loss became {total}", planned.rate, found_loss)
            if not work.is_finite():
                raise _divergence(epoch, "a parameter became infinite or NaN", planned.rate, found_loss)
            work.store(trained)
            if held_out is not None:
                try:
                    row_losses, outputs = kernels.evaluate(layout, trained, *held_out, found_loss, n_threads)
                    value = float(row_losses.mean() if mean else row_losses.sum())
                    if not math.isfinite(value):
                        raise _divergence(epoch, f"the validation loss became {value}", planned.rate, found_loss)
                    measured = None if compute_metric is None else compute_metric(held_out[1], outputs)
                except KeyboardInterrupt:
                    parameters[:] = trained
                    raise
                parameters[:] = trained
                history.validation_loss.append(value)
                if compute_metric is not None:
                    history.metric.append(metric_value(measured))
            history.loss.append(total / n_rows if mean else total)
            history.seconds.append(seconds)
            if line is not None:
                line.epoch(history.facts())
            wishes = [callback(network, history) for callback in callbacks]
            if callbacks:
                take_in(parameters, work, rule)
            if any(np.any(wish) for wish in wishes):
                break
    return history


def take_in(parameters: np.ndarray, work: Any, rule: Rule) -> None:
    """Train on with what callbacks may have made of the parameters."""
    if not np.isfinite(parameters).all():
        work.store(parameters)
        raise ValueError("callbacks: expected the parameters to stay finite, got NaN or infinity in them")
    work.load(parameters, rule.saturation)
    work.store(parameters)  # brought inside the limit


def fitting_loss(loss: Any, layout: Layout) -> Loss:
    """Return a loss given itself or its name, if it goes with the network's outputs."""
    found, output = find_loss(loss), layout.activations[-1].name
    if output not in found.outputs:
        right = ", ".join(other.name for other in LOSSES.values() if output in other.outputs)
        raise ValueError(
            f"loss: {found.name} goes with output activation {', '.join(found.outputs)}; this network's is {output}, "
            f"which goes with {right}"
        )
    if found.code == CROSS_ENTROPY and layout.sizes[-1] == 1:
        raise ValueError(
            "loss: cross_entropy expects two outputs or more, got 1; for two classes use a sigmoid output and "
            "binary_cross_entropy"
        )
    return found


def _through_updated(propagate: Any, batch_size: int, optimizer: Optimizer, layout: Layout) -> bool:
    """Whether deltas go through weights that have stepped already, if that goes with the other arguments."""
    if not isinstance(propagate, str) or propagate not in PROPAGATIONS:
        raise ValueError(f"propagate: expected one of {', '.join(PROPAGATIONS)}, got {propagate!r}")
    if propagate == "before":
        return False
    if batch_size != 1:
        raise ValueError(f"propagate: updated expects batch_size=1, got {batch_size}")
    if not isinstance(optimizer, SGD) or optimizer.momentum:
        raise ValueError(f"propagate: updated expects fnn.SGD without momentum, got {optimizer!r}")
    if layout.drops:
        raise ValueError(f"propagate: updated expects a network without dropout, got the shares {layout.dropouts}")
    return True


def checked_data(
    x: Any, y: Any, layout: Layout, dtype: np.dtype, loss: Loss, kind: str = ""
) -> tuple[np.ndarray, np.ndarray]:
    """Return x (N, I) and the targets as the kernels take them; errors name "x" and "y" with `kind` before it."""
    rows = _checks.as_finite(_checks.table(x, layout.sizes[0], f"{kind}x"), dtype, f"{kind}x")
    return rows, _checks.targets(y, len(rows), layout.sizes[-1], loss, dtype, f"{kind}y", f"{kind}x")


def threshold(layout: Layout) -> float:
    """Where a single output separates two classes: the middle of tanh's range, of 0 and 1 for every other output."""
    return 0.0 if layout.activations[-1].name == "tanh" else 0.5


def accuracy(y: np.ndarray, outputs: np.ndarray, each_output: bool, middle: float) -> float:
    """Return the part of the answers that are right.

    With labels (N,), and with rows (N, O) unless `each_output`, an answer is a row: right if its highest output is that
    of its class.  Otherwise it is an entry: right if it lies on the same side of `middle` as its target.
    """
    if y.ndim == 1:
        return float(np.mean(outputs.argmax(axis=1) == y))
    if each_output or y.shape[1] == 1:
        return float(np.mean((outputs > middle) == (y > middle)))
    return float(np.mean(outputs.argmax(axis=1) == y.argmax(axis=1)))


def r2(y: np.ndarray, outputs: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Return the coefficient of determination, averaged over the outputs; 1 or 0 for a constant target, met or not."""
    y64 = y.astype(np.float64, copy=False)
    counts = np.ones(len(y)) if weights is None else weights.astype(np.float64)
    residuals, deviations = y64 - outputs, y64 - (counts @ y64) / counts.sum()
    residual, spread = counts @ np.square(residuals), counts @ np.square(deviations)
    ratio = np.where(residual > 0, 1.0, 0.0)
    np.divide(residual, spread, out=ratio, where=spread > 0)
    return float(1 - ratio.sum() / len(ratio))


def find_metric(metric: Any, loss: Loss, layout: Layout) -> tuple[str, Metric | None]:
    """Return a metric's name and the metric, given itself, its name, None or "auto"."""
    if metric is None:
        return "", None
    if callable(metric):
        return getattr(metric, "__name__", "metric"), metric
    if not isinstance(metric, str) or metric not in ("auto", "accuracy", "r2"):
        raise ValueError(f"metric: expected 'auto', 'accuracy', 'r2', a callable or None, got {metric!r}")
    name = loss.metric if metric == "auto" else metric
    if name == "r2":
        if loss.code == CROSS_ENTROPY:
            raise ValueError("metric: r2 does not go with cross_entropy; expected 'accuracy', a callable or None")
        return name, r2
    each_output = loss.code == BINARY_CROSS_ENTROPY
    return name, partial(accuracy, each_output=each_output, middle=threshold(layout))


def metric_value(value: Any) -> float:
    """Return what a metric has computed as a float."""
    with suppress(TypeError, ValueError):  # what is no number, or has rows of different lengths
        if np.ndim(value) == 0 and np.isrealobj(value) and not isinstance(value, str | bytes):
            return float(value)
    raise ValueError(f"metric: expected a callable that returns a number, got {value!r} from it")


def _checked_validation(validation: Any, layout: Layout, dtype: np.dtype, loss: Loss) -> tuple[np.ndarray, np.ndarray]:
    if not isinstance(validation, tuple | list) or len(validation) != 2:
        raise ValueError(f"validation: expected a pair (x, y), got {type(validation).__name__}")
    x, y = validation
    return checked_data(x, y, layout, dtype, loss, "validation ")


def _callables(callbacks: Any) -> list[Callable[[Network, History], object]]:
    found = list(callbacks) if np.iterable(callbacks) else [callbacks]
    for callback in found:
        if not callable(callback):
            plans = hasattr(callback, "before_epoch")
            hint = "; beside before_epoch it needs __call__(network, history)" if plans else ""
            raise ValueError(f"callbacks: expected callables, got {callback!r}{hint}")
        if isinstance(callback, type):
            name = callback.__name__
            raise ValueError(f"callbacks: expected callables, got the class {name}; make one of it: {name}()")
    return found


def _divergence(epoch: int, what: str, rate: float, loss: Loss) -> DivergenceError:
    scaled = "x and y" if loss.code == SQUARED_ERROR else "x"
    return DivergenceError(
        f"epoch {epoch}: {what}; try a smaller learning_rate than {rate:g}, a saturation limit, or "
        f"{scaled} scaled to about [-1, 1].  The network holds its parameters "
        + (f"of the end of epoch {epoch - 1}" if epoch > 1 else "from before the call")
    )
