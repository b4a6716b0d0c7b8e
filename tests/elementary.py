"""exp, log, log1p, tanh and sigmoid of _vector_math.h against exact values: the bounds, the judges, the points.

    python tests/elementary.py [build ...] [function ...]

takes every float and many doubles through every build that this CPU can run, and prints how far they are off; the
figures of docs/vector-math.md come from it.
A value v lies in an interval [2^e, 2^(e+1)) of the numbers of its type, which are one ulp apart there, 2^(e-23) or
2^(e-52), and never less than the smallest subnormal number.
"""

from __future__ import annotations

import decimal
import shutil
import sys
import tempfile
from decimal import Decimal
from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np

import fnn
from compiling import compiled

BOUNDS = {"exp": 1.1, "log": 0.9, "log1p": 1.1, "tanh": 2.7, "sigmoid": 2.5}  # ulp, of float and of double
EVERY = 4099  # floats between two that the tests take
DIGITS = decimal.Context(prec=60, Emax=decimal.MAX_EMAX, Emin=decimal.MIN_EMIN)
BITS = {np.dtype("f4"): np.dtype("i4"), np.dtype("f8"): np.dtype("i8")}


def builds() -> dict[str, str]:
    """Return the compiler's flags for every build that runs here, and for plain C; nothing where nothing compiles."""
    names = [name for name in fnn.available_backends() if name != "numpy"]
    march = {name: "" if name == "baseline" else f"-march={name}" for name in names}
    return march | {"plain C": "-DFNN_PLAIN_C"} if names else {}


def built(folder: Path, name: str, flags: str) -> ModuleType:
    """Build vector_math.pyx in a folder of its own under a name of its own."""
    source = folder / f"vector_math_{name.replace('-', '_').replace(' ', '_')}.pyx"
    shutil.copyfile(Path(__file__).with_name("vector_math.pyx"), source)
    return compiled(source, flags)


def values(module: ModuleType, function: str, x: np.ndarray) -> np.ndarray:
    """Return a function of an array of any length, whole vectors at a time."""
    padded = np.pad(x, (0, -len(x) % 16))
    out = np.empty_like(padded)
    module.apply(function, x.dtype == np.float32, out.ctypes.data, padded.ctypes.data, len(padded))
    return out[: len(x)]


# ---- Exact values, as a double and what it lacks, in its own ulps -------------------------------------------------


