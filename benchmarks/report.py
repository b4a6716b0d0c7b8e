"""Tables, CSV and machine description of a run."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from machine import Limits
from race import Result
from rivals import Contestant

NUMPY = "fnn numpy"
COLUMNS = (
    "workload", "layers", "batch", "samples", "zero_inputs", "dtype", "rival", "cpus", "status", "best_us", "median_us",
    "rounds", "epochs", "floor_us", "share_of_floor", "build_floor_us", "share_of_build_floor", "note",
)  # fmt: skip


@dataclass(frozen=True)
class Report:
    """All that is known after a run.

    Attributes
    ----------
    machine : dict
        `machine.describe`, with the time and the loads before and after.
    limits : Limits or None
        None where they could not be measured; `no_limits` says why.
    versions, missing : dict of str
        Descriptions of the contestants that ran, reasons for the absence of the others, by label.
    results : list of Result
    setting : str
        How the run was made.
    build_limits : dict of Limits
        What code of each build of fnn can do at most, by the label of the contestant; empty where not measured.
    scaling : list of Result
        fnn on 1, 2, 4, ... CPUs; empty where not raced.
    """

    machine: dict[str, object]
    limits: Limits | None
    no_limits: str
    contestants: tuple[Contestant, ...]
    versions: dict[str, str]
    missing: dict[str, str]
    results: list[Result]
    setting: str
    build_limits: dict[str, Limits] = field(default_factory=dict)
    scaling: list[Result] = field(default_factory=list)

    def floor(self, result: Result) -> float | None:
        """The floor of the result's workload in microseconds per sample, on the CPUs that the contestant had."""
        return None if self.limits is None else result.problem.floor(self.limits, result.contestant.cpus)

    def build_floor(self, result: Result) -> float | None:
        """The same for code of the contestant's own instruction set; None for those of unknown or several."""
        limits = self.build_limits.get(result.contestant.label)
        return None if limits is None else result.problem.floor(limits, result.contestant.cpus)

    def workloads(self) -> dict[str, dict[str, Result]]:
        """Results by workload, then by the contestant's label."""
        found: dict[str, dict[str, Result]] = {}
        for result in self.results:
            found.setdefault(result.problem.name, {})[result.contestant.label] = result
        return found


def times_table(report: Report, statistic: str = "best") -> str:
    """Microseconds per sample of every contestant, "best" or "median"; the fastest of a row in bold."""
    labels = [contestant.label for contestant in report.contestants if contestant.label in report.versions]
    rows = []
    for name, results in report.workloads().items():
        times = {label: getattr(result, statistic) for label, result in results.items() if result.status == "timed"}
        cells = []
        for label in labels:
            result = results.get(label)
            if label in times:
                text = number(times[label])
                cells.append(f"**{text}**" if times[label] == min(times.values()) else text)
            else:
                cells.append(result.status if result else "-")
        rows.append([name, *cells])
    return table(["workload", *labels], rows)


def verdict_table(report: Report) -> str:
    """The best compiled backend of fnn against its NumPy backend, against the best peer, and against the floor."""
    rows = []
    for name, results in report.workloads().items():
        timed = [result for result in results.values() if result.status == "timed"]
        compiled = next((r for r in timed if r.contestant.family == "fnn" and r.contestant.label != NUMPY), None)
        peers = [result for result in timed if result.contestant.family != "fnn"]
        peer = min(peers, key=lambda result: result.best, default=None)
        floor = report.floor(next(iter(results.values())))
        twin = next((result for result in timed if result.contestant.label == NUMPY), None)
        rows.append(
            [
                name,
                number(compiled.best) if compiled else "-",
                ratio(compiled, twin),
                peer.contestant.label if peer else "-",
                number(peer.best) if peer else "-",
                ratio(compiled, peer),
                number(floor) if floor else "-",
                percent(floor / compiled.best) if floor and compiled else "-",
            ]
        )
    heading = ["workload", "fnn", "against NumPy", "best peer", "its time", "against it", "floor", "of the floor"]
    return table(heading, rows)


