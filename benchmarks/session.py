"""What the commands that race share: the sides, the machine and its limits, options, and word of how far the run is."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

import machine
from race import find_missing
from rivals import Contestant

RESULTS = Path(__file__).with_name("results")
ROUND_SECONDS, QUICK_SECONDS = 0.2, 0.01
QUICK_SIZES = (1 << 14, 1 << 19, 1 << 23)


@dataclass(frozen=True)
class Field:
    """The sides of a run.

    Attributes
    ----------
    contestants : tuple of Contestant
        Those asked for.
    versions, missing : dict of str
        Descriptions of the installed ones, reasons for the absence of the others, by label.
    """

    contestants: tuple[Contestant, ...]
    versions: dict[str, str]
    missing: dict[str, str]

    @property
    def installed(self) -> list[Contestant]:
        """The contestants that can race."""
        return [contestant for contestant in self.contestants if contestant.label in self.versions]


def gather(contestants: Sequence[Contestant], place: Callable[[], Executor]) -> Field:
    """Find out which of the contestants are installed, and say so."""
    field = Field(tuple(contestants), *find_missing(contestants, place))
    for label, version in field.versions.items():
        say(f"{label}: {version}")
    for label, reason in field.missing.items():
        say(f"{label}: missing ({reason})")
    return field


def describe_machine() -> dict[str, object]:
    """The machine before the run, with a word on variables that make NumPy and scikit-learn other than they are."""
    description = {"time": time.strftime("%Y-%m-%d %H:%M %Z"), **machine.describe(), "load before": machine.load()}
    environment = description["environment"]
    assert isinstance(environment, dict)
    forced = [f"{name}={value}" for name, value in environment.items() if name.startswith("OPENBLAS_")]
    if forced:
        say(f"note: {', '.join(forced)} changes what NumPy and scikit-learn run; unset it for figures to quote")
    return description


def measured_limits(
    quick: bool, flags: Sequence[str] = machine.NATIVE, threads: Sequence[int] | None = None
) -> tuple[machine.Limits | None, str]:
    """The machine's limits, or None and the reason."""
    say(f"measuring the multiply-add peak and the bandwidths ({' '.join(flags) or 'no options'})")
    length, sizes = (1, QUICK_SIZES) if quick else (10, machine.SIZES)
    try:
        return machine.measure_limits(length, sizes, flags, threads), ""
    except machine.LimitsError as error:
        say(f"no floor: {error}")
        return None, str(error)


def setting(rounds: int, quick: bool) -> str:
    """How the figures were made, for the notes below the tables."""
    return f"Best of {rounds} rounds, the sides in turn" + (
        ", on epochs cut short (--quick): NOT figures to quote." if quick else "."
    )


def add_choice(
    parser: argparse.ArgumentParser, option: str, names: Sequence[str], default: Sequence[str] | None = None
) -> None:
    """Add an option that takes some of the names; all are taken unless a default is given."""
    usual = "all" if default is None else ", ".join(default)
    help_text = f"of {', '.join(names)}; {usual} unless given"
    parser.add_argument(option, nargs="+", choices=names, default=default or names, metavar="NAME", help=help_text)


def add_rounds(parser: argparse.ArgumentParser, usual: int, quick: int) -> None:
    """Add --quick and --rounds; `settle_rounds` fills in what is left out."""
    parser.add_argument("--quick", action="store_true", help="short and few rounds: to try it out, not for figures")
    parser.add_argument("--rounds", type=int, help=f"rounds of each side: {usual}, or {quick} with --quick")


def settle_rounds(parser: argparse.ArgumentParser, options: argparse.Namespace, usual: int, quick: int) -> None:
    """Fill in the rounds that were not given, refuse less than one."""
    if options.rounds is None:
        options.rounds = quick if options.quick else usual
    elif options.rounds < 1:
        parser.error(f"--rounds: expected a number >= 1, got {options.rounds}")


def say(text: str) -> None:
    """Tell how far the run is, apart from the tables."""
    print(text, file=sys.stderr, flush=True)
