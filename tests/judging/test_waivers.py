"""The waivers' file: what it accepts, what it refuses, and how."""

import tomllib
from datetime import date
from pathlib import Path

import pytest

from bench.judging import waivers
from bench.judging.policy import NOTHING, Accepted
from bench.plain.errors import CannotDo
from bench.plain.toml import Toml

TODAY = date(2030, 6, 15)
IDS = ("sdpa-a-fp32-cpu-fwd", "sdpa-a-bf16-cpu-fwd", "manual-a-fp32-cpu-fwd")

GOOD = """
[[waiver]]
case = "sdpa-*-bf16-*"
ratio = 1.1
reason = "exact gradients"
expires = 2030-06-15

[[threshold]]
case = "manual-*"
threshold = 0.1
reason = "tiny calls"
expires = 2030-06-16
"""
FORM = "give exactly case (str), ratio (float), reason (str), expires (date)"


def read(tmp_path: Path, text: str) -> waivers.Exceptions:
    path = tmp_path / "waivers.toml"
    path.write_text(text)
    return waivers.read(path, lambda: IDS, TODAY)


def test_entries_apply_to_the_cases_that_their_pattern_matches(tmp_path: Path) -> None:
    exceptions = read(tmp_path, GOOD)
    assert exceptions.of("sdpa-a-bf16-cpu-fwd") == Accepted(
        ratio=1.1, waiver="accepted up to half the threshold above 1.1 until 2030-06-15: exact gradients"
    )
    assert exceptions.of("manual-a-fp32-cpu-fwd") == Accepted(
        0.1, "has its own threshold, 10% until 2030-06-16: tiny calls"
    )
    assert exceptions.of("sdpa-a-fp32-cpu-fwd") == NOTHING


@pytest.mark.parametrize("text", ["", "# nothing\n", None])
def test_an_empty_file_and_no_file_accept_nothing(tmp_path: Path, text: str | None) -> None:
    found = waivers.read(tmp_path / "none.toml", lambda: IDS, TODAY) if text is None else read(tmp_path, text)
    assert found == waivers.Exceptions()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("2030-06-15", "2030-06-14"), "the waiver of 'sdpa-*-bf16-*' expired on 2030-06-14: fix its cause"),
        (("2030-06-16", "2030-06-14"), "the threshold of 'manual-*' expired on 2030-06-14: fix its cause, or renew"),
        (("expires = 2030-06-16\n", ""), "the threshold lacks expires: give exactly case (str), threshold (float), "),
        (("sdpa-*-bf16-*", "spda-*"), "'spda-*' matches no case: correct it, or remove the entry"),
        (("manual-*", "mnaual-*"), "'mnaual-*' matches no case"),
        (("1.1", "0.9"), "has ratio 0.9: give head/base above 1 and at most 10, such as 1.1"),
        (("1.1", "1"), "has ratio 1: give head/base above 1"),
        (("1.1", "10.01"), "has ratio 10.01: give head/base above 1"),
        (("1.1", "nan"), f"the waiver.ratio is not a finite number: {FORM}"),
        (("1.1", "1" + 400 * "0"), "the waiver.ratio is not a finite number"),
        (("1.1", '"10%"'), "the waiver.ratio should be a number and is '10%'"),
        (("1.1", "true"), "the waiver.ratio should be a number and is True"),
        (("2030-06-15", '"2030-06-15"'), "the waiver.expires should be of type date"),
        (("2030-06-15", "2030-06-15T00:00:00"), "the waiver.expires should be of type date"),
        (("exact gradients", "  "), "the waiver has an empty reason"),
        (('reason = "exact gradients"\n', ""), "the waiver lacks reason"),
        (('reason = "exact gradients"\n', 'reason = "r"\nowner = "me"\n'), "the waiver has the unknown 'owner'"),
        (("0.1\n", "0\n"), "the threshold of 'manual-*' has threshold 0: give a share above 0 and at most 1, such as"),
        (("0.1\n", "-1\n"), "the threshold of 'manual-*' has threshold -1"),
        (("0.1\n", "1.01\n"), "the threshold of 'manual-*' has threshold 1.01: give a share above 0 and at most 1"),
        (("[[waiver]]", "[[waver]]"), "waivers.toml has waver: write [[waiver]] and [[threshold]] tables"),
        (("[[waiver]]", "[[d]]\n[[c]]\n[[b]]\n[[a]]\n[[waver]]"), "waivers.toml has a, b, c, d, waver: write"),
        (("[[waiver]]", "[waiver]"), "write each waiver as a table headed [[waiver]]"),
        (("[[waiver]]", "[[waiver"), "waivers.toml cannot be read"),
        ((GOOD, "waiver = [1]"), "the waiver should be of type dict and is 1"),
    ],
)
def test_an_entry_that_cannot_stand_is_refused_in_one_sentence(
    tmp_path: Path, change: tuple[str, str], message: str
) -> None:
    with pytest.raises(CannotDo) as refused:
        read(tmp_path, GOOD.replace(*change, 1))
    assert message in str(refused.value)
    assert str(refused.value).startswith("waivers.toml")


@pytest.mark.parametrize(("old", "largest"), [("1.1", "10"), ("0.1\n", "1\n")])
def test_the_largest_ratio_and_threshold_that_may_be_given_are_accepted(tmp_path: Path, old: str, largest: str) -> None:
    assert read(tmp_path, GOOD.replace(old, largest, 1)) != read(tmp_path, GOOD)


def test_an_id_with_brackets_is_matched_as_it_stands_and_an_entry_may_be_for_an_id_that_is_not_known_yet() -> None:
    text = GOOD.replace("sdpa-*-bf16-*", "test_it[1]").replace("manual-*", "later-*")
    file = Toml(Path("waivers.toml"), text, tomllib.loads(text))
    exceptions = waivers.entries(file, lambda: ("test_it[1]",), TODAY, all_known=False)
    assert exceptions.of("test_it[1]").ratio == 1.1
    assert exceptions.of("later-1").threshold == 0.1
    with pytest.raises(CannotDo, match="'later-\\*' matches no case"):
        waivers.entries(file, lambda: ("test_it[1]",), TODAY)


def test_two_entries_for_one_case_are_refused(tmp_path: Path) -> None:
    twice = GOOD + GOOD.partition("[[threshold]]")[0].replace("sdpa-*-bf16-*", "*-bf16-*")
    both = r"'sdpa-\*-bf16-\*' and '\*-bf16-\*' both match sdpa-a-bf16-cpu-fwd: keep one of them"
    with pytest.raises(CannotDo, match=both):
        read(tmp_path, twice)


def test_the_file_that_ships_is_read_and_its_examples_are_well_formed(tmp_path: Path) -> None:
    shipped = waivers.WAIVERS.read_text()
    assert waivers.read(waivers.WAIVERS, lambda: IDS, TODAY) == waivers.Exceptions()
    examples = shipped[shipped.index("# [[waiver]]") :].splitlines()
    path = tmp_path / "waivers.toml"
    path.write_text("\n".join(line.removeprefix("#").strip() for line in examples))
    ids = ("mhaloop-x-bf16-cpu-fwd", "sdpa-b4h1t8d10-full-fp32-cpu-fwd")
    read = waivers.read(path, lambda: ids, date(2026, 1, 1))
    assert (len(read.waivers), len(read.thresholds)) == (1, 1)
