"""Libraries that an installation may lack: an extra of the package brings each."""

from importlib.util import find_spec

from .errors import CannotDo


def require(library: str, user: str, extra: str) -> None:
    """Make sure that a library is there, before the work that ends with it; ``user`` is what needs it.

    Raises:
        CannotDo: it is not installed.

    """
    if find_spec(library) is None:
        raise CannotDo(f"{user} needs {library}, which is not installed: pip install 'twinbench[{extra}]'")
