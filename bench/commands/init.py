"""``python -m bench init PKG.MOD:FN``: writes a repository's first ``--gate-config``, with what its kernel serves."""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import Any

from ..plain.errors import CannotDo
from ..plain.files import write_atomically
from ..plain.printable import counted
from ..sources.target import Target, importable
from ..suite.cases import DTYPES, Case, Shape, lacks
from ..suite.covering import KERNEL_AXES, Covering, case_of, served
from ..suite.gate import Gate
from ..suite.matrix import Row, checked_rows, matrix
from ..suite.side import Side, load
from ..suite.sides import in_process
from ..timing import environment
from ..twins.party import SideFailed, Unsupported

DEFAULT_OUTPUT = "gate.toml"
EVERY = "full causal boolmask floatmask causalboolmask window16 causalwindow16"
PLAIN = "full causal"
# The timed rows that are tried. The suite's checked rows and its covering array come on top.
_Timed = partial(Row, masks=EVERY, dtypes="fp32 bf16", directions="fwd fwdbwd", subjects="kernels")
DRAFTS = (
    _Timed("smoke", "b1h4t64d64", dtypes=" ".join(DTYPES)),
    _Timed("smoke", "b2h4kv2t48d64"),
    _Timed("smoke", "b2h4t16k48d64", directions="fwd"),
    _Timed("smoke", "b1h8t1k256d64", masks=PLAIN, directions="fwd"),
    _Timed("smoke", "b1h4t64d64softcap2", masks=PLAIN),
    _Timed("smoke", "b1h4t64d64sinks", masks=PLAIN),
    _Timed("pr", "b1h8t128d64 b1h4kv2t128d128", masks=PLAIN),
    _Timed("pr", "b1h1t512d64", masks="causal"),
)


@dataclass(frozen=True)
class FoundRow:
    """A row of the words with which every case is right (None if no word is), and why other words were left out."""

    row: Row | None
    left_out: tuple[str, ...]


@dataclass(frozen=True)
class Failure:
    """Why a case fails; ``is_refusal``: the kernel says that it does not support the case."""

    text: str
    is_refusal: bool = False


@dataclass(frozen=True)
class FoundCovering:
    """A covering array of the words with which every case is right, and why other words were left out."""

    covering: Covering
    left_out: Mapping[str, str]


@dataclass(frozen=True)
class FoundChecked:
    """Dtypes of the suite's checked rows, None for their own, and the cases that are left out, each with why."""

    dtypes: str | None
    left_out: Mapping[str, str]


