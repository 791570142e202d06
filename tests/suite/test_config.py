"""What a repository's own file of the gate may say, and what each mistake in it is answered with."""

from pathlib import Path

import pytest

from bench.plain.errors import CannotDo
from bench.sources.target import Target
from bench.suite import config
from bench.suite.covering import KERNEL_AXES, Covering
from bench.suite.matrix import ROWS, Row, checked_rows, without_coverings

GOOD = """# our kernels
kernels = ["mypkg.attn:attend", "mypkg.attn:Attend.fast"]
sources = ["helpers"]

[[row]]
tier = "smoke"
shapes = "b1h4t64d32 b1h8kv2t1k1024d64"
masks = "full causal"

[[row]]
shapes = "b1h2t128d64"
dtypes = "bf16 fp16"
directions = "fwd"
subjects = "kernels"
timed = false

[[waiver]]
case = "*"
"""


def read(tmp_path: Path, text: str) -> config.GateConfig:
    path = tmp_path / "gate.toml"
    path.write_text(text)
    return config.read(path)


def test_the_file_says_kernels_sources_and_rows_and_may_leave_out_all(tmp_path: Path) -> None:
    found = read(tmp_path, GOOD)
    assert found.target == Target(("mypkg.attn:attend", "mypkg.attn:Attend.fast"), ("helpers",))
    assert found.rows == (
        Row("smoke", "b1h4t64d32 b1h8kv2t1k1024d64", "full causal"),
        Row("pr", "b1h2t128d64", dtypes="bf16 fp16", directions="fwd", subjects="kernels", timed=False),
    )
    assert found.folder == tmp_path.resolve()
    assert found.file.document["waiver"] == [{"case": "*"}]
    assert read(tmp_path, "").rows == ROWS
    (row,) = read(tmp_path, '[[row]]\nshapes = "b1h4t64d32"\nmodel = "Llama 3.1 8B"\n').own_rows
    assert row.model == "Llama 3.1 8B"
    *_, covering = read(tmp_path, f'{GOOD}\n[covering]\ntier = "smoke"\nhead_size = "d96"\nlayout = ""\n').rows
    *rows, own = read(tmp_path, '[covering]\nbatch = "b1"\n').rows
    assert tuple(rows) == without_coverings(ROWS)
    assert own == Covering("pr", "kernels", tuple({**KERNEL_AXES, "batch": ("b1",)}.items()))
    assert covering == Covering(
        "smoke", "kernels", tuple({**KERNEL_AXES, "head_size": ("d96",), "layout": ("",)}.items())
    )


