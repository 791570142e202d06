"""The documents' tables and figures against the code, and the ways between the pages."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from attention import KERNELS
from bench import options, policy_options
from bench.judging import fingerprint_diff
from bench.judging.policy import Policy
from bench.judging.statistics import least_agreeing
from bench.judging.verdict import Verdict
from bench.observing import drift, tolerance
from bench.plain import arguments
from bench.plain.arguments import DEFAULT_THREADS
from bench.report.text import legend
from bench.suite import ceiling
from bench.timing.budget import SHARE
from bench.timing.clock import RECOVERY_S, RETAKES, SLOW_CLOCK
from bench.timing.measure import BURST_NS, BURST_RESOLUTIONS
from bench.twins.bursts import BURST_PAIRS, MOST_PAIRS

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "bench" / "docs"
README = (ROOT / "README.md").read_text(encoding="utf-8")
OPTIONS, VERDICTS, MATRIX, CI, OUTSIDE = (
    (DOCS / f"{name}.md").read_text(encoding="utf-8") for name in ("OPTIONS", "VERDICTS", "MATRIX", "CI", "OUTSIDE")
)

DEFAULTS = {
    "--gate-base": "off",
    "--gate-base-python": "off",
    "--gate-config": "off",
    "--gate-threshold": f"{100 * Policy.threshold:g}%",
    "--gate-budget": f"{Policy.budget_s:g}",
    "--gate-host-threshold": f"{100 * Policy.host_threshold:g}%",
    "--gate-graphs": "off",
    "--gate-undecided": policy_options.DEFAULT_UNDECIDED,
    "--gate-json": "off",
    "--gate-markdown": "off",
    "--gate-html": "off",
    "--gate-pairs": "off",
    "--gate-annotations": "off",
    "--tier": options.DEFAULT_TIER,
    "--device": options.DEFAULT_DEVICE,
    "--threads": str(DEFAULT_THREADS),
    "--shard": arguments.DEFAULT_SHARD,
    "--kernel": "none",
    "--source": "none",
}


class Declared:
    """Stands in for pytest's parser, and keeps the options that are declared."""

    def __init__(self) -> None:
        self.options: dict[str, dict[str, Any]] = {}

    def getgroup(self, *_: str) -> "Declared":
        return self

    def addoption(self, name: str, **settings: Any) -> None:
        self.options[name] = settings


def declared() -> dict[str, dict[str, Any]]:
    parser = Declared()
    options.add(parser)  # type: ignore[arg-type]  # it has what is used
    return parser.options


def rows() -> dict[str, str]:
    """The option table: option -> default."""
    found = re.findall(r"^\| `(--[\w-]+)[^|]*(?:\\\|[^|]*)*\| ([^|]+) \|", OPTIONS, flags=re.MULTILINE)
    return {name: default.strip() for name, default in found}


def test_the_option_table_names_every_option_and_its_default() -> None:
    documented = {name: default for name, default in rows().items() if not name.startswith("--benchmark-")}
    assert documented == DEFAULTS
    assert set(declared()) == set(DEFAULTS)


@pytest.mark.parametrize("name", [name for name, value in DEFAULTS.items() if value not in ("off", "none")])
def test_the_help_states_the_default_of_the_table(name: str) -> None:
    assert f"default {DEFAULTS[name]}" in declared()[name]["help"].replace("all that are present", "all")


def test_the_option_table_writes_each_option_s_values_as_the_help_does() -> None:
    for name, settings in declared().items():
        if "metavar" in settings:
            assert f"`{name}={settings['metavar']}".replace("|", r"\|") in OPTIONS


def test_the_verdict_table_names_every_verdict_and_whether_it_fails() -> None:
    found = re.findall(r"^\| `([A-Z]+)` \| .* \| ([^|]+) \|$", VERDICTS, flags=re.MULTILINE)
    assert [name for name, _ in found] == [verdict.value for verdict in Verdict]
    for name, fails in found:
        verdict = Verdict(name)
        undecided = {Verdict.INCONCLUSIVE: "no; too many are exit code 4"}
        expected = undecided.get(verdict, "yes" if verdict.fails else "no")
        assert fails == expected, name


