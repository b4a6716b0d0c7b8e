"""Model files: one network in one file, checked byte by byte, no pickle (docs/model-file.md).

Everything that a file says is compared with its true length before anything is allocated for it.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import secrets
import stat
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Any, BinaryIO, NoReturn

import numpy as np

from fnn._formulas import ACTIVATIONS, CORNER, OUTPUT_ONLY, Activation
from fnn._layout import SKIP_MODES, Layout, Skip, parameter_count, skip_fault

MAGIC = b"\x89FNN\r\n\x1a\n"  # as in PNG: a transfer in text mode, or one of 7 bits, damages it visibly
VERSIONS = (1, 2, 3, 4)  # 1 knew neither skips nor rate scales, 2 no corners, 3 no dropout
LENGTHS = struct.Struct("<II")  # version, length of the header
ALIGNMENT = 64
DIGEST_BYTES = hashlib.sha256().digest_size
MAX_HEADER = 1 << 20
MAX_SIZE = 1 << 64  # of a layer: products of two can still be printed
DTYPES: dict[str, np.dtype] = {"float32": np.dtype("<f4"), "float64": np.dtype("<f8")}
KEYS_1 = {"format", "sizes", "activations", "dtype", "count"}
KEYS = KEYS_1 | {"skips", "rate_scales"}
HEADER_KEYS = dict(zip(VERSIONS, (KEYS_1, KEYS, KEYS, KEYS | {"dropouts"}), strict=True))
NO_CORNERS = (1, 2)  # versions
FORMAT = "fnn network"


class ModelFileError(ValueError):
    """A model file is damaged, foreign or of an unknown version, or cannot be made from this network."""


def write(path: str | os.PathLike[str], layout: Layout, parameters: np.ndarray) -> None:
    """Write a model file beside `path` and rename it."""
    if not np.isfinite(parameters).all():
        raise ModelFileError(f"{os.fspath(path)}: expected finite parameters, got NaN or infinity; nothing was written")
    prefix = _prefix(layout, parameters.dtype)
    data = np.ascontiguousarray(parameters, DTYPES[parameters.dtype.name])
    digest = hashlib.sha256(prefix)
    digest.update(data.data)
    replace_file(path, prefix, data, digest.digest())


def replace_file(path: str | os.PathLike[str], *pieces: bytes | np.ndarray) -> None:
    """Write a file of these pieces beside `path` and rename it, so that there is all of it or what was there before."""
    target = os.path.realpath(os.fsdecode(path))  # a symbolic link stays one
    if os.path.exists(target) and not os.path.isfile(target):
        raise ModelFileError(f"{os.fspath(path)}: expected a file or nothing there, got a directory or a device")
    # Not tempfile: its files are private, while mode "x" leaves the permissions to the umask, as for any new file.
    temporary = os.path.join(os.path.dirname(target), f".fnn-{secrets.token_hex(8)}.tmp")
    try:
        with open(temporary, "xb") as file:
            for piece in pieces:
                file.write(piece.data if isinstance(piece, np.ndarray) else piece)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:  # Ctrl-C too
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a regular file for reading; anything else is refused."""
    # A number, which open would take for a file that is open already, standard output perhaps, and close, is no path.
    name = os.fspath(path)
    file = open(name, "rb", opener=_at_once)  # noqa: SIM115 - it stays open: the caller closes it
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise ModelFileError(f"{name}: expected a regular file")
    return file


def _at_once(name: str, flags: int) -> int:
    """Open a file without waiting, as for a writer to a named pipe."""
    return os.open(name, flags | getattr(os, "O_NONBLOCK", 0))


def read(path: str | os.PathLike[str]) -> tuple[Layout, np.ndarray]:
    """Return what a model file holds: the layout and the parameters (P,)."""

    def refuse(what: str) -> NoReturn:
        raise ModelFileError(f"{os.fspath(path)}: {what}") from None

    with open_regular(path) as file:
        length = os.fstat(file.fileno()).st_size
        start = file.read(len(MAGIC) + LENGTHS.size)
        _check_magic(start, refuse)
        if len(start) < len(MAGIC) + LENGTHS.size:
            refuse(f"cut short: expected at least {len(MAGIC) + LENGTHS.size} bytes, got {len(start)}")
        version, header_length = LENGTHS.unpack_from(start, len(MAGIC))
        if version not in HEADER_KEYS:
            refuse(f"expected format version 1 to {VERSIONS[-1]}, got {version}")
        if header_length > min(MAX_HEADER, length - len(start)):
            refuse(f"damaged: its header should have {header_length} bytes, got a file of {length}")
        header = file.read(header_length)
        layout, dtype = _parse_header(header, version, refuse)
        padding = -(len(start) + header_length) % ALIGNMENT
        data_bytes = layout.n_parameters * dtype.itemsize
        expected = len(start) + header_length + padding + data_bytes + DIGEST_BYTES
        if length != expected:
            refuse(f"damaged: expected {expected} bytes, got {length}")
        filler, data, digest = file.read(padding), file.read(data_bytes), file.read(DIGEST_BYTES + 1)
    computed = hashlib.sha256(start + header + filler)
    computed.update(data)
    if computed.digest() != digest:
        refuse(f"damaged: expected SHA-256 {computed.hexdigest()}, got {digest.hex()}")
    if any(filler):
        refuse("damaged: expected zeros between header and parameters")
    parameters = np.frombuffer(data, dtype).astype(dtype.newbyteorder("="))
    if not np.isfinite(parameters).all():
        refuse(f"expected finite parameters, got {parameters[int(np.argmin(np.isfinite(parameters)))]}")
    return layout, parameters