def test_the_command_line_goes_before_the_file_and_one_of_them_names_a_kernel(tmp_path: Path) -> None:
    found = read(tmp_path, GOOD)
    assert found.chosen((), ()) == found.target
    assert found.chosen(["other:attend"], ()) == Target(("other:attend",), ("helpers",))
    assert found.chosen((), ["more"]) == Target(found.target.kernels, ("more",))
    with pytest.raises(CannotDo, match=r"gate.toml names no kernels: give kernels = \[...\] there, or --kernel"):
        read(tmp_path, "").chosen((), ["more"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            ("sources", "source"),
            "gate.toml, line 3: source is no key of a gate's file: write kernels, so",
        ),
        (("[[waiver]]", "[[waver]]"), "gate.toml, line 17: waver is no key"),
        (
            ('"mypkg.attn:attend"', '"mypkg.attn"'),
            "gate.toml, line 2: kernels: give a list of kernels as package",
        ),
        (('["helpers"]', '"helpers"'), "gate.toml, line 3: sources: give a list of top-level packages or modules"),
        (('"helpers"', '"helpers.more"'), "gate.toml, line 3: sources: give a list"),
        (("smoke", "quick"), "gate.toml, line 6: tier: it is made of smoke, pr, full, models; saw 'quick'"),
        (('"smoke"', '"smoke pr"'), "gate.toml, line 6: tier: give one of smoke, pr, full"),
        (("b1h2t128d64", "b1h2"), "gate.toml, line 11: shapes: a shape is written like b1h8t512d64"),
        (('shapes = "b1h2t128d64"\n', ""), "gate.toml, line 10: shapes: a row needs some, such as 'b1h8t512d64 "),
        (("full causal", "full casual"), "gate.toml, line 8: masks: a mask is full, causal, "),
        (("bf16 fp16", "bf16 fp8"), "gate.toml, line 12: dtypes: it is made of fp32, bf16, fp16; saw 'fp8'"),
        (('"fwd"', '"bwd"'), "gate.toml, line 13: directions: it is made of fwd, fwdbwd; saw 'bwd'"),
        (('"fwd"', "1"), "gate.toml, line 13: directions: give words in one text, such as 'fwd fwdbwd'; saw 1"),
        (('"fwd"', '""'), "gate.toml, line 13: directions: give words in one text"),
        (
            ("subjects", "subject"),
            "gate.toml, line 14: subject: a row has tier, shapes, masks, dtypes, directions",
        ),
        (
            ("timed = false", 'timed = "no"'),
            "gate.toml, line 15: timed: give true, or false for cases that are only checked; saw 'no'",
        ),
        (
            ('"fwd"', '"fwd"\nmodel = 3'),
            "gate.toml, line 14: model: give words in one text, such as 'Llama 3.1 8B'; saw 3",
        ),
        ((GOOD, '[row]\nshapes = "b1h2"'), "gate.toml, line 1: row: write each row as a table headed [[row]]"),
        (
            (GOOD, '[covering]\ndtype = "fp8"\n'),
            "gate.toml, line 2: dtype: kernel-b1h1t17d64-full-fp8-cpu-fwd",
        ),
        (
            ("[[waiver]]", '[covering]\nmask = ""\n'),
            "gate.toml, line 18: mask: give words in one text, such as",
        ),
        ((GOOD, "checked = 3"), "gate.toml: checked: write a table headed [checked], with dtypes and without"),
        (("[[waiver]]", '[checked]\ntier = "pr"\n'), "gate.toml, line 17: checked: write a table headed [checked]"),
        ((GOOD, '[checked]\ndtypes = "fp8"\n'), "gate.toml, line 2: dtypes: it is made of fp32, bf16, fp16"),
        ((GOOD, "[checked]\ndtypes = 3\n"), "gate.toml, line 2: dtypes: give words in one text, such as 'bf"),
        (
            (GOOD, '[checked]\nwithout = ["b1h1t1d1"]\n'),
            "gate.toml, line 2: without: list cases of the suite's checked rows, such as 'b",
        ),
        (
            (GOOD, '[checked]\nwithout = [["b1h1t1d1"]]\n'),
            "gate.toml, line 2: without: list cases of the suite's checked rows, such as 'b",
        ),
        (
            (GOOD, '[checked]\nwithout = "b1h2t24d8scale0-causal-fp32-fwdbwd"\n'),
            "gate.toml, line 2: without: list cases of the suite's checked rows",
        ),
        (
            ('"fwd"', '"fwd"\nwithout = "b1h2t128d64-full-fp32-fwd"'),
            "gate.toml, line 14: without: list cases of this row, such as 'b1h2t128d64-causal-bf16-fwd'; saw 'b1",
        ),
        (
            (GOOD, '[covering]\nhead_size = "d64 d192v128"\n'),
            "gate.toml, line 2: head_size: a shape is written like ",
        ),
        ((GOOD, '[covering]\nlayout = "upside"\n'), "gate.toml, line 2: layout: a shape is written like "),
        (("[[waiver]]", '[covering]\nsize = "d64"\n'), "gate.toml, line 18: size: [covering] has tier, mask, dtype, "),
        (("[[waiver]]", '[covering]\ntier = "quick"\n'), "gate.toml, line 18: tier: it is made of smoke, pr, "),
        (("[[waiver]]", "[covering]\nmask = 3\n"), "gate.toml, line 17: covering: write a table headed [covering], "),
        ((GOOD, "covering = 3"), "gate.toml: covering: write a table headed [covering]"),
        (("[[row]]", "[row]"), "gate.toml cannot be read ("),
        (("[[row]]", "[[row"), "gate.toml cannot be read ("),
    ],
)
def test_a_mistake_is_answered_with_its_line_and_key(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    with pytest.raises(CannotDo) as refused:
        read(tmp_path, GOOD.replace(*change, 1))
    assert str(refused.value).startswith(message)
    assert "\n" not in str(refused.value)


def test_a_file_that_is_not_there_is_refused_with_the_command_that_writes_one(tmp_path: Path) -> None:
    with pytest.raises(CannotDo, match=r"is not there: name a file that python -m bench init wrote$"):
        config.read(tmp_path / "none.toml")


def test_rows_of_the_file_stand_beside_the_suite_s_checked_rows(tmp_path: Path) -> None:
    row = '[[row]]\nshapes = "b1h4t64d32"\ntier = " pr"\n'
    checked = '[checked]\ndtypes = "bf16"\nwithout = ["b1h2t24d8scale0-causal-bf16-fwdbwd"]\n'
    both = read(tmp_path, row + checked).rows
    assert both[0] == Row("pr", "b1h4t64d32")
    assert {one.dtypes for one in both[1:] if isinstance(one, Row)} == {"bf16"}
    assert len(both) == 1 + len(checked_rows()) == 1 + len(read(tmp_path, checked).rows)
