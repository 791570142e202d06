"""``--gate-config``: the kernels, sources and rows of another repository, in a TOML file that lies there."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from datetime import date
from itertools import combinations, product
from pathlib import Path
from typing import Any

from ..judging import waivers
from ..judging.waivers import Exceptions, KnownIds
from ..plain.errors import CannotDo
from ..plain.toml import Toml
from ..sources.target import Target
from .cases import DEVICES, DIRECTIONS, DTYPES, Case, Mask, Shape
from .covering import KERNEL_AXES, Covering, case_of
from .matrix import ROWS, TIERS, Row, Rows, checked_rows, without_coverings

TABLES = ("row", "waiver", "threshold")
SUBJECTS = ("kernels", "compiling", "variants", "modules", "fused")
DEFAULT_TIER = "pr"  # of a row that names none
_KERNEL = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")
_NAME = re.compile(r"[^\W\d]\w*")


@dataclass(frozen=True)
class GateConfig:
    """What the file says. If it names no rows, the suite's are used. Waivers are read from ``file`` later."""

    file: Toml
    target: Target
    own_rows: tuple[Row, ...]
    covering: Covering | None = None
    checked: tuple[Row, ...] = ()  # of the suite's

    @property
    def rows(self) -> Rows:
        rows: Rows = (*self.own_rows, *self.checked) or (ROWS if self.covering is None else without_coverings(ROWS))
        return rows if self.covering is None else (*rows, self.covering)

    @property
    def folder(self) -> Path:
        """The directory that the file lies in, from which its kernels are imported."""
        return self.file.path.resolve().parent

    def chosen(self, kernels: Sequence[str], sources: Sequence[str]) -> Target:
        """Return what is compared: what the command line names, or else the file.

        Raises:
            CannotDo: neither names a kernel.

        """
        if not (kernels or self.target.kernels):
            raise CannotDo(f"{self.file.name} names no kernels: give kernels = [...] there, or --kernel=PKG.MOD:FN")
        return Target(tuple(kernels) or self.target.kernels, tuple(sources) or self.target.sources)


