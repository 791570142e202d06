"""The commands that reproduce and explain a failing case."""

from collections.abc import Sequence
from shlex import join

from ..judging.verdict import CaseResult, Verdict
from .text import subject

# The options that a run may name to be repeated by, and what is done with each where a case is explained: it is passed
# on, or not needed. The others ask for what ``explain`` does not show.
OPTIONS = {
    "--tier": "not needed",
    "--threads": "passed on",
    "--gate-threshold": "not needed",
    "--kernel": "not shown",
    "--source": "not shown",
    "--gate-config": "not shown",
    "--gate-base-python": "not shown",
    "--gate-graphs": "not needed",
    "--gate-base": "passed on",
    "--benchmark-compare": "not needed",  # it takes the latest baseline, too
    "--benchmark-compare=": "not shown",
}
LONGEST = 1000  # characters of a command; one that is cut off would do something else
_ALONE = (Verdict.ERROR, Verdict.DRIFTED, Verdict.REGRESSED, Verdict.CHANGED, Verdict.INCONCLUSIVE)


def commands(case: CaseResult, options: Sequence[str]) -> dict[str, str]:
    """Return the commands by what they do, to be pasted into a shell, whatever case and options hold.

    There are none where nothing can be repeated: the case is gone or no case, or the run does not say its options.
    """
    if case.verdict not in _ALONE or subject(case.id) == case.id or not options:
        return {}
    found = {"reproduce": join(["pytest", "bench/", "-k", f"[{case.id}]", *options])}
    uses = {option: OPTIONS[_name(option)] for option in options}
    if "not shown" not in uses.values():
        passed = [option for option, use in uses.items() if use == "passed on"]
        found["explain"] = join(["python", "-m", "bench", "explain", *passed, case.id])
    return {what: text for what, text in found.items() if text.isprintable() and len(text) <= LONGEST}


def known(option: str) -> bool:
    """Whether a run may name this option."""
    return _name(option) in OPTIONS


def _name(option: str) -> str:
    name, equals, _ = option.partition("=")
    return f"{name}{equals}" if f"{name}{equals}" in OPTIONS else name