def ulp_of(v: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return the size of an ulp of a type where the values v lie."""
    info = np.finfo(dtype)
    exponent = np.where(v == 0, info.minexp, np.maximum(np.frexp(v)[1] - 1, info.minexp))
    return np.ldexp(1.0, exponent - info.nmant)


def in_double(function: str, x: np.ndarray) -> np.ndarray:
    """Return a function in the precision of x: of floats in double it is off by less than 2^-25 of a float's ulp."""
    one = x.dtype.type(1)
    if function == "sigmoid":
        e = np.exp(-np.abs(x))
        return np.where(x < 0, e, one) / (one + e)
    return getattr(np, function)(x)


def in_decimals(function: str, x: float) -> Decimal:
    """Return a function of a finite double to more than 40 digits."""
    d = Decimal(x if function in ("log", "log1p") else max(-2000.0, min(2000.0, x)))  # beyond, all ends are reached
    with decimal.localcontext(DIGITS):
        if function == "exp":
            return d.exp()
        if function == "log":
            return d.ln()
        if function == "sigmoid":
            return 1 / (1 + (-d).exp())
        if function == "log1p":  # near zero the series, to a relative x^4 / 5 < 10^-44
            return d * (1 - d * (Decimal(1) / 2 - d * (Decimal(1) / 3 - d / 4))) if abs(d) < 1e-11 else (1 + d).ln()
        e = (2 * d).exp()  # tanh; the series to a relative 2 x^4 / 15 < 10^-44
        return d - d**3 / 3 if abs(d) < 1e-11 else (e - 1) / (e + 1)


def exactly(function: str, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a function of floats or doubles in float64, and what it lacks, in ulps of float64 (of floats nothing)."""
    with np.errstate(all="ignore"):
        high = in_double(function, x.astype(np.float64))
    low = np.zeros_like(high)
    if x.dtype == np.float64:
        for i in np.flatnonzero(np.isfinite(x) & ~np.isnan(high) & (x != 0) & ~((x == -1) & (function == "log1p"))):
            exact = in_decimals(function, float(x[i]))
            high[i] = float(exact)
            if np.isfinite(high[i]):
                lack = DIGITS.subtract(exact, Decimal(float(high[i])))
                low[i] = float(DIGITS.divide(lack, Decimal(float(ulp_of(high[i], x.dtype)))))
    return high, low


def in_long_double(function: str, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the same by 80-bit arithmetic: faster, and off by 0.002 ulp where the type has 64 bits of mantissa."""
    with np.errstate(all="ignore"):
        exact = in_double(function, x.astype(np.longdouble))
        high = exact.astype(np.float64)
        return high, np.where(np.isfinite(high), (exact - high) / ulp_of(high, x.dtype), 0).astype(np.float64)


def ulps(got: np.ndarray, high: np.ndarray, low: np.ndarray) -> np.ndarray:
    """Return how many ulps `got` lies from high and what that lacks; infinity for a wrong sign, NaN or infinity."""
    info, value = np.finfo(got.dtype), got.astype(np.float64)
    with np.errstate(all="ignore"):
        beyond = np.abs(high) >= np.ldexp(1.0, info.maxexp)
        half = np.copysign(np.ldexp(1.0, info.maxexp - 1), value)  # where infinity may stand for 2^maxexp
        difference = np.where(np.isinf(value), 2 * (half - high / 2), value - high)
        off = np.abs(difference / ulp_of(high, got.dtype) - low)
    same = np.where(np.isnan(high), np.isnan(got), np.where(beyond, np.isinf(got), ~np.isnan(got)))
    same &= np.isnan(high) | (np.signbit(got) == np.signbit(high))
    return np.where(same, np.where(np.isnan(high) | beyond, 0, off), np.inf)


# ---- Where to look ------------------------------------------------------------------------------------------------


def edges(dtype: np.dtype) -> np.ndarray:
    """Return zeros, infinities, NaN and, of either sign, the 33 numbers around each where a function turns."""
    info, bits = np.finfo(dtype), BITS[np.dtype(dtype)]
    powers = 2.0 ** np.arange(-60, 61)
    turns = [
        *(0, info.max, info.smallest_normal, info.smallest_normal * 3, info.eps, info.eps**2),
        *(104, 89, 746, 710, 10, 20),  # the limits of exp and tanh, of either type
        *(np.log(float(info.max)), -np.log(info.smallest_normal), -np.log(float(info.smallest_subnormal))),
        *(np.log(2) * (np.arange(-3, 4) + 0.5)),  # where exp's n changes, then tanh's
        *(np.log(2) / 2 * (np.arange(-3, 4) + 0.5)),
        *(np.log(2) * (np.array([float(info.minexp), float(info.maxexp)]) - 0.5)),
        *powers,  # log1p's sums, also 1.5 powers, where it stops correcting; then log's and log1p's k
        *(1.5 * powers),
        *(np.sqrt(0.5) * powers),
        *(np.sqrt(0.5) * powers - 1),
    ]
    around = np.abs(np.array(turns, dtype)).view(bits)[:, None] + np.arange(-16, 17)
    near = np.unique(np.clip(around, 0, np.array(info.max, dtype).view(bits))).astype(bits).view(dtype)
    return np.concatenate([near, -near, np.array([np.inf, -np.inf, np.nan, -np.nan], dtype)])


@cache
def points(dtype: str) -> np.ndarray:
    """Return what the tests take: every 4099th float, or doubles of random bits and of sizes that matter; and edges."""
    if dtype == "float32":
        spread = np.arange(0, 2**32, EVERY, np.uint64).astype(np.uint32).view(np.float32)
    else:
        rng = np.random.default_rng(0)
        random = rng.integers(0, 2**64, 2000, np.uint64).view(np.float64)
        spread = np.concatenate([random, rng.uniform(-750, 715, 1000), rng.normal(0, 1, 2000), rng.uniform(0, 3, 1000)])
    return np.concatenate([spread, edges(np.dtype(dtype))])


@cache
def exact_points(function: str, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """Return a function of all points, computed once for all builds."""
    return exactly(function, points(dtype))


def check(module: ModuleType, function: str, dtype: str) -> None:
    """Assert that a function of a build keeps its bound at all points."""
    x = points(dtype)
    got = values(module, function, x)
    off = ulps(got, *exact_points(function, dtype))
    worst = np.argmax(off)
    assert off[worst] <= BOUNDS[function], f"{function}({x[worst]!r}) = {got[worst]!r} is off by {off[worst]:.3g} ulp"


def worst_of_floats(module: ModuleType, function: str) -> float:
    """Return how far a function is off over all floats; what is rounded right is off by half an ulp at most."""
    worst, size = 0.0, 1 << 16  # what stays in cache
    for start in range(0, 1 << 32, size):
        x = np.arange(start, start + size, dtype=np.uint64).astype(np.uint32).view(np.float32)
        got = values(module, function, x)
        with np.errstate(all="ignore"):
            exact = in_double(function, x.astype(np.float64))
            rounded = exact.astype(np.float32)
        wrong = (got.view(np.int32) != rounded.view(np.int32)) & ~(np.isnan(got) & np.isnan(rounded))
        if wrong.any():
            worst = max(worst, float(ulps(got[wrong], exact[wrong], np.zeros(wrong.sum())).max()))
    return worst


def worst_of_doubles(module: ModuleType, function: str) -> float:
    """Return how far a function is off over ten million doubles, of random bits and of sizes that matter."""
    worst = 0.0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        bits = rng.integers(0, 2**64, 20000, np.uint64).view(np.float64)
        x = np.concatenate([bits, rng.uniform(-750, 715, 20000), rng.normal(0, 1, 40000), rng.uniform(0, 3, 20000)])
        worst = max(worst, float(ulps(values(module, function, x), *in_long_double(function, x)).max()))
    return worst


def main() -> None:
    """Print how far functions of builds are off, those that are named on the command line or all."""
    functions = [name for name in BOUNDS if name in sys.argv] or list(BOUNDS)
    names = [name for name in builds() if name in sys.argv] or list(builds())
    with tempfile.TemporaryDirectory() as folder:
        for number, name in enumerate(names):
            home = Path(folder, str(number))
            home.mkdir()
            module = built(home, name, f"-O3 {builds()[name]}")
            for function in functions:
                floats, doubles = worst_of_floats(module, function), worst_of_doubles(module, function)
                print(f"{name:12} {function:8} float {floats:.3f}   double {doubles:.3f}", flush=True)


if __name__ == "__main__":
    main()