def _prefix(layout: Layout, dtype: np.dtype) -> bytes:
    """Everything before the parameters."""
    header = {
        "format": FORMAT,
        "sizes": layout.sizes,
        "activations": [
            {"name": a.name} | ({"slope": a.slope} if a.name == "leaky_relu" else {}) for a in layout.activations
        ],
        "skips": layout.skips,
        "rate_scales": layout.rate_scales,
        "dtype": dtype.name,
        "count": layout.n_parameters,
    }
    version = 3  # which more releases read
    if layout.drops:
        header["dropouts"], version = layout.dropouts, 4
    encoded = json.dumps(header, separators=(",", ":")).encode()
    prefix = MAGIC + LENGTHS.pack(version, len(encoded)) + encoded
    return prefix + bytes(-len(prefix) % ALIGNMENT)


def _check_magic(start: bytes, refuse: Callable[[str], NoReturn]) -> None:
    if start.startswith(MAGIC):
        return
    if start[1:4] == MAGIC[1:4]:
        refuse(f"damaged, as by a transfer in text mode: expected {MAGIC!r} at its start, got {start[: len(MAGIC)]!r}")
    refuse(f"not a model file of fnn: expected {MAGIC!r} at its start, got {start[: len(MAGIC)]!r}")


def _parse_header(encoded: bytes, version: int, refuse: Callable[[str], NoReturn]) -> tuple[Layout, np.dtype]:
    try:
        header = json.loads(encoded.decode(), object_pairs_hook=_unique_keys, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:  # not UTF-8, not JSON, a number of too many digits, too deep
        refuse(f"damaged: its header is not the JSON expected, {error}")
    keys = HEADER_KEYS[version]
    if not isinstance(header, dict) or set(header) != keys or header["format"] != FORMAT:
        refuse(f"damaged: expected a header with {sorted(keys)}, format {FORMAT!r}")
    sizes, entries, dtype, count = header["sizes"], header["activations"], header["dtype"], header["count"]
    if (
        not isinstance(sizes, list)
        or len(sizes) < 2
        or not all(type(size) is int and 1 <= size < MAX_SIZE for size in sizes)
    ):
        refuse("damaged: expected sizes to be at least two integers >= 1 and < 2**64")
    if not isinstance(entries, list) or len(entries) != len(sizes) - 1:
        refuse(f"damaged: expected {len(sizes) - 1} activations")
    activations = [_parse_activation(entry, refuse) for entry in entries]
    if any(activation.code in OUTPUT_ONLY for activation in activations[:-1]):
        refuse("damaged: expected softmax and exp on the last layer only")
    if version in NO_CORNERS and any(activation.code == CORNER for activation in activations):
        refuse(f"damaged: expected no corner in version {version}")
    skips = _parse_skips(header.get("skips", [[0, "add"]] * len(entries)), sizes, refuse)
    rate_scales = header.get("rate_scales", [1.0] * len(entries))
    if (
        not isinstance(rate_scales, list)
        or len(rate_scales) != len(entries)
        or not all(type(scale) is float and 0 < scale < math.inf for scale in rate_scales)
    ):
        refuse(f"damaged: expected {len(entries)} rate scales, finite numbers > 0")
    dropouts = header.get("dropouts", [0.0] * len(sizes))
    if (
        not isinstance(dropouts, list)
        or len(dropouts) != len(sizes)
        or not all(type(share) is float and 0 <= share < 1 for share in dropouts)
        or dropouts[-1]
    ):
        refuse(f"damaged: expected {len(sizes)} dropouts, numbers in [0, 1), the last of them 0.0")
    if not isinstance(dtype, str) or dtype not in DTYPES:
        refuse(f"damaged: expected dtype float32 or float64, got {dtype!r}")
    total = parameter_count(sizes, skips, activations)
    if type(count) is not int or count != total or total >= 1 << 60:
        refuse(f"damaged: its sizes make {total} parameters, got a count of {str(count)[:100]}")
    return Layout(tuple(sizes), tuple(activations), skips, tuple(rate_scales), tuple(dropouts)), DTYPES[dtype]


def _parse_skips(entries: Any, sizes: list[int], refuse: Callable[[str], NoReturn]) -> tuple[Skip, ...]:
    if not isinstance(entries, list) or len(entries) != len(sizes) - 1:
        refuse(f"damaged: expected {len(sizes) - 1} skips")
    for entry in entries:
        if (
            not isinstance(entry, list)
            or len(entry) != 2
            or type(entry[0]) is not int
            or entry[0] < 0
            or entry[1] not in SKIP_MODES
        ):
            refuse(f"damaged: expected a skip as [layers, mode], got {str(entry)[:100]}")
    skips = tuple(Skip(distance, mode) for distance, mode in entries)
    fault = skip_fault(sizes, skips)
    if fault:
        refuse(f"damaged: {fault}")
    return skips


def _parse_activation(entry: Any, refuse: Callable[[str], NoReturn]) -> Activation:
    name = entry.get("name") if isinstance(entry, dict) else None
    known = ACTIVATIONS.get(name) if isinstance(name, str) else None
    if known is None or set(entry) != ({"name", "slope"} if name == "leaky_relu" else {"name"}):
        refuse(f"damaged: expected an activation with its name, got {str(entry)[:100]}")
    if name != "leaky_relu":
        return known
    if type(entry["slope"]) is not float:
        refuse(f"damaged: expected the slope of leaky_relu, got {str(entry['slope'])[:100]}")
    try:
        return known.with_slope(entry["slope"])
    except ValueError as error:
        refuse(f"damaged: {error}")


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")
