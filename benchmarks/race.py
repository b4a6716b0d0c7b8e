"""A race: every contestant trains one problem in a process of its own, checked first, then timed in turns.

A process each, because libraries that share one disturb each other: their idle threads spin, they load different OpenMP
runtimes, and one that crashes would end the run.
"""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from typing import TypeVar

import numpy as np

from equivalence import disagreement
from machine import restricted
from problems import Problem
from rivals import Contestant, Fnn, MissingError, Rival

T = TypeVar("T")
CHECK_RATE = 1e-3  # so large that the weights move by far more than rounding
TRAIN_SHARE = 1e-3  # of the check's rate: the share of active ReLUs stays, however many epochs fill a side's time
RATED_BATCHES = 8
SETTLE_SECONDS = 0.05  # until the threads of the side before have stopped spinning

_running: dict[str, tuple[Rival, list[np.ndarray]]] = {}  # in a contestant's own process: what it times


@dataclass(frozen=True)
class Result:
    """What came of one contestant in one race.

    Attributes
    ----------
    problem : Problem
    contestant : Contestant
    status : {"timed", "disagrees", "failed"}
    note : str
        Why it was not timed.
    seconds : tuple of float
        Seconds of every round.
    epochs : int
        Epochs of a round.
    """

    problem: Problem
    contestant: Contestant
    status: str
    note: str = ""
    seconds: tuple[float, ...] = ()
    epochs: int = 0

    @property
    def best(self) -> float:
        """Microseconds per sample in the best round."""
        return self._microseconds(min(self.seconds))

    @property
    def median(self) -> float:
        """Microseconds per sample in the median round."""
        return self._microseconds(statistics.median(self.seconds))

    def _microseconds(self, seconds: float) -> float:
        return 1e6 * seconds / (self.epochs * self.problem.samples)


def own_process() -> Executor:
    """A fresh process that runs what is submitted, one after the other."""
    return ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn"))


def find_missing(
    contestants: Sequence[Contestant], place: Callable[[], Executor] = own_process
) -> tuple[dict[str, str], dict[str, str]]:
    """Descriptions of the contestants that are installed and reasons why the others are not, both by label."""
    present, missing = {}, {}
    with ExitStack() as stack:
        futures = {c.label: stack.enter_context(place()).submit(c.rival.describe) for c in contestants}
        for label, future in futures.items():
            error = future.exception()
            if error is None:
                present[label] = future.result()
            else:
                missing[label] = str(error) if isinstance(error, MissingError) else brief(error)
    return present, missing


def race(
    problem: Problem,
    contestants: Sequence[Contestant],
    rounds: int,
    seconds: float,
    place: Callable[[], Executor] = own_process,
) -> list[Result]:
    """Check every contestant that takes the problem, then time those that agree, each in turn, `rounds` times.

    Parameters
    ----------
    problem : Problem
    contestants : sequence of Contestant
    rounds : int
    seconds : float
        A round of a contestant takes as many epochs as last at least so long.
    place : callable
        Makes the executor in which a contestant runs.

    Returns
    -------
    list of Result
        In the order of `contestants`.
    """
    with ExitStack() as stack:
        runners = [contestant for contestant in contestants if contestant.rival.takes(problem)]
        lanes = [_Lane(problem, runner, stack.enter_context(place())) for runner in runners]
        checks = [lane.start() for lane in lanes]  # these may overlap
        for lane, check in zip(lanes, checks, strict=True):
            lane.compare(lane.answer(check))
        for lane in lanes:
            rate = TRAIN_SHARE * check_rate(problem)
            lane.epochs = lane.ask(_prepare, lane.contestant, problem, rate, seconds) or 0
        for turn in range(rounds):
            for lane in lanes if turn % 2 == 0 else reversed(lanes):
                time.sleep(SETTLE_SECONDS)
                elapsed = lane.ask(_measure, lane.contestant.label, lane.epochs)
                if elapsed is not None:
                    lane.seconds.append(elapsed)
        return [lane.result() for lane in lanes]


