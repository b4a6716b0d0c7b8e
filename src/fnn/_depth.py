"""Learning rates by depth: how much larger a step the layers far from the output take."""

from __future__ import annotations

from fnn import _checks
from fnn._formulas import is_finite_real

LAWS = ("linear", "geometric")


def rate_by_depth(n_layers: int, law: str = "linear", ratio: float = 1.1) -> list[float]:
    """Return a `rate_scale` for every layer: 1 for the last, and the larger the further a layer is from the output.

    Deltas lose size on their way back.  The article's conjecture is that a larger rate in earlier layers could make up
    for it, without skips.  It names no law; these two are our reading of it.  linear: a layer's scale is its distance
    from the loss, L for the first of L layers, as if every layer on the way kept the same share.  geometric: ``ratio``
    times that of the next layer, as if every layer multiplied a delta by ``1 / ratio``.

    Parameters
    ----------
    n_layers : int
        Number L of dense layers, >= 1.
    law : {"linear", "geometric"}, default "linear"
        How the scales grow.
    ratio : float, default 1.1
        Of geometric, > 0 and finite; below 1 it makes earlier layers slower.

    Returns
    -------
    list of float
        L numbers, the first layer's first.

    Raises
    ------
    ValueError
        An argument that is not one of those above, or a scale too large for a float.

    Examples
    --------
    >>> fnn.rate_by_depth(4)
    [4.0, 3.0, 2.0, 1.0]
    >>> scales = fnn.rate_by_depth(3, "geometric", ratio=2)
    >>> net = fnn.Network([fnn.Input(8), *(fnn.Dense(8, "tanh", rate_scale=scale) for scale in scales)])
    """
    count = _checks.whole_number(n_layers, "n_layers")
    if not isinstance(law, str) or law not in LAWS:
        raise ValueError(f"law: expected one of {', '.join(LAWS)}, got {law!r}")
    if not is_finite_real(ratio) or ratio <= 0:
        raise ValueError(f"ratio: expected a finite number > 0, got {ratio!r}")
    distances = range(count - 1, -1, -1)
    if law == "linear":
        return [float(distance + 1) for distance in distances]
    try:
        scales = [float(ratio) ** distance for distance in distances]
    except OverflowError:
        scales = [0.0]
    if not min(scales) > 0:
        raise ValueError(f"ratio: expected scales that a float can hold, got {ratio!r} for {count} layers")
    return scales
