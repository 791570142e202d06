"""The image of twins that run pytest sessions: what both have in common before either imports its own code."""

from ..twins.fork import become_image
from . import twin  # noqa: F401  # with all that it imports

become_image()