def add_command(commands: Any) -> None:
    """Declare ``init`` among the commands of the command line."""
    parser = commands.add_parser("init", help="write the first --gate-config for a kernel of another repository")
    parser.add_argument("kernel", metavar="PKG.MOD:FN", help="the kernel, as for --kernel")
    parser.add_argument("--source", action="append", default=[], metavar="NAME", help="as for pytest; repeatable")
    parser.add_argument("--output", default=DEFAULT_OUTPUT, metavar="FILE", help="where to (default %(default)s)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Try the kernel on small cases, and write a file with the rows for which its results are right.

    Raises:
        CannotDo: the file exists, or the kernel cannot be imported or is right in no case.

    """
    path = Path(options.output)
    if path.exists():
        raise CannotDo(f"{path} exists: edit it, or give another --output")
    target = Target((options.kernel,), tuple(options.source))
    environment.hold_still(threads=1)
    devices = environment.present_devices()
    with importable(path.resolve().parent):
        head = load(target, devices)
        found = [
            fitting(head, draft, devices) for draft in DRAFTS if _claimed(head, Shape.parse(draft.shapes.split()[0]))
        ]
        if not any(one.row for one in found):
            raise CannotDo(
                f"{options.kernel} is right in no case: {found[0].left_out[0]}: correct it, or name a wrapper of it"
            )
        covering = fitting_covering(head, devices)
        checked = fitting_checked(head, devices, next(one.row.dtypes for one in found if one.row))
    write_atomically(path, as_toml(target, found, checked, covering))
    print(
        f"wrote {path}: {counted(sum(one.row is not None for one in found), 'row')}; compare with "
        f"pytest {Path(__file__).parents[1]} --gate-config={path} --gate-base=REV-or-DIR"
    )


def _claimed(head: Side, shape: Shape) -> bool:
    """Whether some kernel supports the cap and the sinks that the shape asks for."""
    claims = [kernel.capabilities for kernel in head.kernels.values()]
    return (shape.softcap is None or any(c.softcap for c in claims)) and (
        not shape.sinks or any(c.sinks for c in claims)
    )


def fitting(head: Side, draft: Row, devices: Sequence[str]) -> FoundRow:
    """Keep the dtypes, then the directions, then the masks of a row with which every case is right.

    A dtype is tried with the first, plainest shape, direction and mask; a direction with the plainest shape and mask,
    in all dtypes that are kept; a mask with every shape, dtype and direction that is kept. The plainest mask is the
    first with which some dtype is right: a kernel may serve causal attention only, or windows only.
    """
    left_out: list[str] = []
    row = draft
    plainest = {axis: getattr(draft, axis).split()[0] for axis in ("shapes", "directions", "masks")}
    for mask, dtype in product(draft.masks.split(), draft.dtypes.split()):
        words: dict[str, Any] = plainest | {"masks": mask, "dtypes": dtype}
        if not any(_against(head, replace(draft, **words), devices)):
            plainest["masks"] = mask
            break
    for axis in ("dtypes", "directions", "masks"):
        kept = []
        for word in getattr(row, axis).split():
            words = plainest | {axis: word}
            against = next(_against(head, replace(row, **words), devices), None)
            kept += [word] if against is None else []
            left_out += [] if against is None else [f"{word}: {against}"]
        if not kept:
            return FoundRow(None, (f"{draft.shapes}: {left_out[0]}",))
        remaining: dict[str, Any] = {axis: " ".join(kept)}
        row = replace(row, **remaining)
        plainest = {} if axis == "directions" else plainest
    return FoundRow(row, tuple(left_out))


def fitting_checked(head: Side, devices: Sequence[str], dtypes: str) -> FoundChecked:
    """Find the cases of the suite's checked rows in which the kernel is wrong; ``dtypes`` are those that it takes.

    A kernel that does not take float32 has the rows in the first dtype that it takes.
    """
    own = None if "fp32" in dtypes.split() else dtypes.split(maxsplit=1)[0]
    rows = checked_rows() if own is None else tuple(replace(row, dtypes=own) for row in checked_rows())
    cases = (case for case, lacking in matrix(head.kernels, {}, None, devices, rows).items() if lacking is None)
    failed = ((case, next(_failures(head, case), None)) for case in cases)
    return FoundChecked(own, {case.words: why.text for case, why in failed if why is not None and not why.is_refusal})


def fitting_covering(head: Side, devices: Sequence[str]) -> FoundCovering | None:
    """Keep the words of the covering array with which the kernel is right, by themselves and beside others.

    If a case fails though none of its words fails by itself, the last word without which the case would pass is left
    out; this is repeated until no case fails. A case that the kernel refuses by ``NotImplementedError`` will be SKIPPED
    in a run, and is no reason to leave out a word.
    """
    (name, kernel), device = next(iter(head.kernels.items())), devices[0]

    @cache
    def tried(case: Case) -> Failure | None:
        lacking = lacks(kernel, case)
        return Failure(lacking, is_refusal=True) if lacking is not None else next(_failures(head, case), None)

    def failure(words: Mapping[str, str]) -> Failure | None:
        return tried(case_of(name, kernel, device, words))

    axes = dict(served(KERNEL_AXES, lambda words: failure(words) is None))
    if not axes:
        return None
    plainest = {axis: words[0] for axis, words in axes.items()}
    left_out = {
        word: why.text if (why := failure(plainest | {axis: word})) else "it fails only beside other words"
        for axis, words in KERNEL_AXES.items()
        for word in words
        if word not in axes[axis]
    }
    while True:
        covering = Covering("smoke", "kernels", tuple(axes.items()))
        failed = ((words, why) for words in covering.chosen(kernel, device) if (why := failure(words)) is not None)
        words, why = next(((words, why) for words, why in failed if not why.is_refusal), ({}, None))
        if why is None:
            return FoundCovering(covering, left_out)
        others = [axis for axis, word in words.items() if word != axes[axis][0]]
        if not others:
            return None
        # From the last axis: a kernel that is wrong in one layout must lose that layout, not its heads.
        guilty = next((axis for axis in others[::-1] if not failure({**words, axis: axes[axis][0]})), others[-1])
        left_out[words[guilty]] = why.text
        axes[guilty] = [word for word in axes[guilty] if word != words[guilty]]


def _against(head: Side, row: Row, devices: Sequence[str]) -> Iterator[str]:
    """Yield, for each case of a row that fails, why it fails."""
    for case, unsupported in matrix(head.kernels, {}, row.tier, devices, [row]).items():
        if unsupported is not None:
            yield unsupported
        else:
            yield from (failure.text for failure in _failures(head, case))


def _failures(head: Side, case: Case) -> Iterator[Failure]:
    try:
        errors = Gate(in_process(head)).check(case).errors
    except (SideFailed, Unsupported) as why:
        yield Failure(str(why).partition("\n")[0], isinstance(why, Unsupported))
    else:
        yield from (Failure(complaint) for error in errors for complaint in error.complaints)


def as_toml(target: Target, found: Sequence[FoundRow], checked: FoundChecked, covering: FoundCovering | None) -> str:
    """Return the text of the file; its comments say what was left out of a row, and why."""
    lines = [
        "# What the attention gate compares here: pytest SUITE/bench --gate-config=FILE. A row is every combination of",
        "# its words. Words for which the kernel failed are left out; the comment above a row says why.",
        f"kernels = [{', '.join(map(_quoted, target.kernels))}]",
        f"sources = [{', '.join(map(_quoted, target.sources))}]",
    ]
    for one in found:
        lines.append("")
        lines += [f"# without {why}" for why in one.left_out]
        if one.row is not None:
            keys = ("tier", "shapes", "masks", "dtypes", "directions")
            lines += ["[[row]]", *(f"{key} = {_quoted(getattr(one.row, key))}" for key in keys)]
            lines += [] if one.row.timed else ["timed = false"]
    lines += ["", "# The suite's rows that are checked and not timed."]
    lines += (
        ["# The kernel fails in the cases that are left out; each has the reason beside it."]
        if checked.left_out
        else []
    )
    lines += ["[checked]"] if checked.dtypes is None else ["[checked]", f"dtypes = {_quoted(checked.dtypes)}"]
    if checked.left_out:
        lines += ["without = [", *(f"  {_quoted(case)},  # {why}" for case, why in checked.left_out.items()), "]"]
    if covering is None:
        lines += ["", "# No [covering]: the kernel fails even with plain words, such as b1 h1 t17 d64."]
    else:
        axes = {axis: " ".join(filter(None, words)) for axis, words in covering.covering.axes}
        lines += ["", "# Every two words of different axes meet in a case that is checked and not timed."]
        lines += [f"# without {word}: {why}" for word, why in covering.left_out.items()]
        lines += ["[covering]", 'tier = "smoke"', *(f"{axis} = {_quoted(words)}" for axis, words in axes.items())]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return f'"{text}"'