def test_the_kernel_table_names_every_kernel() -> None:
    table = MATRIX.split("| kernel | what it is |")[1].split("\n\n")[0]
    names = {name for row in table.splitlines()[2:] for name in re.findall(r"`(\w+)`", row.split("|")[1])}
    assert names == set(KERNELS)


def _page(name: str) -> str:
    """Return a page of the documentation without its line breaks."""
    return " ".join((DOCS / name).read_text(encoding="utf-8").split())


def test_the_figures_of_the_rule_are_those_of_the_code() -> None:
    method, gpu = _page("METHOD.md"), _page("GPU.md")
    policy = Policy()
    assert f"(1 + {SHARE:g} n)" in OPTIONS
    assert f"at or below {policy.false_alarm:.1%}" in VERDICTS
    assert f"{100 * SHARE:g}% of it is each case's own" in method
    assert f"{policy.false_alarm:.1%} / number of cases" in method
    assert f"right together with probability {1 - policy.false_alarm:.1%}" in method
    assert f"each upper end by itself with {1 - policy.miss:.1%}" in method
    assert f"with probability at most {policy.miss:.1%}" in method
    assert f"at or below {policy.miss:.1%}" in VERDICTS
    assert legend(policy) in README
    agreeing = least_agreeing(policy.test(213).miss_level)
    assert f"at least {agreeing} observations" in method
    assert f"The first {agreeing} pairs of processes" in method
    assert f"an upper end takes {agreeing} pairs" in method
    assert f"at least {BURST_NS / 1e6:g} ms and at least {BURST_RESOLUTIONS} times" in method
    assert f"{policy_options.PROCESSES_BUDGET} times as much with `--gate-base-python`" in OPTIONS
    assert f"{BURST_PAIRS} pairs of bursts" in method
    assert f"when they are needed, at most {MOST_PAIRS}" in method
    retaken = f"is repeated after {1000 * RECOVERY_S:g} ms, at most {RETAKES} times"
    assert f"below {SLOW_CLOCK:.0%} of its default {retaken}" in gpu


def test_the_figures_of_the_error_rule_are_those_of_the_code() -> None:
    text = _page("NUMERICS.md")
    assert f"+ {drift.ULPS:g} ulp" in text
    assert f"plus {drift.RMS_ULPS:g} ulp" in text
    assert f"at least {drift.NOISE_ULPS:g} ulp of float32" in text
    assert f"c = {drift.FORWARD_FACTOR:g} for outputs, {drift.GRADIENT_FACTOR:g} for gradients" in text
    caps = {str(dtype).removeprefix("torch."): cap for dtype, cap in tolerance.CAPS.items()}
    assert f"fp32 {_power(caps['float32'][0])} (gradients {_power(caps['float32'][1])})" in text
    assert f"bf16 {_power(caps['bfloat16'][0])}, fp16 {_power(caps['float16'][0])}" in text


def test_the_figures_of_the_fingerprints_are_those_of_the_code() -> None:
    text = _page("FINGERPRINTS.md")
    assert (
        f"{100 * fingerprint_diff.PEAK_TOLERANCE:g}% plus {fingerprint_diff.PEAK_TOLERANCE_BYTES // 1024} KiB" in text
    )
    assert f"copy of {ceiling.COPY_BYTES['cpu'] >> 20} MiB, in {1000 * ceiling.SECONDS:g} ms each" in text


def _power(value: float) -> str:
    return f"{value:.0e}".replace("e-0", "e-")


def test_every_file_that_the_documents_name_exists() -> None:
    for document in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS.glob("*.md")):
        for name in re.findall(r"`((?:attention|bench|tests)/[\w/.]*)`", document.read_text()):
            assert (ROOT / name).exists(), f"{document.name}: {name}"


def test_every_link_between_the_documents_leads_somewhere() -> None:
    for document in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS.glob("*.md")):
        for link in re.findall(r"\]\(([^)#:]+)\)", document.read_text()):
            assert (document.parent / link).exists(), f"{document.name}: {link}"


