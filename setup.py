"""Builds the compiled parts: one extension per instruction set from each of KERNELS, and _cpu.pyx.

FNN_REQUIRE_EXT=1 makes a failed build an error; without it the package installs and runs on NumPy, and a note says why.
FNN_CFLAGS holds flags for the compiler that come after all others.
"""

import multiprocessing
import os
import platform
import shutil
import sys
from itertools import product
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

REQUIRED = os.environ.get("FNN_REQUIRE_EXT") == "1"
SOURCE = Path("src/fnn")
LAST = os.environ.get("FNN_CFLAGS", "").split()
MSVC = sys.platform == "win32"
X86_64 = platform.machine().lower() in ("x86_64", "amd64") and not MSVC
LEVELS = {"baseline": []} | ({level: [f"-march={level}"] for level in ("x86-64-v3", "x86-64-v4")} if X86_64 else {})
OPTIMISE = ["/O2", "/std:c11"] if MSVC else ["-O3", "-g0", "-fno-math-errno", "-fno-trapping-math", "-Wno-psabi"]
if platform.machine().lower() in ("aarch64", "arm64") and not MSVC:
    # Else GCC moves a tile's loads ahead of its products, more than registers hold: 5 of 24 sums then live in memory.
    OPTIMISE.append("-fno-schedule-insns")


# The first includes the others.
SIMD = [
    "_simd.h",
    "_both_types.h",
    "_vector_math.h",
    "_formulas.h",
    "_dropout.h",
    "_tiles.h",
    "_sparse.h",
    "_online.h",
    "_group.h",
    "_narrow.h",
]
# Kernel sources: the headers they include, and flags of their own.  _pass.pyx rounds every operation by itself and
# needs little of SIMD.
KERNELS = {
    "_backprop": ([*SIMD, "_team.h", "_subnormals.h"], []),
    "_pass": ([*SIMD, "_pass.h"], [] if MSVC else ["-ffp-contract=off", "-Wno-unused-function"]),
}


def extensions():
    """One copy of each kernel source per level, so that Cython gives each build its own module name."""
    from Cython.Build import cythonize

    generated = Path("build/cython")
    generated.mkdir(parents=True, exist_ok=True)
    found = [Extension("fnn._cpu", [str(SOURCE / "_cpu.pyx")], extra_compile_args=LAST)]
    for (source, (headers, own)), (level, flags) in product(KERNELS.items(), LEVELS.items()):
        name = f"{source}_{level.replace('-', '_')}"
        copy = generated / f"{name}.pyx"
        shutil.copy2(SOURCE / f"{source}.pyx", copy)  # with its time: what has not changed is not built again
        wide = ["-mprefer-vector-width=512"] if level == "x86-64-v4" else []
        found.append(
            Extension(
                f"fnn.{name}",
                [str(copy)],
                include_dirs=[str(SOURCE)],
                depends=[str(SOURCE / header) for header in headers],
                extra_compile_args=OPTIMISE + own + flags + wide + LAST,
                extra_link_args=[] if MSVC else ["-pthread"],
            )
        )
    forks = multiprocessing.get_start_method() == "fork"  # a process of another kind would run this file again
    # What a copy includes is found, and its time looked at, where the kernel source lies.
    built = cythonize(
        found,
        build_dir=str(generated),
        language_level=3,
        include_path=[str(SOURCE)],
        nthreads=os.cpu_count() if forks else 0,
    )
    for extension in built:  # cythonize drops the flag, so it is set on what it returns
        extension.optional = not REQUIRED
    return built


class OptionalBuild(build_ext):
    """Builds what can be built; a failure leaves a note in the package instead of ending the installation."""

    def finalize_options(self):
        """Compile on all CPUs unless told otherwise."""
        super().finalize_options()
        self.parallel = self.parallel or os.cpu_count()

    def run(self):
        """Build all; the note of an earlier build goes first."""
        self.note = Path(self.get_ext_fullpath("fnn._cpu")).with_name("_build_note.txt")
        self.note.unlink(missing_ok=True)
        super().run()

    def build_extension(self, ext):
        """Build one; write down why it failed (setuptools goes on where the extension is optional)."""
        try:
            super().build_extension(ext)
        except Exception as error:
            self.note.parent.mkdir(parents=True, exist_ok=True)
            why = f"{type(error).__name__}: {error}"  # a compiler's command line is long
            self.note.write_text(why if len(why) <= 200 else f"{why[:80]} ... {why[-80:]}", encoding="utf-8")
            raise


setup(ext_modules=extensions(), cmdclass={"build_ext": OptionalBuild})
