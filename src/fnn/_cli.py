"""The command fnn: train a network, describe a saved one, say which backend and how many threads run."""

from __future__ import annotations

import argparse
import os
import sys
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tokenize import TokenError
from typing import NoReturn

import numpy as np

import fnn
from fnn import _checks, _csvfile, _dispatch, _train
from fnn._formulas import (
    ACTIVATIONS,
    BINARY_CROSS_ENTROPY,
    CROSS_ENTROPY,
    LOSSES,
    OUTPUT_ONLY,
    POISSON,
    SQUARED_ERROR,
    Loss,
)
from fnn._optimizers import OPTIMIZERS, Optimizer

OUTPUTS = {"cross_entropy": "softmax", "binary_cross_entropy": "sigmoid", "squared_error": "identity", "poisson": "exp"}
# Rates that train the digits, through one inner layer as through three, by whether each row updates and whether some
# outputs are dropped; one step of online training sees one row, so that it must be smaller.
RATES = {
    (False, False): {"cross_entropy": 0.05, "binary_cross_entropy": 0.05, "squared_error": 0.005, "poisson": 0.01},
    (False, True): {"cross_entropy": 0.02, "binary_cross_entropy": 0.025, "squared_error": 0.005, "poisson": 0.01},
    (True, False): {"cross_entropy": 0.05, "binary_cross_entropy": 0.02, "squared_error": 0.01, "poisson": 0.005},
    (True, True): {"cross_entropy": 0.01, "binary_cross_entropy": 0.01, "squared_error": 0.01, "poisson": 0.005},
}
MAX_CLASSES = 10_000
# What numpy.load was seen to raise on archives with changed bytes.
DAMAGES = (ValueError, OSError, EOFError, SyntaxError, RuntimeError, TokenError, zipfile.BadZipFile, zlib.error)


class Parser(argparse.ArgumentParser):
    """Argument parser whose errors take one line."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong with the arguments and exit with status 2."""
        self.exit(2, f"fnn: error: {message} (see {self.prog} --help)\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command fnn.

    Parameters
    ----------
    arguments : sequence of str, optional
        What stands after the command's name; ``sys.argv[1:]`` unless given.

    Returns
    -------
    int
        Exit status: 0 if all went well, 1 if training diverged, 2 for bad arguments or data, 130 after Ctrl-C.
    """
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except KeyboardInterrupt:
        return _fail("interrupted, nothing was saved", 130)
    except fnn.DivergenceError as error:
        return _fail(f"error: {error}", 1)
    except MemoryError:
        return _fail("error: out of memory; use a smaller network or batch", 2)
    except (ValueError, OSError) as error:
        return _fail(f"error: {error}", 2)
    return 0


def _say(text: str) -> None:
    """Print at once; where nobody reads any more, be silent from now on instead of ending a training."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(message: str, status: int) -> int:
    print("fnn: " + " ".join(message.split()), file=sys.stderr)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="fnn", description="Train dense neural networks on this machine's CPU.")
    parser.add_argument("--version", action="version", version=f"fnn {fnn.__version__}")
    commands = parser.add_subparsers(required=True, metavar="{train,info,config}")

    train = commands.add_parser(
        "train",
        help="train a network and save it",
        description="Train a network on DATA, print how well it does on rows held out, and save it.",
    )
    train.set_defaults(run=_run_train)
    train.add_argument(
        "data",
        nargs="?",
        type=Path,
        metavar="DATA",
        help="a .npz file with arrays x and y, or a .csv file of numbers whose last column is the target, with or "
        "without a line of names; without DATA: 1,797 handwritten digits",
    )
    train.add_argument("--target", choices=("classes", "regression"), help="what y holds; by default --loss tells")
    train.add_argument("--hidden", type=_sizes, default=[32], metavar="N[,N...]", help="inner layers (default: 32)")
    train.add_argument(
        "--activation",
        choices=[a.name for a in ACTIVATIONS.values() if a.code not in OUTPUT_ONLY],
        default="relu",
        help="of the inner layers (default: relu)",
    )
    train.add_argument(
        "--dropout",
        type=_shares,
        default=0.0,
        metavar="P[,P...]",
        help="share of the inner layers' outputs that training drops, or of each of them (default: 0)",
    )
    train.add_argument("--loss", choices=list(LOSSES), help="default: cross_entropy, squared_error for a regression")
    train.add_argument("--epochs", type=int, default=40, metavar="N", help="default: 40")
    train.add_argument("--batch-size", type=int, default=16, metavar="N", help="1: every row updates (default: 16)")
    train.add_argument("--optimizer", choices=list(OPTIMIZERS), default="sgd", help="default: sgd")
    train.add_argument("--learning-rate", type=float, metavar="RATE", help="default: by loss, batch size, dropout")
    train.add_argument("--momentum", type=float, metavar="M", help="default: by loss and batch size")
    train.add_argument(
        "--saturation", metavar="LIMIT", help="keep weights within +-LIMIT, or none (default: 1, with DATA none)"
    )
    train.add_argument("--seed", type=int, default=0, metavar="N", help="default: 0")
    train.add_argument("--threads", type=int, metavar="N", help="at most (default: what fnn config says)")
    train.add_argument("--dtype", choices=("float32", "float64"), default="float32", help="default: float32")
    train.add_argument("--test-fraction", type=float, default=0.2, metavar="F", help="rows held out (default: 0.2)")
    train.add_argument(
        "--output", type=Path, metavar="FILE", help="default: digits.fnn, or DATA's name with .fnn, here"
    )
    train.add_argument("--quiet", action="store_true", help="no line of progress")

    info = commands.add_parser("info", help="describe a saved network", description="Describe a saved network.")
    info.set_defaults(run=_run_info)
    info.add_argument("file", type=Path, metavar="FILE")

    config = commands.add_parser("config", help="say which backend and how many threads run, and why")
    config.set_defaults(run=lambda options: _say(_dispatch.config()))
    return parser