@dataclass
class _Lane:
    """A contestant, the executor it runs in, and what is known of it so far."""

    problem: Problem
    contestant: Contestant
    place: Executor
    failure: Result | None = None
    epochs: int = 0
    seconds: list[float] = field(default_factory=list)

    def start(self) -> Future[list[np.ndarray]]:
        """Submit the check, the first thing that the contestant's process does: that starts the process."""
        with restricted(self.contestant.cpus):
            return self.place.submit(trained_check, self.contestant, self.problem, check_rate(self.problem))

    def ask(self, function: Callable[..., T], *arguments: object) -> T | None:
        """Run a function in the contestant's place; None once the contestant has failed."""
        return None if self.failure else self.answer(self.place.submit(function, *arguments))

    def answer(self, future: Future[T]) -> T | None:
        error = future.exception()
        if error is None:
            return future.result()
        self.failure = Result(self.problem, self.contestant, "failed", brief(error))
        return None

    def compare(self, trained: list[np.ndarray] | None) -> None:
        """Judge the check.  A second start decides where the first one differs.

        In a deep network the rows of a batch become nearly one, so that a pre-activation within rounding of 0 may turn
        a ReLU on or off for all of them at once: rare, and by chance.  A fault differs from every start.
        """
        difference = self._difference(self.problem, trained)
        if difference is not None:
            other = replace(self.problem, start=self.problem.start + 1)
            again = self.ask(trained_check, self.contestant, other, check_rate(other))
            if self.failure is None and self._difference(other, again) is not None:
                self.failure = Result(self.problem, self.contestant, "disagrees", difference)

    def _difference(self, problem: Problem, trained: list[np.ndarray] | None) -> str | None:
        if trained is None:
            return None
        small, wanted = problem.check(), reference(problem, self.contestant.rival.checked_with)
        return disagreement(small, small.initial_blocks(), wanted, trained)

    def result(self) -> Result:
        return self.failure or Result(
            self.problem, self.contestant, "timed", seconds=tuple(self.seconds), epochs=self.epochs
        )


def trained_check(contestant: Contestant, problem: Problem, rate: float) -> list[np.ndarray]:
    """The weights after the contestant trained the batches on which agreement is checked."""
    small = problem.check()
    rival = contestant.rival(small, rate, contestant.rival.checked_with, **contestant.options)
    rival.load(small.initial_blocks())
    rival.train(1)
    return rival.blocks()


@functools.cache
def check_rate(problem: Problem) -> float:
    """Learning rate of the agreement check, small enough for wide and deep networks.

    CHECK_RATE, but at most 3 times Polyak's step ``loss / |gradient|^2``, the smallest of the first batches.  Polyak's
    step is the one that brings a loss linear in the weights to zero; with a single output training diverges, and
    rounding with it, from 4 times that.
    """
    import fnn

    network = fnn.Network(list(problem.sizes), activation="relu", output="identity", dtype=problem.dtype)
    network.parameters = np.concatenate([block.ravel() for block in problem.initial_blocks()])
    x, y = problem.check().data()
    rate = CHECK_RATE
    for start in range(0, min(len(x), RATED_BATCHES * problem.batch), problem.batch):
        rows = slice(start, start + problem.batch)
        loss, gradient = network.loss_and_gradient(x[rows], y[rows], loss="squared_error")
        rate = min(rate, 3 * loss / float(np.sum(np.square(gradient, dtype=np.float64))))
    return rate


@functools.cache
def reference(problem: Problem, hidden: str) -> list[np.ndarray]:
    """The weights after fnn's NumPy backend trained the batches on which agreement is checked."""
    small = problem.check()
    rival = Fnn(small, check_rate(problem), hidden, backend="numpy")
    rival.load(small.initial_blocks())
    rival.train(1)
    return rival.blocks()


def brief(error: BaseException) -> str:
    """An error on one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def _prepare(contestant: Contestant, problem: Problem, rate: float, seconds: float) -> int:
    """Set up what is timed, warm it up, and return the epochs that last `seconds` or longer."""
    rival = contestant.rival(problem, rate, **contestant.options)
    _running[contestant.label] = rival, problem.initial_blocks()
    epochs = 1
    _measure(contestant.label, epochs)
    while _measure(contestant.label, epochs) < seconds:
        epochs *= 2
    return epochs


def _measure(label: str, epochs: int) -> float:
    """Seconds for training so many epochs from the initial weights."""
    rival, blocks = _running[label]
    rival.load(blocks)
    start = time.perf_counter()
    rival.train(epochs)
    return time.perf_counter() - start
