"""The README's tables against the code."""

import re
from pathlib import Path
from typing import Any

import pytest

from bench import options
from bench.verdict import FAILING, Policy, Verdict

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")

DEFAULTS = {
    "--gate-base": "off",
    "--gate-threshold": f"{100 * Policy.threshold:g}%",
    "--gate-budget": f"{Policy.budget_s:g}",
    "--gate-strict": "off",
    "--gate-json": "off",
    "--gate-markdown": "off",
    "--gate-html": "off",
    "--gate-pairs": "off",
    "--tier": options.DEFAULT_TIER,
    "--device": options.DEFAULT_DEVICE,
    "--threads": str(options.DEFAULT_THREADS),
    "--shard": options.DEFAULT_SHARD,
    "--kernel": "none",
}


class Recorder:
    """Stands in for pytest's parser, and keeps the options that are declared."""

    def __init__(self) -> None:
        self.declared: dict[str, dict[str, Any]] = {}

    def getgroup(self, *_: str) -> "Recorder":
        return self

    def addoption(self, name: str, **settings: Any) -> None:
        self.declared[name] = settings


def declared() -> dict[str, dict[str, Any]]:
    recorder = Recorder()
    options.add(recorder)  # type: ignore[arg-type]  # it has what is used
    return recorder.declared


def rows() -> dict[str, str]:
    """The README's option table: option -> default."""
    found = re.findall(r"^\| `(--[\w-]+)[^|]*(?:\\\|[^|]*)*\| ([^|]+) \|", README, flags=re.MULTILINE)
    return {name: default.strip() for name, default in found}


def test_the_option_table_names_every_option_and_its_default() -> None:
    documented = {name: default for name, default in rows().items() if not name.startswith("--benchmark-")}
    assert documented == DEFAULTS
    assert set(declared()) == set(DEFAULTS)


@pytest.mark.parametrize("name", [name for name, value in DEFAULTS.items() if value not in ("off", "none")])
def test_the_help_states_the_default_of_the_readme(name: str) -> None:
    assert f"default {DEFAULTS[name]}" in declared()[name]["help"].replace("all that are present", "all")


def test_the_option_table_writes_each_option_s_values_as_the_help_does() -> None:
    for name, settings in declared().items():
        if "metavar" in settings:
            assert f"`{name}={settings['metavar']}".replace("|", r"\|") in README


def test_the_verdict_table_names_every_verdict_and_whether_it_fails() -> None:
    found = re.findall(r"^\| `([A-Z]+)` \| .* \| ([^|]+) \|$", README, flags=re.MULTILINE)
    assert [name for name, _ in found] == [verdict.value for verdict in Verdict]
    for name, fails in found:
        verdict = Verdict(name)
        expected = "yes" if verdict in FAILING else "with `--gate-strict`" if verdict is Verdict.INCONCLUSIVE else "no"
        assert fails == expected, name


def test_every_file_that_the_documents_name_exists() -> None:
    root = Path(__file__).parents[1]
    for document in ("README.md", "CONTRIBUTING.md"):
        for name in re.findall(r"`((?:attention|bench|tests)/[\w/.]*)`", (root / document).read_text()):
            assert (root / name).exists() or name == "attention/masked.py", name