def _run_train(options: argparse.Namespace) -> None:
    output = options.output or Path("digits.fnn" if options.data is None else f"{options.data.stem}.fnn")
    if output.is_dir() or not output.parent.is_dir():
        raise ValueError(f"--output: expected a file in a directory that exists, got {output}")
    if output.exists() and not output.is_file():
        raise ValueError(f"--output: expected a regular file, got {output}")
    if options.data is not None and output.exists() and output.samefile(options.data):
        raise ValueError(f"--output: expected another file than the data, got {output}")
    with _told_by_line(options.data):
        x, y, loss, classes = _read_problem(options)
    test, train = _split(len(x), options.test_fraction, options.seed)
    outputs = y.shape[1] if y.ndim == 2 else max(2, int(y.max()) + 1)
    layers: list[fnn.Input | fnn.Dense] = [fnn.Input(x.shape[1]), *_inner_layers(options)]
    layers.append(fnn.Dense(outputs, OUTPUTS[loss.name]))
    network = fnn.Network(layers, dtype=options.dtype, seed=options.seed)
    optimizer = _steps(options, loss)
    with _told_by_line(options.data):  # all rows at once and before they are mixed
        x, y = _train.checked_data(x, y, network.layout, network.dtype, loss)
    _say(f"backend: {fnn.backend()}")
    _say(f"data: {options.data or 'handwritten digits'}, {len(train):,} rows to train on, {len(test):,} held out")
    _say(network.summary())
    history = network.fit(
        x[train],
        y[train],
        epochs=options.epochs,
        batch_size=options.batch_size,
        loss=loss,
        optimizer=optimizer,
        saturation=_limit(options),
        seed=options.seed,
        threads=options.threads,
        progress=not options.quiet,
    )
    _say(_verdict(network, x[test], y[test], loss, classes))
    seconds = sum(history.seconds)
    each = 1e6 * seconds / (history.epochs * len(train))
    _say(f"trained {history.epochs} epochs in {seconds:.3g} s, {each:.3g} us per sample")
    network.save(output)
    _say(f"saved {output}")


def _run_info(options: argparse.Namespace) -> None:
    network = fnn.load(options.file)
    values = network.parameters
    _say(f"{options.file}: {options.file.stat().st_size:,} bytes, dtype {network.dtype}")
    _say(network.summary())
    _say(f"parameters from {values.min():.4g} to {values.max():.4g}")


def _sizes(text: str) -> list[int]:
    try:
        return [int(size) for size in text.split(",")] if text else []
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected sizes like 64,32, got {text!r}") from None