def test_the_index_leads_to_every_page_and_every_page_leads_back() -> None:
    pages = {path.name for path in DOCS.glob("*.md")} - {"README.md"}
    assert set(re.findall(r"\]\(([\w-]+\.md)\)", (DOCS / "README.md").read_text())) == pages
    for name in pages - {"STUDY.md"}:  # that is as ``make study`` writes it
        assert "(README.md)" in (DOCS / name).read_text().splitlines()[0], name
    assert "(bench/docs/README.md)" in README


def test_the_readme_is_read_in_a_few_minutes() -> None:
    assert len(README.split()) <= 1400


def test_the_workflow_table_names_every_workflow() -> None:
    named = re.findall(r"^\| `([\w-]+\.yml)` \|", CI, flags=re.MULTILINE)
    folder = ROOT / ".github" / "workflows"
    assert sorted(named) == sorted(path.name for path in folder.iterdir())


def test_another_repository_s_ten_lines_give_inputs_that_the_workflow_has() -> None:
    (text,) = re.findall(r"```yaml\n(on: pull_request\n.*?)```", README, flags=re.DOTALL)
    assert len(text.splitlines()) == 10
    (job,) = yaml.safe_load(text)["jobs"].values()
    name = job["uses"].removeprefix("OWNER/SUITE/").removesuffix("@COMMIT")
    inputs = yaml.safe_load((ROOT / name).read_text())[True]["workflow_call"]["inputs"]
    required = {key for key, value in inputs.items() if value.get("required")}
    assert required <= set(job["with"]) <= set(inputs)
    for key in set(inputs) - set(job["with"]):
        assert f"`{key}`" in OUTSIDE


def test_the_examples_on_other_packages_give_options_that_there_are() -> None:
    given = re.findall(r"(--(?:gate-)?\w[\w-]*)", " ".join(re.findall(r"pytest SUITE.*?(?=\n\S)", _text(), re.DOTALL)))
    assert {"--kernel", "--source", "--gate-base", "--gate-base-python"} <= set(given) <= set(declared())


def _text() -> str:
    return (DOCS / "OUTSIDE.md").read_text(encoding="utf-8")


CHANGES = {
    "add a shape to the matrix": "suite/matrix.py",
    "add an axis to the covering arrays": "suite/covering.py",
    "hold outputs to a tighter budget": "observing/drift.py",
    "change the frozen yardstick": "suite/naive.py",
    "add a rule to a kernel's contract": "suite/rules.py",
    "recognise another signature of kernels": "suite/signatures.py",
    "allow another key in a repository's own file": "suite/config.py",
    "record another fact of a call": "plain/execution.py",
    "say that a fact makes a case CHANGED": "judging/fingerprint_diff.py",
    "change when a case is certain": "judging/statistics.py",
    "replicate more slowdowns": "judging/replication.py",
    "change which verdict a case gets": "judging/judge.py",
    "add a warning for a noisy machine": "judging/advice.py",
    "time calls by another clock": "timing/clock.py",
    "change how a pair is taken": "timing/measure.py",
    "let the base see another file of its checkout": "sources/world.py",
    "refuse a revision in git's words": "sources/repository.py",
    "compare results of another type in any benchmark": "sessions/difference.py",
    "add a column to the HTML report": "report/as_html.py",
    "add a format of reports": "report/formats.py",
    "add an option": "options.py",
    "plant another fault in the self-test": "selftest/faults.py",
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_guide_names_the_file_of_each_change_a_newcomer_may_want(change: str) -> None:
    guide = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    file = ROOT / "bench" / CHANGES[change]
    assert file.is_file()
    assert f"`bench/{CHANGES[change]}`" in guide


def test_every_file_that_the_guide_names_is_there_and_every_room_is_in_its_map() -> None:
    guide = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = re.findall(r"`((?:bench|tests|attention)/[\w./]+)`", guide)
    assert [name for name in named if not (ROOT / name).exists()] == []
    rooms = {path.parent.name for path in (ROOT / "bench").glob("*/__init__.py")}
    assert [room for room in sorted(rooms) if f"  {room}/" not in guide] == []
