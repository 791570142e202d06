"""The image of twins that run pytest sessions: what both have in common before either imports its own code."""

from importlib import import_module

from _pytest.config import default_plugins

from ..twins.fork import become_image
from . import twin  # noqa: F401  # with all that it imports

for _name in default_plugins:  # which pytest would import in each twin
    import_module(f"_pytest.{_name}")
become_image()
