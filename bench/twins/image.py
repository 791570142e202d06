"""What all processes of a run have in common: imported once, by the server that forks them.

No thread is started here and no GPU is touched, since neither survives a fork. The clock is bound before any side's
code is imported, and the allocator is fixed before the first tensor.
"""

import gc
import os

from ..timing.clock import Clock
from ..timing.environment import steady_allocator
from . import forked  # noqa: F401  # with all that it imports

SERVER = os.getpid()

steady_allocator()
Clock.of("cpu")
gc.collect()
gc.freeze()
gc.disable()  # sides collect between cases
