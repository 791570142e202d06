"""What a run is asked: options, ``[tool.twinbench]``, waivers, and shards."""

import json
from pathlib import Path
from typing import Any

import pytest

from bench import policy_options
from bench.__main__ import main
from bench.plain.errors import CannotDo
from bench.sessions import plugin, settings
from bench.sessions.settings import SessionSettings
from tests.config import Config

from .conftest import Make


def declare(parser: Any) -> None:
    policy_options.add(parser)
    settings.add(parser)


def read(folder: Path, text: str = "", **given: Any) -> SessionSettings | None:
    (folder / "pyproject.toml").write_text(text)
    config: Any = Config(declare, folder, **given)
    asked = settings.read(config)
    if asked is not None:
        plugin._refuse_untimed(config)
    return asked


SECTION = """
[project]
name = "theirs"

[tool.twinbench]
base = "main..."
threshold = "3%"
budget = 7
undecided = "0%"
threads = 2

[[tool.twinbench.waiver]]
case = "benchmarks/test_f.py::test_f[big]"
ratio = 1.1
reason = "it copies now"
expires = 2999-01-01
"""


@pytest.fixture(autouse=True)
def _no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not of whoever runs these tests in parallel."""
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)


def test_the_section_says_what_the_options_do_not(tmp_path: Path) -> None:
    found = read(tmp_path, SECTION, gate=True)
    assert found is not None
    assert (found.base, found.threads) == ("main...", 2)
    assert (found.policy.threshold, found.policy.budget_s, found.policy.undecided) == (0.03, 7, 0)
    test = "benchmarks/test_f.py::test_f[big]"
    assert found.exceptions([test]).of(test).ratio == 1.1


def test_options_override_the_section(tmp_path: Path) -> None:
    found = read(tmp_path, SECTION, gate_base="v1", gate_threshold="8%", gate_threads="1")
    assert found is not None
    assert (found.base, found.policy.threshold, found.threads) == ("v1", 0.08, 1)
    alone = read(tmp_path, SECTION, gate_base_python="python")
    assert alone is not None
    assert alone.base is None  # the head's code, under another interpreter


def test_without_a_gate_option_nothing_is_asked_whatever_the_section_says(tmp_path: Path) -> None:
    assert read(tmp_path, SECTION) is None
    assert read(tmp_path, "[tool.twinbench]\nno_such_key = 1\n") is None


def test_a_file_of_its_own_is_read_in_place_of_the_section(tmp_path: Path) -> None:
    (tmp_path / "gate.toml").write_text('base = "v2"\n')
    found = read(tmp_path, SECTION, gate=True, gate_config=str(tmp_path / "gate.toml"))
    assert found is not None
    assert found.base == "v2"


def test_the_section_may_stand_above_pytest_s_root_up_to_the_root_of_the_repository(
    tmp_path: Path, repository: Make
) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.twinbench]\nbase = 'not of the repository'")
    theirs = repository({"pyproject.toml": "[tool.twinbench]\nbase = 'main'", "a/b/pyproject.toml": ""}).path
    found = read(theirs / "a" / "b", "[tool.another]", gate=True)
    assert found is not None
    assert found.base == "main"
    nearer = read(theirs / "a" / "b", "[tool.twinbench]\nbase = 'v1'", gate=True)
    assert nearer is not None
    assert nearer.base == "v1"
    (theirs / "pyproject.toml").write_text("")
    with pytest.raises(CannotDo, match=r"in \.\./\.\./pyproject\.toml names, and it names none"):
        read(theirs / "a" / "b", "[tool.another]", gate=True)
    (theirs / "pyproject.toml").write_text("[tool.twinbench]\nbas = 'main'")
    with pytest.raises(CannotDo, match=r"^\.\./\.\./pyproject\.toml, line 2: bas is no key of the gate"):
        read(theirs / "a" / "b", "[tool.another]", gate=True)


@pytest.mark.parametrize(
    ("text", "given", "said"),
    [
        ("", {"gate": True}, "--gate asks for the base that [tool.twinbench] in pyproject.toml names, and it names"),
        ("[tool.twinbench]\nbas = 'main'", {"gate": True}, "pyproject.toml, line 2: bas is no key of the gate: write"),
        ("[tool.twinbench]\nbase = []", {"gate": True}, "pyproject.toml, line 2: base: give one value"),
        ("[tool]\ntwinbench = 3", {"gate": True}, "write tool.twinbench as a table headed [tool.twinbench]"),
        ("[tool.twinbench]\nbase = 'x'\nthreads = 0", {"gate": True}, "--gate-threads=0: give a whole number"),
        ("[tool.", {"gate": True}, "pyproject.toml cannot be read"),
        ("", {"gate_base": "x", "gate_config": "none.toml"}, "--gate-config=none.toml is not there"),
        ("", {"gate_base": "x", "gate_shard": "3/2"}, "--gate-shard=3/2: give I/N"),
        ("", {"gate_shard": "1/2"}, "--gate-shard is about a comparison and none was asked for"),
        ("", {"gate_head": "v1"}, "--gate-head is about a comparison and none was asked for"),
        ("", {"gate_base_python": ""}, "--gate-base-python is empty: name an interpreter"),
        ("", {"gate_base": "x", "gate_threads": ""}, "--gate-threads=: give a whole number"),
        ("", {"gate_threads": ""}, "--gate-threads is about a comparison and none was asked for"),
        ("", {"gate_base": ""}, "--gate-base is empty: name a revision or a directory"),
        ("", {"gate_base": "x", "gate_threshold": "x"}, "--gate-threshold=x: give a percentage"),
        ("", {"gate_threshold": "2%"}, "--gate-threshold is about a comparison and none was asked for"),
        ("", {"gate_base": "x", "numprocesses": 2}, "timing under -n (pytest-xdist) measures the other workers"),
        ("", {"gate_base": "x", "dist": "load"}, "timing under -n (pytest-xdist) measures the other workers"),
        (
            "",
            {"gate_base": "x", "benchmark_disable": True},
            "leaves nothing to compare: add --benchmark-enable, or drop",
        ),
        ("", {"gate_base": "x", "benchmark_skip": True}, "leaves nothing to compare: drop --benchmark-skip, or drop"),
        ("", {"gate_base": "x", "benchmark_save": "y"}, "--benchmark-save and --gate-base are two kinds of compar"),
        ("", {"gate_base": "x", "plugins": ()}, "which is not loaded: add -p pytest_benchmark.plugin"),
        ("", {"gate_base": "x", "codspeed": True}, "--codspeed takes the place of pytest-benchmark, whose calls are"),
    ],
)
def test_what_makes_no_sense_is_one_sentence(tmp_path: Path, text: str, given: dict[str, Any], said: str) -> None:
    with pytest.raises(CannotDo) as refused:
        read(tmp_path, text, **given)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_an_expired_waiver_is_refused_where_it_is_written(tmp_path: Path) -> None:
    found = read(tmp_path, SECTION.replace("2999", "1999"), gate=True)
    assert found is not None
    with pytest.raises(CannotDo, match=r"^pyproject\.toml, line 16: the waiver of .* expired on 1999-01-01"):
        found.exceptions([])


MODULE = "def f(n):\n    return sum(range({factor} * n)) * 0\n"
TESTS = """
    import m

    def test_waived(benchmark):
        benchmark(m.f, 3000)

    def test_other(benchmark):
        benchmark(m.f, 3000)

    def test_third(benchmark):
        benchmark(m.f, 3000)
