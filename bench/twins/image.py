"""The image of the suite's own sides. The clock is bound before any side's code is imported."""

from ..timing.clock import Clock
from . import forked  # noqa: F401  # with all that it imports
from .fork import become_image

Clock.of("cpu")
become_image()
