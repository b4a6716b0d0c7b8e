"""Tables of numbers in .csv files: reads them, and says on which line, as an editor counts, something is wrong."""

from __future__ import annotations

import csv
import warnings
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TextIO

import numpy as np


def read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read rows of numbers: all columns but the last, and the last; a first line whose last field is none holds names.

    Raises
    ------
    ValueError
        The file holds something else; says where.
    """
    with path.open(encoding="utf-8-sig") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # no rows: an error of its own, below
        try:
            _skip_names(file)
            table = np.loadtxt(file, delimiter=",", comments=None, quotechar='"', ndmin=2)
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}: {_encoding_fault(path.read_bytes(), error)}") from None
        except ValueError as error:
            raise ValueError(f"{path}: {_fault(file) or error}") from None
    if len(table) == 0 or table.shape[1] < 2:
        raise ValueError(f"{path}: expected rows of at least two columns, got shape {table.shape}")
    return table[:, :-1], table[:, -1]


def line_of(path: Path, row: int) -> tuple[int, int]:
    """Return the line that a row of the table, counted from 0, stands on, and how many columns it has."""
    with path.open(encoding="utf-8-sig") as file:
        line, fields = next(islice(_rows(file), row, None))
    return line, len(fields)


def _rows(file: TextIO) -> Iterator[tuple[int, list[str]]]:
    """Yield the line and the fields of every row; names and empty lines, which `numpy.loadtxt` passes, are none."""
    skipped = _skip_names(file)
    reader = csv.reader(file)
    try:
        for fields in reader:
            if fields:
                yield skipped + reader.line_num, fields
    except csv.Error as error:
        raise ValueError(f"line {skipped + reader.line_num}: {error}") from None


def _skip_names(file: TextIO) -> int:
    """Go to the start of the file, or past a line of names there; return how many lines that passes."""
    file.seek(0)
    if not _is_number(file.readline().rsplit(",", 1)[-1]):
        return 1
    file.seek(0)
    return 0


def _fault(file: TextIO) -> str | None:
    """Say what is wrong with the first bad line of a table, or return None if all is well."""
    columns = 0
    try:
        for line, fields in _rows(file):
            columns = columns or len(fields)
            if len(fields) != columns:
                return f"line {line}: expected {columns} columns as in the lines before, got {len(fields)}"
            for number, field in enumerate(fields, start=1):
                if not _is_number(field):
                    hint = "; classes are whole numbers 0, 1, 2, ..." if number == columns else ""
                    return f"line {line}, column {number}: expected a number, got {field!r}{hint}"
    except ValueError as error:
        return str(error)
    return None


def _encoding_fault(content: bytes, error: UnicodeDecodeError) -> str:
    """Say where in a file the byte stands that an error about some piece of the file is about."""
    place = content.index(error.object) + error.start
    line = len(content[: place + 1].splitlines())
    return f"line {line}: expected text in UTF-8, got the byte 0x{content[place]:02x}"


def _is_number(text: str) -> bool:
    try:
        float(text.strip().strip('"'))
    except ValueError:
        return False
    return "_" not in text  # which Python takes, NumPy does not
