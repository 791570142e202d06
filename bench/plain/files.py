"""Writes files atomically: a run that is killed leaves the old file or the new one; and makes way for files."""

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import CannotDo

TEMPORARY = ".unfinished-"  # not made of the file's name, which may be as long as names can be


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write text (UTF-8) or bytes to path through a temporary file beside it; its folder is made if need be.

    A link stays a link, and its target is written. A device or a pipe, such as /dev/stdout, is written to directly,
    since replacing it would destroy it. Lone surrogates, which a message from outside may hold, are escaped.

    Raises:
        CannotDo: it cannot be written.

    """
    data = content if isinstance(content, bytes) else content.encode("utf-8", errors="backslashreplace")
    with _refusals(path):
        if _is_device(path):
            path.write_bytes(data)
            return
        target = Path(os.path.realpath(path))
        handle, name = tempfile.mkstemp(dir=_folder(target), prefix=TEMPORARY)
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.chmod(0o666 & ~_umask())  # mkstemp makes a private file
            temporary.replace(target)
        except BaseException:
            temporary.unlink()
            raise


def check_writable(path: Path) -> None:
    """Make sure that a file can be written, before the work whose result it will hold; its folder is made.

    Raises:
        CannotDo: it could not.

    """
    with _refusals(path):
        if not _is_device(path):
            target = Path(os.path.realpath(path))
            with suppress(FileNotFoundError):
                target.stat()  # such as a name that is too long
            with tempfile.NamedTemporaryFile(dir=_folder(target), prefix=TEMPORARY):
                pass


def make_way(path: Path, root: Path) -> None:
    """Make the folders of a path below ``root``, and remove the link, file or folder that stands at the path.

    A link or a file where a folder must be is removed too, so that whatever is written stays below ``root``.
    """
    for folder in reversed(path.relative_to(root).parents[:-1]):
        if (root / folder).is_symlink() or not (root / folder).is_dir():
            (root / folder).unlink(missing_ok=True)
            (root / folder).mkdir()
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def _refusals(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CannotDo(f"{path} cannot be written ({error.strerror}): choose another place") from error


def _is_device(path: Path) -> bool:
    """Whether the path is a device or a pipe; a folder is an error."""
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    return path.exists() and not path.is_file()


def _folder(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.parent


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
