"""The machine: what a measurement depends on, described, fixed, or left to chance. Needs no torch."""

import ctypes
import mmap
import os
import platform
import random
from pathlib import Path

MOST_PAGES = 4096  # taken from the address space, and never touched
MOST_CLASSES = 2048  # numbered; the table has 4096 places (MCACHE_SIZE_EXP in CPython's typeobject.c)
# What OpenMP, BLAS, numexpr and libraries in Rust read when they are loaded; joblib sets the first six for its workers.
# Numba's variable is not among them: no test could set more threads without an error.
_THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "RAYON_NUM_THREADS",
    "POLARS_MAX_THREADS",
)
# glibc moves its mmap threshold at run time. So the same kernel may reuse its score buffer, or page-fault it in at
# every call, a factor of two. The parameters are those of malloc.h: threshold, trim, top pad.
_MALLOPT = ((-3, 1 << 30), (-1, 2**31 - 1), (-2, 64 << 20))


def thread_limits(threads: int) -> dict[str, str]:
    """Return the variables by which libraries start no more threads than the cores on which a process is timed.

    Two threads of OpenBLAS that share a core wait for each other: a product of 0.2 ms takes 23 ms.
    """
    return dict.fromkeys(_THREADS, str(threads))


def steady_allocator() -> str:
    """Fix glibc's malloc thresholds, before the first large tensor; returns whether that was done, in words."""
    if platform.libc_ver()[0] != "glibc":
        return "as found: not glibc"
    libc = ctypes.CDLL(None)
    done = all(libc.mallopt(parameter, value) == 1 for parameter, value in _MALLOPT)
    return "glibc thresholds fixed" if done else "as found: mallopt refused"


def shuffle_memory() -> list[object]:
    """Move what this process will allocate, and the libraries that it will load; returns what has to be kept for that.

    Where memory lies depends on all that was imported before, in twins of one image in the same way each time. So code
    that is not called can make a call some percent slower; a second pair of twins must not find the same places. The
    heap is filled with objects of random sizes, of which every other is freed; a random number of pages is taken from
    the address space; and a random number of classes is numbered, since CPython finds attributes in a table by the
    number of the class, where two that are used together may take each other's place.
    """
    own = random.Random()  # tests may draw from the module's generator, which is the same in all twins
    held = [bytes(own.randrange(512)) for _ in range(own.randrange(1000, 20000))]
    own.shuffle(held)
    for _ in range(own.randrange(MOST_CLASSES)):
        hasattr(type("Numbered", (), {}), "absent")
    return [*held[::2], mmap.mmap(-1, own.randrange(1, MOST_PAGES) * mmap.PAGESIZE)]


def describe_machine(allocator: str) -> dict[str, str | int]:
    """Describe the machine and the interpreter: every value is a plain string or number."""
    return {
        "cpu": cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        "os": platform.platform(),
        "libc": " ".join(platform.libc_ver()).strip() or "unknown",
        "malloc": allocator,
        "python": platform.python_version(),
    }


def cpu_model() -> str:
    """The processor's name as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
