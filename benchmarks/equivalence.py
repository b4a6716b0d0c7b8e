"""Whether two sides that trained the same batches from the same weights ended at the same weights."""

from __future__ import annotations

import numpy as np

from problems import Problem


def disagreement(
    problem: Problem, start: list[np.ndarray], reference: list[np.ndarray], candidate: list[np.ndarray]
) -> str | None:
    """Say where `candidate` differs from `reference` by more than rounding explains, or None.

    Weights and biases of every layer are compared apart, by the norm of the difference.  Two things may differ:

    - What the weights' own rounding adds: each of the T updates rounds every weight to eps/2 of it on either side, and
      the errors add up as a random walk: ``eps * sqrt(T) * |start|``.
    - What the gradients differ by, a share of the distance ``|reference - start|`` that was walked.  Sums of I terms in
      another order differ by about ``eps * sqrt(I)`` of their scale, and the layers' errors add up to
      ``b = eps * sum_l sqrt(I_l)``.  The larger effect is that a pre-activation within that band around 0 has its ReLU
      on for one side and off for the other: a share of about b of all (row, neuron) pairs, each of which is in the
      gradient or missing, independently of the others.  So the share is ``sqrt(b)``: 0.0006 to 0.008 for the workloads
      of problems.py, where float64 and other orders of float32 sums were seen to differ by at most a tenth of it.

    A side that skips a batch's last row, a bias, one column in ten, or takes another rate is off by 0.03 and more.

    Parameters
    ----------
    problem : Problem
        What was trained: one epoch of it.
    start, reference, candidate : list of ndarray
        Blocks (I + 1, O) of weights, the bias row last.
    """
    steps, epsilon = problem.samples // problem.batch, float(np.finfo(problem.dtype).eps)
    share = np.sqrt(epsilon * sum(np.sqrt(fan_in) for fan_in, _ in problem.shapes))
    if [block.shape for block in candidate] != [block.shape for block in start]:
        return f"shapes: expected {[b.shape for b in start]}, got {[b.shape for b in candidate]}"
    for layer, blocks in enumerate(zip(start, reference, candidate, strict=True), start=1):
        for what, rows in (("weights", slice(None, -1)), ("biases", slice(-1, None))):
            first, wanted, got = (block[rows].astype(np.float64) for block in blocks)
            walked = np.linalg.norm(wanted - first)
            allowed = share * walked + epsilon * np.sqrt(steps) * np.linalg.norm(first)
            distance = np.linalg.norm(got - wanted)
            if not distance <= allowed:  # also where it is NaN
                return (
                    f"layer {layer} {what}: {distance:.3g} away from fnn's NumPy backend, at most {allowed:.3g} "
                    f"allowed, after training moved them by {walked:.3g}"
                )
    return None