"""
WAIVER = """
    [tool.pytest.ini_options]
    [tool.twinbench]
    base = "main"
    [[tool.twinbench.waiver]]
    case = "*::test_waived"
    ratio = 5
    reason = "three times as much work"
    expires = 2999-01-01
"""


def test_waivers_annotations_and_shards_are_those_of_every_run(
    repository: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs = repository({"m.py": MODULE.format(factor=1), "conftest.py": "", "benchmarks/test_m.py": TESTS})
    theirs.write({"m.py": MODULE.format(factor=3), "pyproject.toml": WAIVER})
    parts, seen = [tmp_path / f"{index}.json" for index in (1, 2)], {}
    for index, path in enumerate(parts, 1):
        strict = ("--gate-threshold=50%", f"--gate-json={path}", "--gate-annotations")
        shard = theirs.pytest("benchmarks", "--gate", f"--gate-shard={index}/2", *strict, base=None)
        seen[index] = shard.output
    assert main(["merge", *map(str, parts)]) == 1
    assert "gate: FAIL (2 REGRESSED, 1 WAIVED)" in capsys.readouterr().out
    told = seen[1] + seen[2]
    assert told.count("::error file=benchmarks/test_m.py,line=") == 2
    assert "accepted up to half the threshold above 5 until 2999-01-01: three times as much work" in told
    assert "to reproduce it: pytest benchmarks/test_m.py::test_third --gate-threshold=50% --gate-base=" in told
    assert main(["merge", str(parts[0])]) == 4
    assert "1 of 2 shards missing: run shard 2/2 again" in capsys.readouterr().err
    empty = theirs.pytest("benchmarks", "--gate", "--gate-shard=4/4", f"--gate-json={parts[0]}", base=None)
    assert (empty.exit_code, json.loads(parts[0].read_text())["cases"]) == (0, []), empty.output
    assert "gate: EMPTY, shard 4/4 has no case to compare" in empty.output
