"""The options that every run of the gate has, whatever it compares: how strictly, for how long, and what is written."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from .judging.policy import Policy
from .plain.arguments import PERCENT, PORTION, SECONDS
from .plain.errors import CannotDo

DEFAULT_UNDECIDED = "5%"
REPORTS = {
    "json": "write the verdicts as JSON",
    "markdown": "write the verdicts as Markdown",
    "html": "write the verdicts as one HTML page",
    "pairs": "write the raw pairs, for replay",
}
# Options that name something. An unset variable in a workflow leaves the name empty, which is refused.
NAMED = {
    "gate_base": "a revision or a directory",
    "gate_base_python": "an interpreter",
    "gate_config": "a TOML file",
} | {f"gate_{form}": "a file" for form in REPORTS}
# Options that say how to compare. Without a comparison they would do nothing, so they are refused.
COMPARING = (
    "gate_threshold",
    "gate_budget",
    "gate_undecided",
    "gate_annotations",
    *(f"gate_{form}" for form in REPORTS),
)
PROCESSES_BUDGET = 4  # times the default budget, where every pair is one of processes


def add(group: pytest.OptionGroup) -> None:
    """Declare them."""
    option = partial(declare, group)
    option("--gate-base", metavar="REV-or-DIR", help="compare with the code of a git revision or a directory")
    option("--gate-base-python", metavar="PATH", help="run the base with this interpreter and its packages")
    option("--gate-config", metavar="FILE", help="a TOML file with settings and waivers")
    option(
        "--gate-threshold", metavar="PERCENT", help=f"the slowdown that must not pass (default {Policy.threshold:.0%})"
    )
    option(
        "--gate-budget",
        metavar="SECONDS",
        help=f"the most time that one measurement may take (default {Policy.budget_s:g})",
    )
    may = f"how many of the timed cases may be INCONCLUSIVE (default {DEFAULT_UNDECIDED})"
    option("--gate-undecided", metavar="PERCENT", help=may)
    option("--gate-annotations", action="store_true", help="print GitHub Actions notes on the lines that fail")
    for form, what in REPORTS.items():
        option(f"--gate-{form}", metavar="PATH", help=what)


def declare(group: pytest.OptionGroup, name: str, *, help: str, **attributes: Any) -> None:  # noqa: A002  # argparse's
    """Declare an option; argparse formats its help by %, so that a percentage needs two."""
    group.addoption(name, help=help.replace("%", "%%"), **attributes)


def refuse_without_fixture(config: pytest.Config) -> None:
    """Refuse to run where pytest-benchmark, whose fixture is used, is not loaded or is replaced.

    Raises:
        CannotDo: it is so.

    """
    if not any(map(config.pluginmanager.has_plugin, ("benchmark", "pytest_benchmark.plugin"))):
        raise CannotDo("the gate needs pytest-benchmark, which is not loaded: add -p pytest_benchmark.plugin")
    if config.getoption("codspeed", None):
        raise CannotDo("--codspeed takes the place of pytest-benchmark, whose calls are compared: drop it")


def refuse_empty(config: pytest.Config, named: Mapping[str, str] = NAMED) -> None:
    """Refuse options without the name that they need.

    Raises:
        CannotDo: an option has an empty value.

    """
    for name, kind in named.items():
        value = config.getoption(name)
        if value == "" or (isinstance(value, list) and "" in value):
            raise CannotDo(f"{spelt(name)} is empty: name {kind}")


def refuse_alone(config: pytest.Config, names: tuple[str, ...] = COMPARING, *, instead: str) -> None:
    """Refuse options about a comparison where none was asked for; ``instead`` says how one is.

    Raises:
        CannotDo: there is such an option.

    """
    for name in names:
        if config.getoption(name) not in {None, False}:
            raise CannotDo(f"{spelt(name)} is about a comparison and none was asked for: add {instead}")


def policy(config: pytest.Config, written: Mapping[str, str] | None = None) -> Policy:
    """Read how strictly to judge.

    Options override what is ``written`` in a file by the same names, without ``--gate-``.

    Raises:
        CannotDo: a value makes no sense.

    """
    written = written or {}

    def given(name: str) -> str | None:
        value: str | None = config.getoption(f"gate_{name}")
        return written.get(name) if value is None else value

    asked, budget, undecided = given("threshold"), given("budget"), given("undecided")
    threshold = Policy.threshold if asked is None else PERCENT.read("--gate-threshold", asked)
    budgets = PROCESSES_BUDGET if config.getoption("gate_base_python") else 1
    return Policy(
        threshold,
        budgets * Policy.default_budget_s(threshold) if budget is None else SECONDS.read("--gate-budget", budget),
        undecided=PORTION.read("--gate-undecided", DEFAULT_UNDECIDED if undecided is None else undecided),
    )


def refuse_disabled(config: pytest.Config, what: str) -> None:
    """Refuse to do something while pytest-benchmark is told not to time.

    Raises:
        CannotDo: it is.

    """
    if (name := disabled_by(config)) is not None:
        instead = "add --benchmark-enable" if name == "--benchmark-disable" else f"drop {name}"
        raise CannotDo(f"{name} (given, or in addopts) leaves nothing to {what}: {instead}, or drop the comparison")


def disabled_by(config: pytest.Config) -> str | None:
    """Return the option by which pytest-benchmark was told not to time."""
    read = config.getoption
    if read("benchmark_skip"):
        return "--benchmark-skip"
    return "--benchmark-disable" if read("benchmark_disable") and not read("benchmark_enable") else None


def is_parallel(config: pytest.Config) -> bool:
    """Whether pytest-xdist shares the tests out over processes."""
    return config.getoption("dist", "no") != "no" or bool(config.getoption("numprocesses", None))


def reports(config: pytest.Config) -> dict[str, Path]:
    """Return the files to be written, by format."""
    return {form: Path(path) for form in REPORTS if (path := config.getoption(f"gate_{form}"))}


def spelt(name: str) -> str:
    """Return an option as it is written on the command line."""
    return f"--{name.replace('_', '-')}"
