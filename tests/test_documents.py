"""The documents' tables and figures against the code, and the ways between the pages."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from attention import KERNELS
from bench import options, policy_options
from bench.judging import fingerprint_diff
from bench.judging.policy import Policy
from bench.judging.replication import MOST_TWINS
from bench.judging.statistics import least_agreeing
from bench.judging.verdict import Verdict
from bench.observing import drift, tolerance
from bench.plain import arguments
from bench.plain.arguments import DEFAULT_THREADS
from bench.report.text import legend
from bench.sessions import settings as sessions_settings
from bench.suite import ceiling
from bench.timing.budget import ENOUGH_PAIRS, SHARE
from bench.timing.clock import RECOVERY_S, RETAKES, SLOW_CLOCK
from bench.timing.measure import BURST_NS, BURST_RESOLUTIONS
from bench.twins.between import BURST_PAIRS, MOST_PAIRS

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "bench" / "docs"
DOCUMENTS = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS.glob("*.md"))
README, GUIDE = (path.read_text(encoding="utf-8") for path in DOCUMENTS[:2])
OPTIONS, VERDICTS, MATRIX, CI, OUTSIDE = (
    (DOCS / f"{name}.md").read_text(encoding="utf-8") for name in ("OPTIONS", "VERDICTS", "MATRIX", "CI", "OUTSIDE")
)

# Section of OPTIONS.md -> the options that it has, with their defaults.
DEFAULTS = {
    "In every run": {
        "--gate-base": "off",
        "--gate-base-python": "off",
        "--gate-config": "off",
        "--gate-threshold": f"{100 * Policy.threshold:g}%",
        "--gate-budget": f"{Policy.budget_s:g}",
        "--gate-undecided": policy_options.DEFAULT_UNDECIDED,
        "--gate-json": "off",
        "--gate-markdown": "off",
        "--gate-html": "off",
        "--gate-pairs": "off",
        "--gate-annotations": "off",
    },
    "In this suite's own bench/": {
        "--gate-host-threshold": f"{100 * Policy.host_threshold:g}%",
        "--gate-graphs": "off",
        "--tier": options.DEFAULT_TIER,
        "--device": options.DEFAULT_DEVICE,
        "--threads": str(DEFAULT_THREADS),
        "--shard": arguments.DEFAULT_SHARD,
        "--kernel": "none",
        "--source": "none",
    },
    "In any other repository": {
        "--gate": "off",
        "--gate-head": "off",
        "--gate-shard": arguments.DEFAULT_SHARD,
        "--gate-threads": str(DEFAULT_THREADS),
        "--gate-slowed": "off",
    },
}


class Declared:
    """Stands in for pytest's parser and its groups, and keeps the options that are declared."""

    def __init__(self) -> None:
        self.options: dict[str, dict[str, Any]] = {}

    def getgroup(self, *_: str) -> "Declared":
        return self

    def addoption(self, name: str, **settings: Any) -> None:
        self.options[name] = settings


def declared(*parts: Callable[[Any], None]) -> dict[str, dict[str, Any]]:
    parser = Declared()
    for add in parts:
        add(parser)
    return parser.options


def documented() -> dict[str, dict[str, str]]:
    """Return the tables of options, but for pytest-benchmark's own: section -> option -> default."""
    row = re.compile(r"^\| `(--(?!benchmark)[\w-]+)[^|]*(?:\\\|[^|]*)*\| ([^|]+) \|", flags=re.MULTILINE)
    sections = re.split(r"^## ", OPTIONS, flags=re.MULTILINE)[1:]
    return {
        each.partition("\n")[0]: {name: default.strip() for name, default in row.findall(each)} for each in sections
    }


EVERY_OPTION = declared(options.add, sessions_settings.add)


def test_the_option_tables_name_every_option_where_it_belongs_and_its_default() -> None:
    assert documented() == DEFAULTS
    every_run, suite, elsewhere = DEFAULTS.values()
    assert declared(policy_options.add).keys() == every_run.keys()
    assert declared(options.add).keys() == every_run.keys() | suite.keys()
    assert declared(sessions_settings.add).keys() == elsewhere.keys()


