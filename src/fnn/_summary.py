"""What a network says of itself: the table of its layers, and the call that makes one like it."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from fnn._layers import layers_of
from fnn._layout import Layout


def summary(layout: Layout) -> str:
    """Return a table of the layers: shape of the weights, activation, number of parameters."""
    offsets = layout.offsets
    counts = [end - start for start, end in pairwise(offsets)]
    layers = zip(layout.shapes, layout.activations, counts, strict=True)
    share = layout.dropouts[0]
    rows = [
        ("layer", "shape", "activation", "parameters"),
        ("input", f"({layout.sizes[0]},)", f"dropout {share:g}" if share else "", "0"),
    ]
    for number, ((fan_in, fan_out), activation, parameters) in enumerate(layers, start=1):
        slope = f"({activation.slope:g})" if activation.name == "leaky_relu" else ""
        share = layout.dropouts[number]
        name = f"{activation.name}{slope}" + (f", dropout {share:g}" if share else "")
        count = f"{parameters:,}"
        rows.append((str(number), f"({fan_in}, {fan_out})", name, count))
    rows.append(("total", "", "", f"{layout.n_parameters:,}"))
    a, b, c, d = (max(len(row[column]) for row in rows) for column in range(4))
    return "\n".join(f"{row[0]:{a}}  {row[1]:{b}}  {row[2]:{c}}  {row[3]:>{d}}" for row in rows)


def constructor(layout: Layout, dtype: np.dtype) -> str:
    """Return the call of Network that makes this layout, by sizes where they say all."""
    sizes, (*inner, last) = list(layout.sizes), layout.activations
    sizes_say_all = layout == Layout(layout.sizes, layout.activations)
    if sizes_say_all and len(set(inner)) <= 1 and "leaky_relu" not in {a.name for a in layout.activations}:
        activation = f", activation={inner[0].name!r}" if inner else ""
        return f"Network({sizes}{activation}, output={last.name!r}, dtype='{dtype}')"
    return f"Network({layers_of(layout)}, dtype='{dtype}')"
