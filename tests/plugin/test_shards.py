"""Shards of a real run: what pytest selected is split, judged at the level of the whole, and joined again."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.__main__ import main
from bench.judging.policy import Policy
from bench.judging.statistics import PairedTest

from .conftest import BASE, Bench

THREE = "(manual- or masked- or sdpa-) and b1h4t64d32 and full and fp32 and fwd]"
TWO = f"{THREE} and (sdpa- or masked-)"
ONE_AND_UNSUPPORTED = "(sdpa- and full or manual- and causal) and b1h4t64d32 and fp32 and fwd]"


def test_shards_split_what_was_selected_are_judged_at_the_level_of_all_and_complete_the_merge(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    counted: set[int] = set()
    right = Policy.test

    def test(self: Policy, cases: int, **rest: Any) -> PairedTest:
        counted.add(cases)
        return right(self, cases, **rest)

    monkeypatch.setattr(Policy, "test", test)
    results = [bench(BASE, "--shard=1/2", "--gate-json=1.json", case=THREE)]
    assert main(["merge", "1.json", "2.json"]) == 4  # as after a shard that was killed: it leaves no file
    assert "2.json cannot be read" in capsys.readouterr().err
    results.append(bench(BASE, "--shard=2/2", "--gate-json=2.json", case=THREE))
    assert [result.ret for result in results] == [0, 0]
    assert [result.parseoutcomes()["passed"] for result in results] in ([1, 2], [2, 1])
    assert counted == {3}
    capsys.readouterr()
    assert main(["merge", "1.json", "2.json"]) == 0
    assert "gate: PASS, no slowdown of 50% and no drift in 3 cases (3 UNCHANGED)" in capsys.readouterr().out


def test_a_case_that_the_head_lost_is_in_the_first_shard_and_counts_in_the_merge(
    bench: Bench, edit: Callable[[str, str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    edit("manual", "from .registry import KERNELS\ndel KERNELS['manual']")
    results = [bench(BASE, f"--shard={i}/2", f"--gate-json={i}.json", case=TWO) for i in (1, 2)]
    assert [result.ret for result in results] == [1, 0]
    assert main(["merge", "2.json", "1.json"]) == 1
    table = capsys.readouterr().out
    assert "MISSING" in table
    assert "is in the base and gone from the head\n" in table  # what to do is for the advice to say


def test_parts_with_nothing_to_compare_say_so_and_complete_the_merge(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.set_num_threads(2)  # the empty part comes first, and has to be run like the others
    parts = {i: bench(BASE, f"--shard={i}/3", f"--gate-json={i}.json", case=ONE_AND_UNSUPPORTED) for i in (3, 2, 1)}
    assert [part.ret for part in parts.values()] == [0, 0, 0]
    assert [part.parseoutcomes().get("skipped", 0) for part in parts.values()] == [0, 1, 0]
    for i in (3, 2):
        assert parts[i].outlines[-1].startswith(f"gate: EMPTY, shard {i}/3 has no case to compare: ")
    capsys.readouterr()
    assert main(["merge", "1.json", "2.json", "3.json"]) == 0
    assert "gate: PASS, no slowdown of 50% and no drift in 1 case (1 UNCHANGED, 1 SKIPPED)" in capsys.readouterr().out


@pytest.mark.parametrize("selection", ["no-such-case", "manual and causal"])  # the latter cannot run
def test_every_part_of_a_selection_without_anything_to_compare_is_refused_and_leaves_no_verdicts(
    bench: Bench, pytester: pytest.Pytester, selection: str
) -> None:
    result = bench(BASE, "--shard=2/2", "--gate-json=2.json", case=selection)
    assert not (pytester.path / "2.json").exists()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    said = "ERROR: no case is left to compare: select some with bench/, -k, --tier, --device and --shard"
    assert said in (*result.errlines, *result.outlines)
