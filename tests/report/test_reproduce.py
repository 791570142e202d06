"""The commands about a failing case: which options they have, which cases have them, and that they stay one command."""

import html
import json
import re
import shlex
from collections.abc import Callable
from dataclasses import replace

import pytest

from bench.judging.run import Run
from bench.judging.verdict import CaseResult, Verdict
from bench.plain.errors import CannotDo
from bench.plain.evidence import Evidence
from bench.report.annotations import as_annotations
from bench.report.as_html import as_html
from bench.report.as_json import as_json
from bench.report.as_markdown import as_markdown
from bench.report.from_json import from_json
from bench.report.reproduce import LONGEST, OPTIONS, commands, known
from bench.report.terminal import describe

ID = "sdpa-b1h4t64d32-full-fp32-cpu-fwd"
BASE = "--gate-base=1a2b3c4d5e6f"
AGAIN = f"pytest bench/ -k '[{ID}]' {BASE}"
EXPLAIN = f"python -m bench explain {BASE} {ID}"
HOSTILE = "sdpa`;$(rm -rf x)</code><script>'\"|&-b1-full-fp32-cpu-fwd"


def case(verdict: Verdict = Verdict.REGRESSED, name: str = ID) -> CaseResult:
    return CaseResult(Evidence(name), verdict, ("why",), ratio=1.2)


@pytest.fixture
def failing(make_run: Callable[..., Run]) -> Run:
    return replace(make_run(case()), options=(BASE,))


def test_a_case_is_compared_again_by_the_options_of_its_run_and_explained_by_those_that_matter() -> None:
    options = ("--tier=full", "--threads=2", "--kernel=a:b", "--source=a", "--gate-config=c.toml", BASE)
    matters = f"--threads=2 --kernel=a:b --source=a --gate-config=c.toml {BASE}"
    assert commands(case(), options) == {
        "reproduce": f"pytest bench/ -k '[{ID}]' --tier=full {matters}",
        "explain": f"python -m bench explain {matters} {ID}",
    }


@pytest.mark.parametrize("option", ["--gate-base-python=p", "--benchmark-compare=0001"])
def test_what_cannot_be_explained_is_reproduced_alone(option: str) -> None:
    assert list(commands(case(), (option,))) == ["reproduce"]
    assert list(commands(case(), ("--benchmark-compare",))) == ["reproduce", "explain"]


def test_there_are_none_for_a_case_that_is_gone_or_no_case_or_a_run_that_does_not_say_its_options() -> None:
    assert (
        commands(case(Verdict.MISSING), (BASE,)) == commands(case(name="mine"), (BASE,)) == commands(case(), ()) == {}
    )


def test_whatever_a_case_or_an_option_holds_a_command_has_the_words_that_were_meant() -> None:
    again = commands(case(name=HOSTILE), ("--gate-base=a b`c`",))
    assert shlex.split(again["reproduce"]) == ["pytest", "bench/", "-k", f"[{HOSTILE}]", "--gate-base=a b`c`"]
    assert shlex.split(again["explain"]) == ["python", "-m", "bench", "explain", "--gate-base=a b`c`", HOSTILE]


@pytest.mark.parametrize("name", ["a\nrm x", "a\u202eb", "x" * LONGEST])
def test_a_command_that_would_not_be_shown_as_it_is_is_left_out(name: str) -> None:
    assert commands(case(name=f"{name}-{ID}"), (BASE,)) == {}


def test_every_report_carries_them(failing: Run) -> None:
    for text in (describe(case(), failing.options), *as_annotations(failing, {})):
        assert f"to reproduce it: {AGAIN}" in text
        assert f"to explain it: {EXPLAIN}" in text
    assert f"```sh\n{AGAIN}\n{EXPLAIN}\n```" in as_markdown(failing)
    page = html.unescape(as_html(failing))
    assert (
        page.count(f"<code>{AGAIN}</code> <button") == page.count(f"<code>{EXPLAIN}</code> <button") == 2
    )  # card, row


def test_a_case_that_passes_carries_none(failing: Run) -> None:
    passing = replace(failing, cases=(case(Verdict.INCONCLUSIVE), case(Verdict.UNCHANGED, f"x{ID}")))
    assert "pytest bench/ -k" not in as_markdown(passing)
    assert "pytest bench/ -k" not in as_html(passing)


def test_hostile_text_ends_neither_the_block_nor_the_element(failing: Run) -> None:
    hostile = replace(failing, cases=(case(name=HOSTILE.replace("`", "`````")),))
    (fence,) = re.findall(r"^(`+)sh$", as_markdown(hostile), flags=re.MULTILINE)
    assert len(fence) == 6
    page = as_html(hostile)
    assert page.count("<script>") == 1
    assert page.count("</code>") == page.count("<code>")


def test_they_survive_a_file_and_none_but_known_options_is_read(failing: Run) -> None:
    assert as_markdown(from_json(as_json(failing))) == as_markdown(failing)
    assert all(known(option) for option in OPTIONS)
    for option in ("--gate-json=x", "-p evil", "--tiers=pr", ""):
        document = json.loads(as_json(failing))
        document["options"] = [option]
        with pytest.raises(CannotDo, match=r"document\.options should be options that repeat a case"):
            from_json(json.dumps(document))
