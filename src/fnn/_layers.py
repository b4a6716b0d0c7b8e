"""Input and Dense, which a network is made of, and the layout that a list of them, or of sizes, makes."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np

from fnn import _checks
from fnn._formulas import OUTPUT_ONLY, Activation, find_activation, is_finite_real
from fnn._layout import SKIP_MODES, Layout, Skip, parameter_count, skip_fault


@dataclass(frozen=True)
class Input:
    """The input of a network.

    Parameters
    ----------
    units : int
        Number of inputs, >= 1.
    dropout : float, default 0
        Share of the inputs that training drops, in [0, 1), as `Dense` does with its outputs.
    """

    units: int
    dropout: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "units", _checks.whole_number(self.units, "units"))
        object.__setattr__(self, "dropout", _checks.dropout_share(self.dropout))

    def __repr__(self) -> str:
        return f"Input({self.units}{_dropout(self.dropout)})"


@dataclass(frozen=True, init=False, repr=False)
class Dense:
    """A dense layer: every neuron sees the whole layer below.

    Parameters
    ----------
    units : int
        Number of neurons, >= 1.
    activation : str or Activation, default "relu"
        Name or member of `fnn.activations`.  corner: two slopes and an offset of every neuron's own, which are trained
        and start as leaky_relu (docs/backprop.md, eq. 2a).
    slope : float, optional
        Slope below zero of leaky_relu, >= 0; 0.01 unless given.  An error with any other activation.
    skip : int, default 0
        With k > 0 the l-th Dense layer reads two activations: that of the layer below, v_(l-1), and that of k layers
        earlier, v_(l-1-k); v_0 is the network's input, and k is at most l - 1.
    skip_mode : {"add", "concat"}, default "add"
        add: the layer's input is the sum of the two, which must have the same width.  concat: it is v_(l-1) followed by
        v_(l-1-k), each number with weights of its own, so that the fan-in is the sum of their widths.
    rate_scale : float, default 1
        What the layer multiplies the learning rate by, > 0 and finite (`rate_by_depth` makes such numbers).
    dropout : float, default 0
        Share of the layer's outputs that `Network.fit` sets to zero, in [0, 1): others in every row of every update;
        those that are left are divided by 1 - dropout.  Everything but `fit`'s updates, its loss on validation data
        too, uses the whole network.  Not for the last layer.
    """

    units: int
    activation: Activation
    skip: Skip
    rate_scale: float
    dropout: float

    def __init__(
        self,
        units: int,
        activation: str | Activation = "relu",
        slope: float | None = None,
        *,
        skip: int = 0,
        skip_mode: str = "add",
        rate_scale: float = 1.0,
        dropout: float = 0.0,
    ) -> None:
        found = find_activation(activation, "activation")
        if not isinstance(skip_mode, str) or skip_mode not in SKIP_MODES:
            raise ValueError(f"skip_mode: expected one of {', '.join(SKIP_MODES)}, got {skip_mode!r}")
        if not is_finite_real(rate_scale) or rate_scale <= 0:
            raise ValueError(f"rate_scale: expected a finite number > 0, got {rate_scale!r}")
        object.__setattr__(self, "units", _checks.whole_number(units, "units"))
        object.__setattr__(self, "activation", found if slope is None else found.with_slope(slope))
        object.__setattr__(self, "skip", Skip(_checks.whole_number(skip, "skip", 0), skip_mode))
        object.__setattr__(self, "rate_scale", float(rate_scale))
        object.__setattr__(self, "dropout", _checks.dropout_share(dropout))

    def __repr__(self) -> str:
        extras = f", slope={self.activation.slope}" if self.activation.name == "leaky_relu" else ""
        if self.skip.distance:
            extras += f", skip={self.skip.distance}, skip_mode={self.skip.mode!r}"
        if self.rate_scale != 1:
            extras += f", rate_scale={self.rate_scale!r}"
        return f"Dense({self.units}, {self.activation.name!r}{extras}{_dropout(self.dropout)})"


def _dropout(share: float) -> str:
    """Describe a share that is dropped as an argument after others."""
    return f", dropout={share!r}" if share else ""


def layout_of(layers: Any, activation: Any, output: Any, dtype: np.dtype) -> Layout:
    """Turn the constructor's layers into a Layout, or say what is wrong with them."""
    if isinstance(layers, str | bytes) or not np.iterable(layers):
        raise ValueError(f"layers: expected a list of sizes, or of Input and Dense, got {layers!r}")
    entries = list(layers)
    if len(entries) < 2:
        raise ValueError(f"layers: expected the input and at least one layer, got {entries!r}")
    if any(isinstance(entry, Input | Dense) for entry in entries):
        if not isinstance(entries[0], Input) or not all(isinstance(entry, Dense) for entry in entries[1:]):
            raise ValueError(f"layers: expected Input first and only Dense after it, got {entries!r}")
        for argument, value in (("activation", activation), ("output", output)):
            if value is not None:
                raise ValueError(f"{argument}: expected none beside Dense layers, which have their own, got {value!r}")
        sizes, chosen = [entry.units for entry in entries], [entry.activation for entry in entries[1:]]
        skips = tuple(entry.skip for entry in entries[1:])
        rate_scales = tuple(entry.rate_scale for entry in entries[1:])
        dropouts = tuple(entry.dropout for entry in entries)
    else:
        sizes = [_checks.whole_number(size, f"layers[{index}]") for index, size in enumerate(entries)]
        inner = find_activation("relu" if activation is None else activation, "activation")
        last = find_activation("identity" if output is None else output, "output")
        chosen = [inner] * (len(sizes) - 2) + [last]
        skips, rate_scales, dropouts = (Skip(),) * len(chosen), (1.0,) * len(chosen), (0.0,) * len(sizes)
    for number, found in enumerate(chosen[:-1], start=1):
        if found.code in OUTPUT_ONLY:
            raise ValueError(f"activation: {found.name} goes on the output layer only, got it on layer {number}")
    if dropouts[-1]:
        raise ValueError(f"dropout: expected none on the output layer, got {dropouts[-1]}")
    fault = skip_fault(sizes, skips)
    if fault:
        raise ValueError(f"skip: {fault}")
    count = parameter_count(sizes, skips, chosen)
    if count * dtype.itemsize > sys.maxsize:
        raise ValueError(f"layers: expected parameters that fit in memory, got {count} for the sizes {sizes}")
    return Layout(tuple(sizes), tuple(chosen), skips, rate_scales, dropouts)


def layers_of(layout: Layout) -> list[Input | Dense]:
    """Return the layers that make a layout."""
    layers = zip(
        layout.sizes[1:], layout.activations, layout.skips, layout.rate_scales, layout.dropouts[1:], strict=True
    )
    return [
        Input(layout.sizes[0], layout.dropouts[0]),
        *(
            Dense(units, phi, skip=skip.distance, skip_mode=skip.mode, rate_scale=scale, dropout=share)
            for units, phi, skip, scale, share in layers
        ),
    ]