def builds_table(report: Report) -> str:
    """Every build of fnn: its share of the floor of its own instruction set."""
    rows = []
    for name, results in report.workloads().items():
        cells = []
        for label in report.build_limits:
            result = results.get(label)
            floor = report.build_floor(result) if result and result.status == "timed" else None
            cells.append(percent(floor / result.best) if result and floor else "-")
        rows.append([name, *cells])
    return table(["workload", *report.build_limits], rows)


def peaks_table(limits: dict[str, Limits]) -> str:
    """Multiply-add peak of every build's instruction set, by threads."""
    threads = sorted({count for one in limits.values() for count in one.peak_gflops})
    rows = [[label, *(f"{one.peak_gflops[t]:.0f}" for t in threads)] for label, one in limits.items()]
    return table(["multiply-add, GFLOP/s", *map(_threads, threads)], rows)


def scaling_table(report: Report) -> str:
    """Fnn on more and more CPUs: time, speed-up over the first line of the workload, share of the floor."""
    rows, alone = [], {}
    for result in report.scaling:
        name, cpus = result.problem.name, result.contestant.cpus
        if result.status != "timed":
            rows.append([name, str(cpus), result.status, "-", "-"])
            continue
        alone.setdefault(name, result.best)
        floor = report.floor(result)
        share = percent(floor / result.best) if floor else "-"
        rows.append([name, str(cpus), number(result.best), f"{alone[name] / result.best:.2f}x", share])
    return table(["workload", "CPUs", "fnn", "speed-up", "of the floor"], rows)


def notes(report: Report) -> list[str]:
    """What a reader of the tables must know: how the figures came about, who is missing, who was not timed and why."""
    lines = [
        report.setting,
        *noise(report.results),
        "Every side had trained a few batches from the same weights and agreed with fnn's NumPy backend within "
        "rounding before it was timed, in the process in which it was timed.",
        '"fnn" is the build that fnn chooses by itself on this CPU. "-": not offered, not installed or not compiled.',
    ]
    if report.limits is None:
        lines.append(f"No floor: {report.no_limits}.")
    else:
        threads = max(report.limits.peak_gflops)
        lines.append(
            "Floor, mini-batches: 4 I O operations for the first layer and 6 I O for every other, over the measured "
            f"{report.limits.peak_gflops[threads]:.0f} GFLOP/s of {threads} cores. Online: one read of every weight "
            "forward and one read and write backward, those of zero inputs left out, over one core's measured "
            "bandwidth of the cache that the weights fit in; fnn reads them once for three rows. A net as small as "
            "xor-online is bounded by latency instead, far above its floor."
        )
    raced = {result.contestant.label for result in report.results}
    shown = [contestant.rival.footnote for contestant in report.contestants if contestant.label in raced]
    lines += dict.fromkeys(footnote for footnote in shown if footnote)
    lines += [f"Missing: {label}: {reason}." for label, reason in report.missing.items()]
    lines += [
        f"Not timed: {result.contestant.label} on {result.problem.name} {result.status}: {result.note}."
        for result in (*report.results, *report.scaling)
        if result.status != "timed"
    ]
    return lines


