"""Accepted slowdowns, and thresholds of single cases, each with a bound and a last day, from a TOML file. Pure."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import date
from fnmatch import fnmatchcase
from pathlib import Path

from ..plain.errors import CannotDo
from ..plain.toml import Toml
from ..plain.typed import Unfit, typed
from .policy import Accepted

WAIVERS = Path(__file__).parents[1] / "waivers.toml"

KnownIds = Callable[[], Collection[str]]  # takes a while, so it is called only if there are entries


@dataclass(frozen=True)
class EntryKind:
    """A kind of entry: the key of its bound, which bounds make sense, and how a report shows one."""

    key: str
    above: float
    most: float
    form: str
    shown: Callable[[float], str]


KINDS = {
    "waiver": EntryKind(
        "ratio",
        1,
        10,
        "head/base above 1 and at most 10, such as 1.1",
        lambda ratio: f"accepted up to half the threshold above {ratio:g}",
    ),
    "threshold": EntryKind(
        "threshold",
        0,
        1,
        "a share above 0 and at most 1, such as 0.1 for 10%",
        lambda share: f"has its own threshold, {100 * share:g}%",
    ),
}


@dataclass(frozen=True)
class Entry:
    """A waiver or a threshold of some cases, until the end of a day.

    The ``bound`` of a waiver is the slowdown that it accepts, as head/base: the indifference zone begins half the
    threshold above that bound and not above 1. The ``bound`` of a threshold, 0.1 = 10%, takes the place of the run's.
    """

    case: str  # a pattern of case ids, as in a shell: sdpa-*-fp16-cpu-*
    bound: float
    said: str  # what reports say of it

    def covers(self, id_: str) -> bool:
        """Whether the pattern equals the id, which may have brackets, or matches it as a shell pattern does."""
        return id_ == self.case or fnmatchcase(id_, self.case)


@dataclass(frozen=True)
class Exceptions:
    """All entries of the file; at most one of each kind covers a case."""

    waivers: tuple[Entry, ...] = ()
    thresholds: tuple[Entry, ...] = ()

    def of(self, case_id: str) -> Accepted:
        """Return what is accepted of a case."""
        waiver, threshold = (
            next((entry for entry in given if entry.covers(case_id)), None) for given in (self.waivers, self.thresholds)
        )
        return Accepted(
            None if threshold is None else threshold.bound,
            None if threshold is None else threshold.said,
            1.0 if waiver is None else waiver.bound,
            None if waiver is None else waiver.said,
        )


def read(path: Path, known_ids: KnownIds, today: date, *, all_known: bool = True) -> Exceptions:
    """Read the file of our own kernels; one that does not exist holds nothing.

    Raises:
        CannotDo: as ``entries``.

    """
    try:
        file = Toml.read(path)
    except FileNotFoundError:
        return Exceptions()
    if unknown := set(file.document) - set(KINDS):
        raise CannotDo(f"{path.name} has {', '.join(sorted(unknown))}: write [[waiver]] and [[threshold]] tables")
    return entries(file, known_ids, today, all_known=all_known)


def entries(file: Toml, known_ids: KnownIds, today: date, *, all_known: bool = True) -> Exceptions:
    """Read the waivers and thresholds of a file that may hold other things too.

    ``all_known``: an entry must match one of the known ids; otherwise an entry may be for ids that are not known.

    Raises:
        CannotDo: an entry is malformed, expired, matches no known case, or shares a case with another; the message has
            file and line.

    """
    waivers, thresholds = (
        tuple(_entries(file, kind, known_ids, today, all_known=all_known)) for kind in ("waiver", "threshold")
    )
    return Exceptions(waivers, thresholds)


def _entries(file: Toml, kind: str, known_ids: KnownIds, today: date, *, all_known: bool) -> Iterator[Entry]:
    tables = file.document.get(kind, [])
    if not isinstance(tables, list):
        raise CannotDo(f"{file.at(kind)}: write each {kind} as a table headed [[{kind}]]")
    given = [_entry(file, kind, number, table, today) for number, table in enumerate(tables)]
    ids = known_ids() if given else ()
    for number, entry in enumerate(given):
        if all_known and not any(map(entry.covers, ids)):
            raise CannotDo(
                f"{file.at(kind, number, 'case')}: {entry.case!r} matches no case: correct it, or remove the entry"
            )
    for id_ in ids:
        matching = [repr(entry.case) for entry in given if entry.covers(id_)]
        if len(matching) > 1:
            raise CannotDo(f"{file.name}: {' and '.join(matching)} both match {id_}: keep one of them")
    yield from given


def _entry(file: Toml, kind: str, number: int, table: object, today: date) -> Entry:
    bounds = KINDS[kind]
    form = {"case": str, bounds.key: float, "reason": str, "expires": date}
    try:
        values = typed(form, table, f"the {kind}")
        if not values["reason"].strip():
            raise Unfit(f"the {kind} has an empty reason")  # noqa: TRY301  # one message for all
    except Unfit as error:
        named = ", ".join(f"{name} ({type_.__name__})" for name, type_ in form.items())
        raise CannotDo(f"{file.at(kind, number)}: {error}: give exactly {named}") from error
    case, bound, reason, expires = values.values()
    if not bounds.above < bound <= bounds.most:
        raise CannotDo(
            f"{file.at(kind, number, bounds.key)}: the {kind} of {case!r} has {bounds.key} {bound:g}: "
            f"give {bounds.form}"
        )
    if expires < today:
        raise CannotDo(
            f"{file.at(kind, number, 'expires')}: the {kind} of {case!r} expired on {expires}: "
            "fix its cause, or renew it with a reason"
        )
    return Entry(case, bound, f"{bounds.shown(bound)} until {expires}: {reason}")