def test_the_help_states_the_default_of_the_table() -> None:
    for name, default in {name: value for table in DEFAULTS.values() for name, value in table.items()}.items():
        if default not in ("off", "none"):
            said = EVERY_OPTION[name]["help"].replace("all that are present", "all").replace("%%", "%")
            assert f"default {default}" in said, name


def test_the_help_can_be_shown() -> None:
    for settings in EVERY_OPTION.values():
        assert settings["help"] % {}  # argparse formats it, so that a percentage needs two signs


def test_the_option_table_writes_each_option_s_values_as_the_help_does() -> None:
    for name, settings in EVERY_OPTION.items():
        if "metavar" in settings:
            assert f"`{name}={settings['metavar']}".replace("|", r"\|") in OPTIONS, name


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
    assert f"guaranteed {100 * SHARE:g}% of it" in method
    assert f"the time of {ENOUGH_PAIRS} pairs of calls" in method
    assert f"the time of {ENOUGH_PAIRS} pairs of calls" in OPTIONS
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
    assert f"At most {MOST_TWINS} are taken" in method
    assert f"a replication's {MOST_TWINS} pairs of twins" in _page("VERDICTS.md")
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
    on_cpu, on_cuda = (ceiling.COPY_BYTES[device] >> 20 for device in ("cpu", "cuda"))
    copied = f"copy of {on_cpu} MiB ({on_cuda} MiB on CUDA), in {1000 * ceiling.SECONDS:g} ms each"
    assert copied in text
    assert f"takes less than {1000 * fingerprint_diff.FIRST_CALL_S:g} ms more" in text


def _power(value: float) -> str:
    return f"{value:.0e}".replace("e-0", "e-")


def test_every_file_that_the_documents_name_exists() -> None:
    for document in DOCUMENTS:
        for name in re.findall(r"`((?:attention|bench|tests)/[\w/.]*)`", document.read_text()):
            assert (ROOT / name).exists(), f"{document.name}: {name}"


def test_every_link_between_the_documents_leads_somewhere() -> None:
    for document in DOCUMENTS:
        for link, anchor in re.findall(r"\]\(([^)#:]*)(?:#([^)]+))?\)", document.read_text()):
            target = document.parent / link if link else document
            assert target.exists(), f"{document.name}: {link}"
            assert not anchor or anchor in _anchors(target), f"{document.name}: {link}#{anchor}"


def _anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.*)", page.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


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
    (text,) = re.findall(r"```yaml\n(on: pull_request\n.*?)```", OUTSIDE, flags=re.DOTALL)
    assert len(text.splitlines()) == 10
    (job,) = yaml.safe_load(text)["jobs"].values()
    name = job["uses"].removeprefix("OWNER/SUITE/").removesuffix("@COMMIT")
    inputs = yaml.safe_load((ROOT / name).read_text())[True]["workflow_call"]["inputs"]
    required = {key for key, value in inputs.items() if value.get("required")}
    assert required <= set(job["with"]) <= set(inputs)
    for key in set(inputs) - set(job["with"]):
        assert f"`{key}`" in OUTSIDE


# Files that a newcomer looks for: to add or to change a shape, an axis, a budget, a rule, an option and so on.
SOUGHT = """
    suite/matrix.py suite/covering.py suite/naive.py suite/rules.py suite/signatures.py suite/config.py
    observing/drift.py plain/execution.py judging/fingerprint_diff.py judging/statistics.py judging/replication.py
    judging/judge.py judging/advice.py timing/clock.py timing/measure.py sources/world.py sources/repository.py
    sessions/difference.py report/as_html.py report/formats.py options.py selftest/faults.py
""".split()  # noqa: SIM905  # a list of words reads best as words


def test_the_guide_names_the_file_of_each_change_that_a_newcomer_may_want() -> None:
    assert [file for file in SOUGHT if not (ROOT / "bench" / file).is_file()] == []
    assert [file for file in SOUGHT if f"`bench/{file}`" not in GUIDE] == []


def test_every_room_is_in_the_guide_s_map() -> None:
    rooms = {path.parent.name for path in (ROOT / "bench").glob("*/__init__.py")}
    assert [room for room in sorted(rooms) if f"  {room}/" not in GUIDE] == []
