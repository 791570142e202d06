"""pytest's options that are numbers, read as those of the commands are."""

from typing import Any

import pytest

from bench import options
from bench.judging.policy import Policy
from bench.options import Settings
from bench.plain.errors import CannotDo
from bench.report.reproduce import known
from tests.config import Config


def settings(**given: Any) -> Settings:
    asked: Any = Config(options.add, **{"gate_base": "HEAD", "device": "cpu"} | given)
    return options.settings(asked)


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "1e99", "x", "", "5%%"])
@pytest.mark.parametrize("name", ["threads", "gate_threshold", "gate_budget"])
def test_a_senseless_number_is_refused_in_one_sentence(name: str, value: str) -> None:
    option = f"--{name.replace('_', '-')}"
    with pytest.raises(CannotDo, match=f"^{option}={value}: give a [^\n]*$"):
        settings(**{name: value})


ALONE = {"gate_base": None}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"gate_threshold": "0%"}, "--gate-threshold=0%: give a percentage from 0.1% to 1000%, such as 5%"),
        ({"gate_threshold": "0.05"}, "--gate-threshold=0.05: give a percentage from 0.1%"),
        ({"gate_threshold": "nan%"}, "--gate-threshold=nan%: give a percentage from 0.1%"),
        ({"gate_budget": "soon"}, "--gate-budget=soon: give a positive number of seconds, at most 86400"),
        ({"gate_budget": 400 * "9"}, "9: give a positive number of seconds, at most 86400"),
        ({"gate_undecided": "101%"}, "--gate-undecided=101%: give 0% or a percentage from 0.1% to"),
        ({"tier": "huge"}, "--tier=huge: choose one of smoke, pr, full"),
        ({"device": "tpu"}, "--device=tpu: choose one of cpu, cuda, all"),
        ({"threads": "10000"}, "--threads=10000: give a whole number from 1 to 9999"),
        ({"shard": "3/2"}, "--shard=3/2: give I/N with I from 1 to N, such as 2/3"),
        ({"shard": "0/2"}, "--shard=0/2: give I/N"),
        ({"shard": "1"}, "--shard=1: give I/N"),
        ({"benchmark_compare": True}, "both name a base: give one of them"),
        ({"benchmark_compare_fail": ["min:5%"]}, "judges stored times, which this machine cannot"),
        ({**ALONE, "gate_undecided": "0%"}, "--gate-undecided is about a comparison and none was asked for"),
        ({**ALONE, "gate_threshold": "5%"}, "--gate-threshold is about a comparison and none was asked for"),
        ({**ALONE, "gate_annotations": True}, "--gate-annotations is about a comparison and none was asked for"),
        ({**ALONE, "gate_json": "x.json"}, "--gate-json is about a comparison and none was asked for: add --benchm"),
        ({"gate_base": ""}, "--gate-base is empty: name a revision or a directory"),
        ({"gate_base_python": ""}, "--gate-base-python is empty: name an interpreter"),
        ({"gate_json": ""}, "--gate-json is empty: name a file"),
        ({"gate_markdown": ""}, "--gate-markdown is empty: name a file"),
        ({"gate_html": ""}, "--gate-html is empty: name a file"),
        ({"gate_pairs": ""}, "--gate-pairs is empty: name a file"),
        ({"gate_config": ""}, "--gate-config is empty: name a TOML file"),
        ({"benchmark_compare": ""}, "--benchmark-compare is empty: name a baseline, or leave out the = for the latest"),
        ({"benchmark_storage": ""}, "--benchmark-storage is empty: name a directory"),
        ({"kernel": [""]}, "--kernel is empty: name a kernel as package.module:function"),
        ({"source": ["a", ""]}, "--source is empty: name a package or module"),
    ],
)
def test_a_senseless_request_is_refused_in_one_sentence(given: dict[str, Any], said: str) -> None:
    with pytest.raises(CannotDo) as refused:
        settings(**given)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_cuda_without_a_cuda_device_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(
        CannotDo, match="^--device=cuda: torch sees only cpu here: run on a machine with such a device$"
    ):
        settings(device="cuda")


@pytest.mark.parametrize("text", ["5", "5%", "5.0%"])
def test_a_threshold_needs_no_percent_sign(text: str) -> None:
    assert settings(gate_threshold=text).policy == settings().policy


def test_a_twentieth_of_the_cases_may_be_undecided_or_as_many_as_was_asked_for_even_none() -> None:
    assert settings().policy.undecided == 0.05
    assert settings(gate_undecided="0%").policy.undecided == 0
    assert settings(gate_undecided="100").policy.undecided == 1


def test_graphs_are_replayed_on_a_gpu_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(options, "present_devices", lambda: ("cpu", "cuda"))
    graphs = settings(gate_graphs=True, device="cuda")
    assert graphs.graphs
    assert graphs.repeatable == ("--gate-base=HEAD", "--gate-graphs")
    assert all(map(known, graphs.repeatable))
    for device in ("cpu", "all"):
        with pytest.raises(CannotDo, match="^--gate-graphs replays calls on a GPU: add --device=cuda$"):
            settings(gate_graphs=True, device=device)


def test_the_host_has_a_threshold_where_a_gpu_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CannotDo, match="^--gate-host-threshold=20% is about calls on a GPU, and none is used"):
        settings(gate_host_threshold="20%")
    monkeypatch.setattr(options, "present_devices", lambda: ("cpu", "cuda"))
    found = settings(gate_host_threshold="20%", device="all")
    assert found.policy.host_threshold == 0.2
    assert found.policy.threshold == Policy.threshold
    assert found.repeatable == ("--gate-host-threshold=20%", "--gate-base=HEAD")
    assert all(map(known, found.repeatable))
    assert settings(device="cuda").policy.host_threshold == Policy.host_threshold == 0.1
    with pytest.raises(CannotDo, match="^--gate-host-threshold=0%: give a percentage"):
        settings(gate_host_threshold="0%", device="cuda")


def test_a_case_is_repeated_by_what_was_asked_for_and_no_defaults() -> None:
    assert settings().repeatable == ("--gate-base=HEAD",)
    asked = {"tier": "full", "threads": "2", "gate_threshold": "2", "gate_base_python": "python", "device": "cpu"}
    assert settings(**asked).repeatable == (
        "--tier=full",
        "--threads=2",
        "--gate-threshold=2%",
        "--gate-base-python=python",
        "--gate-base=HEAD",
    )
    stored = settings(gate_base=None, benchmark_compare=True, kernel=["a:b"], source=["c"])
    assert stored.repeatable == ("--kernel=a:b", "--source=c", "--benchmark-compare")
    assert settings(gate_base=None, benchmark_compare="0001").repeatable == ("--benchmark-compare=0001",)
    assert all(known(option) for option in (*settings(**asked).repeatable, *stored.repeatable))


def test_the_default_budget_follows_the_threshold_and_a_given_one_does_not() -> None:
    assert settings(gate_threshold="2").policy.budget_s > settings().policy.budget_s
    assert settings(gate_threshold="2", gate_budget="3").policy.budget_s == 3