def read(path: Path) -> GateConfig:
    """Read the file.

    Raises:
        CannotDo: there is none, or a key or value in it makes no sense; the message has file, line and key.

    """
    try:
        file = Toml.read(path)
    except FileNotFoundError as error:
        raise CannotDo(f"--gate-config={path} is not there: name a file that python -m bench init wrote") from error
    for key, value in file.document.items():
        if key not in {"kernels", "sources", "checked", "covering", *TABLES}:
            tables = value if isinstance(value, list) else [value]
            where = file.at(key) if any(isinstance(table, dict) for table in tables) else file.at(key=key)
            raise CannotDo(
                f"{where}: {key} is no key of a gate's file: write kernels, sources, [[row]], [checked], [covering], "
                "[[waiver]] and [[threshold]]"
            )
    kernels = _texts(file, "kernels", _KERNEL, "kernels as package.module:function")
    sources = _texts(file, "sources", _NAME, "top-level packages or modules by name")
    tables = file.document.get("row", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise CannotDo(f"{file.at('row')}: row: write each row as a table headed [[row]]")
    rows = tuple(_row(file, n, table) for n, table in enumerate(tables))
    covering = _covering(file, file.document["covering"]) if "covering" in file.document else None
    checked = _checked(file, file.document["checked"]) if "checked" in file.document else ()
    return GateConfig(file, Target(kernels, sources), rows, covering, checked)


def accepted(own: GateConfig | None, target: Target, known: KnownIds, *, all_known: bool = True) -> Exceptions:
    """Read which slowdowns are accepted, and the thresholds of single cases.

    Raises:
        CannotDo: an entry is refused, as by ``waivers.entries``.

    """
    today = date.today()  # noqa: DTZ011  # a day where the user is
    if own is not None:
        return waivers.entries(own.file, known, today, all_known=all_known)
    # The file of the suite is about its own kernels.
    return Exceptions() if target.kernels else waivers.read(waivers.WAIVERS, known, today, all_known=all_known)


def _texts(file: Toml, key: str, form: re.Pattern[str], kind: str) -> tuple[str, ...]:
    values = file.document.get(key, [])
    if not isinstance(values, list) or not all(isinstance(v, str) and form.fullmatch(v) for v in values):
        raise CannotDo(f"{file.at(key=key)}: {key}: give a list of {kind}; saw {values!r}")
    return tuple(dict.fromkeys(values))


def _row(file: Toml, number: int, table: dict[str, Any]) -> Row:
    """Read one row; the matrix must know every word in it."""
    for key, value in table.items():
        where = f"{file.at('row', number, key)}: {key}"
        if key not in {field.name for field in fields(Row)}:
            raise CannotDo(f"{where}: a row has {', '.join(field.name for field in fields(Row))}: remove it")
        if key in _SWITCHES:
            if not isinstance(value, bool):
                raise CannotDo(f"{where}: give true, or false{_SWITCHES[key]}; saw {value!r}")
            continue
        if not isinstance(value, str) or not value.split():
            raise CannotDo(f"{where}: give words in one text, such as {_EXAMPLES[key]!r}; saw {value!r}")
        for word in value.split() if key not in {"model", "without"} else ():
            _check_word(where, key, word)
    if "shapes" not in table:
        raise CannotDo(f"{file.at('row', number)}: shapes: a row needs some, such as {_EXAMPLES['shapes']!r}")
    if len(table.get("tier", DEFAULT_TIER).split()) != 1:
        raise CannotDo(f"{file.at('row', number, 'tier')}: tier: give one of {', '.join(TIERS)}")
    row = Row(**{**table, "tier": table.get("tier", DEFAULT_TIER).strip()})
    _check_without(f"{file.at('row', number, 'without')}: without", row.without.split(), [row], "this row")
    return row


def _checked(file: Toml, table: Any) -> tuple[Row, ...]:
    """Return the suite's checked rows, in other dtypes and without single cases where the table says so."""
    if not isinstance(table, dict) or table.keys() - {"dtypes", "without"}:
        raise CannotDo(f"{file.at('checked')}: checked: write a table headed [checked], with dtypes and without")
    rows = checked_rows()
    if "dtypes" in table:
        where = f"{file.at('checked', key='dtypes')}: dtypes"
        if not isinstance(table["dtypes"], str) or not table["dtypes"].split():
            raise CannotDo(f"{where}: give words in one text, such as 'bf16 fp16'; saw {table['dtypes']!r}")
        for word in table["dtypes"].split():
            _check_word(where, "dtypes", word)
        rows = tuple(replace(row, dtypes=table["dtypes"]) for row in rows)
    without = table.get("without", [])
    _check_without(f"{file.at('checked', key='without')}: without", without, rows, "the suite's checked rows")
    return tuple(replace(row, without=" ".join(without)) for row in rows)


def _check_without(where: str, without: Any, rows: Sequence[Row], of: str) -> None:
    known = {case.words for row in rows for case in replace(row, without="").cases([("", object())], DEVICES)}
    if not isinstance(without, list) or (unknown := [case for case in without if case not in [*known]]):
        seen = without if not isinstance(without, list) else unknown[0]
        raise CannotDo(f"{where}: list cases of {of}, such as {min(known)!r}; saw {seen!r}")


def _covering(file: Toml, table: Any) -> Covering:
    """Read the words of the covering array; an axis that is not named has the suite's."""
    where = file.at("covering")
    if not isinstance(table, dict) or not all(isinstance(words, str) for words in table.values()):
        raise CannotDo(f"{where}: covering: write a table headed [covering], with words in one text for each axis")
    axes = dict(KERNEL_AXES)
    plainest = {axis: words[0] for axis, words in axes.items()}
    for key, value in table.items():
        where = f"{file.at('covering', key=key)}: {key}"
        if key not in {"tier", *axes}:
            raise CannotDo(f"{where}: [covering] has tier, {', '.join(axes)}: remove it")
        if key == "tier":
            _check_word(where, key, value)
            continue
        axes[key] = tuple(value.split()) if plainest[key] else ("", *value.split())
        if not axes[key]:
            raise CannotDo(f"{where}: give words in one text, such as {' '.join(KERNEL_AXES[key])!r}")
    for (one, words), (other, others) in combinations(axes.items(), 2):
        for word, another in product(words, others):
            try:
                Case.parse(case_of("kernel", object(), "cpu", plainest | {one: word, other: another}).id, ())
            except ValueError as error:
                key = one if one in table and word not in KERNEL_AXES[one] else other
                raise CannotDo(f"{file.at('covering', key=key)}: {key}: {error}") from error
    return Covering(table.get("tier", DEFAULT_TIER), "kernels", tuple(axes.items()))


_CHOICES = {"tier": TIERS, "dtypes": tuple(DTYPES), "directions": DIRECTIONS, "subjects": SUBJECTS, "devices": DEVICES}
_SWITCHES = {"timed": " for cases that are only checked", "small": ""}
_EXAMPLES = {
    "tier": "pr",
    "shapes": "b1h8t512d64 b1h8kv2t1k1024d64",
    "masks": "full causal",
    "dtypes": "fp32 bf16",
    "directions": "fwd fwdbwd",
    "subjects": "kernels",
    "devices": "cpu cuda",
    "model": "Llama 3.1 8B",
    "without": "b1h8t512d64-full-fp32-fwd",
}


def _check_word(where: str, key: str, word: str) -> None:
    try:
        if key in _CHOICES:
            if word not in _CHOICES[key]:
                raise ValueError(f"it is made of {', '.join(_CHOICES[key])}; saw {word!r}")  # noqa: TRY301  # one message
        else:
            (Shape if key == "shapes" else Mask).parse(word)
    except ValueError as error:
        raise CannotDo(f"{where}: {error}") from error
