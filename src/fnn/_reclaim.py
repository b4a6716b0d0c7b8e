"""Dead neurons put to use again: FloatNeuralNet's reclaim for `fit`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fnn import _checks
from fnn._plan import BeforeEpoch, EpochPlan

if TYPE_CHECKING:
    from fnn._network import Network


class ReclaimDeadNeurons(BeforeEpoch):
    """Callback: turn round the relu neurons that are off for all rows or nearly all, so that they may learn again.

    Before every epoch but the first, a neuron of a hidden relu layer that is on for at most `max_unused` rows gets the
    opposite of its incoming weights and bias, which turns it on where it was off, and outgoing weights of 0, so that
    the network's outputs stay as they are (but for what the neuron added for those few rows).  The optimiser's state
    is left alone.

    This is `FloatNeuralNet.reclaim`, which counts during the pass, with the weights of each sample's turn; here all
    rows are looked at once more, with the weights of the epoch's end.  A network with skips is refused: there other
    layers read a neuron too.

    Parameters
    ----------
    max_unused : int, default 0
        A neuron that is on for so many rows or fewer is reclaimed.

    Attributes
    ----------
    reclaimed : list of int
        How many neurons were, for every time that was looked.
    """

    def __init__(self, max_unused: int = 0) -> None:
        self.max_unused = _checks.whole_number(max_unused, "max_unused", at_least=0)
        self.reclaimed: list[int] = []

    def before_epoch(self, network: Network, plan: EpochPlan) -> None:
        """Look at the neurons before an epoch."""
        if plan.layout.has_skips:
            raise ValueError("ReclaimDeadNeurons: expected a network without skips, whose neurons one layer reads")
        if plan.number == 1:
            self.reclaimed = []
            return
        on = [np.zeros(width, np.intp) for width in plan.layout.sizes[1:-1]]
        for layers in plan.activations():
            for count, v in zip(on, layers[1:], strict=True):
                count += (v > 0).sum(axis=0)
        blocks, found = plan.layout.blocks(network.parameters), 0
        for depth, (count, activation) in enumerate(zip(on, plan.layout.activations, strict=False)):
            if activation.name != "relu":
                continue
            dead = count <= self.max_unused
            blocks[depth][:, dead] *= -1
            blocks[depth + 1][:-1][dead] = 0
            found += int(dead.sum())
        self.reclaimed.append(found)
