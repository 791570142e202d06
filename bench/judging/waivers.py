"""Slowdowns that are accepted and thresholds of single cases, bounded and for a time, from a TOML file. Pure."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from fnmatch import fnmatchcase
from math import inf
from pathlib import Path
from typing import Any

from ..plain.errors import CannotDo
from ..plain.toml import Toml
from .policy import OwnThreshold

WAIVERS = Path(__file__).parents[1] / "waivers.toml"

_WAIVER = {"case": str, "ratio": float, "reason": str, "expires": date}
_THRESHOLD = {"case": str, "threshold": float, "reason": str, "expires": date}


@dataclass(frozen=True)
class Waiver:
    """A slowdown of some cases to ``ratio`` (head/base, above 1) that is accepted, until the end of a day.

    The indifference zone begins half the threshold above ``ratio``, and not above 1.
    """

    case: str  # a pattern of case ids, as in a shell: sdpa-*-fp16-cpu-*
    ratio: float
    reason: str
    expires: date

    def __str__(self) -> str:
        return f"accepted up to half the threshold above {self.ratio:g} until {self.expires}: {self.reason}"


@dataclass(frozen=True)
class Threshold:
    """A threshold of some cases, instead of the run's, until the end of a day: 0.1 = 10%."""

    case: str
    threshold: float
    reason: str
    expires: date

    def __str__(self) -> str:
        return f"has its own threshold, {100 * self.threshold:g}% until {self.expires}: {self.reason}"


@dataclass(frozen=True)
class Exceptions:
    """All entries of the file; at most one of each kind matches a case."""

    waivers: tuple[Waiver, ...] = ()
    thresholds: tuple[Threshold, ...] = ()

    def waiver(self, case_id: str) -> Waiver | None:
        return next((w for w in self.waivers if _matches(case_id, w.case)), None)

    def threshold(self, case_id: str) -> OwnThreshold | None:
        return next((OwnThreshold(t.threshold, str(t)) for t in self.thresholds if _matches(case_id, t.case)), None)


def _matches(id_: str, pattern: str) -> bool:
    """Whether a pattern is the id itself, which may have brackets, or matches it as a shell's."""
    return id_ == pattern or fnmatchcase(id_, pattern)


def read(path: Path, known_ids: Collection[str], today: date) -> Exceptions:
    """Read the file of our own kernels; one that does not exist holds nothing.

    Raises:
        CannotDo: an entry is malformed, expired, matches no known case, or shares a case with another.

    """
    try:
        file = Toml.read(path)
    except FileNotFoundError:
        return Exceptions()
    if unknown := set(file.document) - {"waiver", "threshold"}:
        raise CannotDo(f"{path.name} has {', '.join(sorted(unknown))}: write [[waiver]] and [[threshold]] tables")
    return entries(file, known_ids, today)


def entries(file: Toml, known_ids: Collection[str], today: date, *, all_known: bool = True) -> Exceptions:
    """Read the waivers and thresholds of a file that may hold other things too.

    ``all_known``: an entry must match one of the known ids; otherwise there may be more than those.

    Raises:
        CannotDo: as ``read``; the message has file and line.

    """
    waivers = tuple(Waiver(**entry) for entry in _entries(file, "waiver", _WAIVER))
    thresholds = tuple(Threshold(**entry) for entry in _entries(file, "threshold", _THRESHOLD))
    for number, waiver in enumerate(waivers):
        if not 1 < waiver.ratio <= 10:
            raise CannotDo(
                f"{file.at('waiver', number, 'ratio')}: the waiver of {waiver.case!r} has ratio {waiver.ratio:g}: "
                "give head/base above 1 and at most 10, such as 1.1"
            )
    for number, entry in enumerate(thresholds):
        if not 0 < entry.threshold <= 1:
            raise CannotDo(
                f"{file.at('threshold', number, 'threshold')}: the threshold of {entry.case!r} is "
                f"{entry.threshold:g}: give a share above 0 and at most 1, such as 0.1 for 10%"
            )
    _check(file, "waiver", waivers, known_ids, today, all_known=all_known)
    _check(file, "threshold", thresholds, known_ids, today, all_known=all_known)
    return Exceptions(waivers, thresholds)


def _entries(file: Toml, kind: str, fields: Mapping[str, type]) -> list[dict[str, Any]]:
    tables = file.document.get(kind, [])
    if not isinstance(tables, list):
        raise CannotDo(f"{file.at(kind)}: write each {kind} as a table headed [[{kind}]]")
    return [_entry(file.at(kind, number), kind, table, fields) for number, table in enumerate(tables)]


def _entry(where: str, kind: str, entry: Any, fields: Mapping[str, type]) -> dict[str, Any]:
    seen = entry if isinstance(entry, dict) else {}
    values: dict[str, Any] = {name: _as_float(v) if type(v) is int else v for name, v in seen.items()}
    good = set(values) == set(fields) and all(type(values[name]) is kind_ for name, kind_ in fields.items())
    if not good or not values["reason"].strip():
        form = ", ".join(f"{name} ({kind_.__name__})" for name, kind_ in fields.items())
        raise CannotDo(f"{where}: a {kind} must give exactly {form}, none empty; saw {entry!r}")
    return values


def _as_float(number: int) -> float:
    """Read an int as a float; one that no float can hold becomes infinite, which is out of every range."""
    try:
        return float(number)
    except OverflowError:
        return inf


def _check(
    file: Toml,
    kind: str,
    given: Sequence[Waiver | Threshold],
    known_ids: Collection[str],
    today: date,
    *,
    all_known: bool,
) -> None:
    """Refuse entries that have expired, that match no case, and two for one case."""
    for number, entry in enumerate(given):
        if entry.expires < today:
            raise CannotDo(
                f"{file.at(kind, number, 'expires')}: the {kind} of {entry.case!r} expired on {entry.expires}: "
                "mend its cause, or renew it with a reason"
            )
        if all_known and not any(_matches(id_, entry.case) for id_ in known_ids):
            raise CannotDo(
                f"{file.at(kind, number, 'case')}: {entry.case!r} matches no case: correct it, or remove the entry"
            )
    for id_ in known_ids:
        matching = [entry.case for entry in given if _matches(id_, entry.case)]
        if len(matching) > 1:
            raise CannotDo(f"{file.path.name}: {' and '.join(map(repr, matching))} both match {id_}: keep one of them")