def _shares(text: str) -> float | list[float]:
    try:
        shares = [float(share) for share in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected shares like 0.5 or 0.2,0.5, got {text!r}") from None
    return shares if len(shares) > 1 else shares[0]


def _inner_layers(options: argparse.Namespace) -> list[fnn.Dense]:
    if options.dropout and not options.hidden:
        raise ValueError(f"--dropout: expected none without inner layers, got {options.dropout}")
    sizes = [_checks.whole_number(size, "--hidden") for size in options.hidden]
    shares = _checks.hidden_dropouts(options.dropout, len(sizes))
    return [fnn.Dense(size, options.activation, dropout=share) for size, share in zip(sizes, shares, strict=True)]


def _limit(options: argparse.Namespace) -> float | None:
    """Return the saturation limit: what was asked for, else 1 for the digits and none for other data."""
    if options.saturation is None:
        return 1.0 if options.data is None else None
    try:
        return None if options.saturation == "none" else float(options.saturation)
    except ValueError:
        raise ValueError(f"--saturation: expected a number or none, got {options.saturation!r}") from None


def _steps(options: argparse.Namespace, loss: Loss) -> Optimizer:
    """Return the optimiser: what was asked for, else what suits the loss, the batch size and dropout."""
    if options.optimizer != "sgd":
        if options.momentum is not None:
            raise ValueError(f"--momentum: expected none with --optimizer {options.optimizer}, got {options.momentum}")
        chosen = OPTIMIZERS[options.optimizer]
        return chosen() if options.learning_rate is None else chosen(options.learning_rate)
    online = options.batch_size == 1
    usual = RATES[online, bool(np.any(options.dropout))][loss.name]
    return fnn.SGD(
        usual if options.learning_rate is None else options.learning_rate,
        (0.0 if online else 0.9) if options.momentum is None else options.momentum,
    )


def _read_problem(options: argparse.Namespace) -> tuple[np.ndarray, np.ndarray, Loss, bool]:
    """Return x (N, I), y as rows (N, O) or labels (N,), the loss, and whether y holds classes."""
    loss = LOSSES[options.loss or ("squared_error" if options.target == "regression" else "cross_entropy")]
    if options.data is None:
        x, y = fnn.load_digits()
        target = options.target or "classes"
    else:
        x, y = _read_arrays(options.data)
        target = options.target or ("regression" if loss.code in (SQUARED_ERROR, POISSON) else "classes")
    if target == "regression" and (loss.code == CROSS_ENTROPY or options.data is None):
        raise ValueError("--target regression: expected DATA and --loss squared_error or poisson")
    if y.ndim == 2:
        return x, y, loss, target == "classes"
    if target == "regression" or (loss.code == BINARY_CROSS_ENTROPY and y.max() <= 1):
        return x, y[:, None], loss, target == "classes"
    labels = _labels(y)
    return x, labels if loss.code == CROSS_ENTROPY else np.eye(labels.max() + 1)[labels], loss, True


def _labels(y: np.ndarray) -> np.ndarray:
    bad = ~((y >= 0) & (y < MAX_CLASSES) & (y == np.floor(y)))
    if bad.any():
        row = int(bad.argmax())
        raise _checks.BadValueError(
            "y", f"expected class labels 0, 1, 2, ..., got {y[row]}", (row,), "; for numbers use --target regression"
        )
    return y.astype(np.intp)


@contextmanager
def _told_by_line(path: Path | None) -> Iterator[None]:
    """Within, an error about a value of a .csv file names its line and column, as an editor counts them."""
    try:
        yield
    except _checks.BadValueError as error:
        if path is None or path.suffix != ".csv":
            raise
        line, columns = _csvfile.line_of(path, error.place[0])
        column = error.place[1] + 1 if error.argument == "x" else columns
        raise ValueError(f"{path}: line {line}, column {column}: {error.fault}{error.hint}") from None


def _read_arrays(path: Path) -> tuple[np.ndarray, np.ndarray]:
    if path.suffix == ".npz":
        return _read_npz(path)
    if path.suffix == ".csv":
        return _csvfile.read(path)
    raise ValueError(f"{path}: expected a .npz or .csv file")


def _read_npz(path: Path) -> tuple[np.ndarray, np.ndarray]:
    with path.open("rb") as file:
        if not zipfile.is_zipfile(file):
            raise ValueError(f"{path}: expected a NumPy archive with arrays x and y, got another kind of file")
        file.seek(0)
        try:
            with np.load(file, allow_pickle=False) as archive:
                if not {"x", "y"} <= set(archive.files):
                    raise ValueError(f"expected arrays x and y, got {', '.join(archive.files)}")
                x, y = _checks.real_array(archive["x"], "x"), _checks.real_array(archive["y"], "y")
        except DAMAGES as error:
            raise ValueError(f"{path}: {error}") from None
    if x.ndim != 2 or y.ndim not in (1, 2) or 0 in x.shape + y.shape:
        raise ValueError(
            f"{path}: expected x (rows, columns) and y (rows,) or (rows, outputs), got {x.shape} and {y.shape}"
        )
    return x, y[:, 0] if y.shape[1:] == (1,) else y


def _split(n_rows: int, test_fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows to hold out and the rows to train on."""
    if not 0 < test_fraction < 1:
        raise ValueError(f"--test-fraction: expected a number between 0 and 1, got {test_fraction}")
    if n_rows < 2:
        raise ValueError(f"x: expected at least 2 rows, one to train on and one to hold out, got {n_rows}")
    n_test = min(max(round(test_fraction * n_rows), 1), n_rows - 1)
    order = _checks.generator(seed).permutation(n_rows)
    return order[:n_test], order[n_test:]


def _verdict(network: fnn.Network, x: np.ndarray, y: np.ndarray, loss: Loss, classes: bool) -> str:
    metric = _train.find_metric("accuracy" if classes else "r2", loss, network.layout)[1]
    assert metric is not None
    value = metric(y, network.predict(x))
    return f"test accuracy {100 * value:.1f} % of {len(x):,} rows" if classes else f"test R2 {value:.4f}"
