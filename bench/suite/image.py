"""The image of the suite's own sides. The clock is bound before any side's code is imported."""

import torch.fx.experimental.symbolic_shapes  # noqa: F401  # as torch does at the first backward pass, in a third of a second

from ..timing.clock import Clock
from ..twins.fork import become_image
from . import forked  # noqa: F401  # with all that it imports

Clock.of("cpu")
become_image()
