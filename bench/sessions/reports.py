"""Reads the reports of a test, as pytest serialises them."""

import errno
from collections.abc import Iterable, Mapping
from typing import Any

from ..twins.party import dumps

# What the system says of a port, a file or a lock that another process uses.
_IN_USE = frozenset({errno.EADDRINUSE, errno.EAGAIN, errno.EBUSY, errno.EEXIST, errno.ETXTBSY})


def error_of(reports: Iterable[Mapping[str, Any]]) -> str | None:
    """Return the line of the first failure that says what went wrong; None if nothing failed."""
    for report in reports:
        if report["outcome"] == "failed":
            return text_of(report)
    return None


def skip_of(reports: Iterable[Mapping[str, Any]]) -> str | None:
    """Return why a test was skipped, or failed as expected; None if it was not."""
    for report in reports:
        if report["outcome"] == "skipped":
            longrepr = report.get("longrepr")
            reason = longrepr[2] if isinstance(longrepr, (list, tuple)) and len(longrepr) == 3 else None
            said = str(reason if reason is not None else report.get("wasxfail") or "skipped")
            return said.removeprefix("Skipped: ")
    return None


def text_of(report: Mapping[str, Any]) -> str:
    """Return what went wrong, in one line."""
    longrepr = report.get("longrepr")
    if isinstance(longrepr, Mapping):
        crash = longrepr.get("reprcrash") or {}
        return str(crash.get("message") or "failed").partition("\n")[0]
    return error_line(str(longrepr or "failed"))


def error_line(text: str) -> str:
    """Return the line of a failure's text that names the error: pytest marks it by an E, else it is the last."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    marked = [line[1:].strip() for line in lines if line.startswith("E  ")]
    return (marked or lines or [text])[-1 if not marked else 0]


def is_in_use(error: BaseException | None) -> bool:
    """Whether an exception, or one that led to it, is about something that another process may use."""
    seen = set[int]()
    while error is not None and id(error) not in seen:
        if isinstance(error, OSError) and error.errno in _IN_USE:
            return True
        seen.add(id(error))
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return False


def without_what_cannot_be_sent(report: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what cannot go from one process to another: plugins add anything to a report."""
    return {name: value for name, value in report.items() if _can_be_sent(value)}


def _can_be_sent(value: object) -> bool:
    try:
        dumps(value)
    except Exception:  # noqa: BLE001  # whatever its class does
        return False
    return True
