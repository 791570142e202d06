"""The commands that reproduce and explain a failing case."""

from collections.abc import Mapping, Sequence
from shlex import join

from ..judging.verdict import CaseResult, Verdict
from ..plain.arguments import PROGRAM
from .text import subject

# The options by which a run may be repeated. ``explain`` is given some of them and does not need others; a run with one
# of the rest is a comparison that it cannot show.
OPTIONS = {
    "--tier": "not needed",
    "--threads": "passed on",
    "--gate-threshold": "not needed",
    "--gate-host-threshold": "not needed",
    "--kernel": "passed on",
    "--source": "passed on",
    "--gate-config": "passed on",
    "--gate-base-python": "not shown",
    "--gate-head": "not shown",
    "--gate-threads": "not shown",
    "--gate-graphs": "not needed",
    "--gate-base": "passed on",
    "--benchmark-compare": "not needed",  # without it, ``explain`` takes the latest baseline too
    "--benchmark-compare=": "not shown",
}
LONGEST = 1000  # characters; a longer command is left out, since part of one would do something else
_ALONE = (Verdict.ERROR, Verdict.DRIFTED, Verdict.REGRESSED, Verdict.CHANGED, Verdict.INCONCLUSIVE)


def commands(case: CaseResult, options: Sequence[str]) -> dict[str, str]:
    """Return the commands by what they do, quoted for a shell.

    There are none where nothing can be repeated: the case is gone, or the run does not say its options.
    """
    if case.verdict not in _ALONE or not options:
        return {}
    if "::" in case.id:
        return _printable({"reproduce": join(["pytest", case.id, *options])})
    if subject(case.id) == case.id:
        return {}
    found = {"reproduce": join(["pytest", "bench/", "-k", f"[{case.id}]", *options])}
    uses = {option: OPTIONS[_name(option)] for option in options}
    if "not shown" not in uses.values():
        passed = [option for option, use in uses.items() if use == "passed on"]
        found["explain"] = join([*PROGRAM.split(), "explain", *passed, case.id])
    return _printable(found)


def _printable(found: Mapping[str, str]) -> dict[str, str]:
    return {what: text for what, text in found.items() if text.isprintable() and len(text) <= LONGEST}


def known(option: str) -> bool:
    """Whether a run may be repeated by this option."""
    return _name(option) in OPTIONS


def _name(option: str) -> str:
    name, equals, _ = option.partition("=")
    return f"{name}{equals}" if f"{name}{equals}" in OPTIONS else name