def noise(results: Sequence[Result]) -> list[str]:
    """How far the rounds lay apart: figures of a busy machine should be taken again."""
    timed = sorted((r for r in results if r.status == "timed"), key=lambda result: result.median / result.best)
    if not timed:
        return []
    usual, worst = timed[len(timed) // 2], timed[-1]
    return [
        f"Noise: the median round took {percent(usual.median / usual.best - 1)} longer than the best for the usual "
        f"side, {percent(worst.median / worst.best - 1)} for the worst, {worst.contestant.label} on "
        f"{worst.problem.name}."
    ]


def markdown(report: Report) -> str:
    """The whole report of a race over the workloads as one page."""
    parts = ["## Microseconds per training sample, best of the rounds", times_table(report)]
    parts += ["## fnn's compiled backend against the rest", verdict_table(report)]
    if report.build_limits:
        parts += ["## Every build against the floor of its own instruction set", builds_table(report)]
    if report.scaling:
        parts += ["## fnn on more CPUs", scaling_table(report)]
    parts += ["\n".join(f"- {line}" for line in notes(report))]
    parts += ["## The same as the first table, median of the rounds", times_table(report, "median")]
    return page(report, "Benchmarks", "run.py", parts)


def page(report: Report, title: str, command: str, parts: Sequence[str]) -> str:
    """A Markdown page of these parts, with the machine and its limits below them."""
    facts = {**report.machine, **{f"version of {label}": text for label, text in report.versions.items()}}
    head = [f"# {title}", f"Written by `python benchmarks/{command}`; benchmarks/README.md says how to read it."]
    tail = ["## The machine", "\n".join(f"- {key}: {_plain(value)}" for key, value in facts.items())]
    if report.limits is not None:
        tail += ["## What it can do at most, measured", limits_table(report.limits)]
    if report.build_limits:
        tail += ["The same peak in code of each build's instruction set:", peaks_table(report.build_limits)]
    return "\n\n".join([*head, *parts, *tail]) + "\n"


def limits_table(limits: Limits) -> str:
    """Multiply-add peak and bandwidths, by threads."""
    threads = sorted(limits.peak_gflops)
    rows = [["multiply-add, GFLOP/s", *(f"{limits.peak_gflops[t]:.0f}" for t in threads)]]
    for what, rates in (("read", limits.read_gbs), ("read and write", limits.update_gbs)):
        rows += [[f"{what} {_bytes(size)}, GB/s", *(f"{rates[t][size]:.0f}" for t in threads)] for size in rates[1]]
    return table(["", *map(_threads, threads)], rows)


def records(report: Report) -> list[dict[str, object]]:
    """One record for every result, under the names in COLUMNS; None where there is no figure."""
    found = []
    for result in (*report.results, *report.scaling):
        problem, floor, build_floor = result.problem, report.floor(result), report.build_floor(result)
        best, median = (result.best, result.median) if result.status == "timed" else (None, None)
        values = (
            problem.name, "-".join(map(str, problem.sizes)), problem.batch, problem.samples, problem.zeros,
            problem.dtype, result.contestant.label, result.contestant.cpus, result.status, best, median,
            len(result.seconds), result.epochs, floor, floor / best if floor and best else None, build_floor,
            build_floor / best if build_floor and best else None, result.note,
        )  # fmt: skip
        found.append(dict(zip(COLUMNS, values, strict=True)))
    return found


def write(report: Report, folder: Path, name: str, text: str) -> list[Path]:
    """Write `name`.csv, .json, and .md with this text, into the folder and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.{ending}" for ending in ("csv", "json", "md")]
    with paths[0].open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(records(report))
    description = {
        "machine": report.machine,
        "limits": asdict(report.limits) if report.limits else report.no_limits,
        "limits of builds": {label: asdict(limits) for label, limits in report.build_limits.items()},
        "versions": report.versions,
        "missing": report.missing,
        "setting": report.setting,
    }
    paths[1].write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
    paths[2].write_text(text, encoding="utf-8")
    return paths


def table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose columns line up; all but the first are right-aligned."""
    widths = [max(3, *(len(row[i]) for row in [heading, *rows])) for i in range(len(heading))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    lines = []
    for row in (heading, rule, *rows):
        first, *others = [cell.rjust(width) for cell, width in zip(row, widths, strict=True)]
        lines.append(f"| {' | '.join([first.lstrip().ljust(widths[0]), *others])} |")
    return "\n".join(lines)


def number(microseconds: float) -> str:
    """Three figures: 123, 12.3, 1.23, 0.123, 0.0123."""
    decimals = next((d for d, bound in enumerate((100, 10, 1, 0.1)) if microseconds >= bound), 4)
    return f"{microseconds:.{decimals}f}"


def percent(share: float) -> str:
    """Two figures at least: 65 %, 4.3 %."""
    return f"{100 * share:.0f} %" if share >= 0.1 else f"{100 * share:.1f} %"


def ratio(result: Result | None, other: Result | None) -> str:
    """How much faster or slower `result` is than `other`."""
    if result is None or other is None:
        return "-"
    gain = other.best / result.best
    return f"{gain:.2f}x faster" if gain >= 1 else f"{1 / gain:.2f}x SLOWER"


def _bytes(size: int) -> str:
    return f"{size >> 20} MiB" if size >= 1 << 20 else f"{size >> 10} KiB"


def _threads(count: int) -> str:
    return f"{count} thread" if count == 1 else f"{count} threads"


def _plain(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}={item}" for key, item in value.items()) or "-"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
