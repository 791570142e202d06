"""Seeds the random generators of a twin: both sides are to draw the same numbers, though nobody has seeded them."""

import random
import sys
from zlib import crc32

_entropy = random.Random()  # in the place of the system's, by which NumPy seeds a new generator


def seed(key: str = "") -> None:
    """Seed the generators that Python, NumPy and torch share among all callers, if they are loaded.

    A new ``numpy.random.default_rng()`` then has the same numbers on both sides, too. With a ``key`` that
    only one side has, its numbers are its own.
    """
    number = crc32(key.encode())
    random.seed(number)
    if (numpy := sys.modules.get("numpy.random")) is not None:
        numpy.seed(number)
    if (new := sys.modules.get("numpy.random.bit_generator")) is not None:
        _entropy.seed(number)
        new.randbits = _entropy.getrandbits  # type: ignore[attr-defined]  # NumPy's own, under no public name
    if (torch := sys.modules.get("torch")) is not None:
        torch.manual_seed(number)
