"""The witness: what a side changes, reads or gives alone, in real processes, against what the shared one gave."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import attention
from bench.cases import Case, Shape
from bench.plain.errors import CannotDo
from bench.plain.execution import Compilation, Fingerprint, Pass
from bench.sides.side import Side, base_side
from bench.sides.source import Source, from_directory
from bench.sides.what import ATTENTION
from bench.sides.workload import build
from bench.timing.witness import Statement, Witness, _same, smallest, witness

CASE = Case("k", False, Shape.parse("b1h2t8d4"), "full", "fp32", "cpu", "fwd")
REPOSITORY = Path(__file__).parents[2]  # where its processes run
KERNEL = """
import torch
from types import SimpleNamespace as N
{at_import}
def k(q, k, v, *, mask, causal, scale=None):
    {in_call}
    return torch.softmax(q @ k.mT / 2, -1) @ v
k.capabilities = N(lacks=lambda **_: None)
KERNELS = {{"k": k}}
"""
PLAIN = {"at_import": "", "in_call": ""}
PATCH = "F = torch.nn.functional; plain = F.softmax; F.softmax = lambda *a, **k: plain(*a, **k)"

Write = Callable[..., Source]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Pack an attention package with the kernel, which does this at its import and in its call."""

    def packed(label: str, **doing: str) -> Source:
        root = tmp_path / label / "attention"
        root.mkdir(parents=True)
        (root / "__init__.py").write_text(KERNEL.format(**{**PLAIN, **doing}))
        return from_directory(root.parent)

    return packed


@pytest.mark.parametrize(
    ("base", "head", "said"),
    [
        (PLAIN, {"at_import": PATCH}, "the head changes torch.nn.functional.softmax when it is imported"),
        ({"at_import": PATCH}, {"at_import": PATCH}, "the head changes torch.nn.functional.softmax"),
        ({"at_import": "torch.set_num_threads(3)"}, PLAIN, "the base changes torch.set_num_threads 1 -> 3 when"),
        (
            PLAIN,
            {"at_import": "open('pyproject.toml').read()"},
            "the head reads pyproject.toml, which lies",
        ),
        (PLAIN, {"at_import": "raise ValueError('broken')"}, "does not import (ValueError: broken)"),
    ],
)
def test_a_side_that_shares_more_at_its_import_is_named(
    write: Write, tmp_path: Path, base: dict[str, str], head: dict[str, str], said: str
) -> None:
    packed = write("base", **base), write("head", **head)
    with (
        witness(*packed, ATTENTION, repository=REPOSITORY, threads=1, scratch=tmp_path) as two,
        pytest.raises(CannotDo) as refused,
    ):
        two.refuse_shared_imports()
    assert said in str(refused.value)


def test_what_the_shared_process_gave_is_held_to_what_each_side_gives_alone(write: Write, tmp_path: Path) -> None:
    threads = "torch.set_num_threads(1)"  # the same for both
    source = write("both", at_import=threads)
    with (
        witness(source, source, ATTENTION, repository=None, threads=1, scratch=tmp_path) as two,
        base_side(source) as side,
    ):
        two.refuse_shared_imports()
        two.cases = smallest([CASE])
        assert two.wants(CASE)
        workload = build(CASE, side)
        with side.view:
            out = side.kernels["k"](*workload.inputs.values(), mask=None, causal=False)
        ran = Fingerprint(Pass({}, 0, 0))
        two.note(workload, {"base": Statement({"out": out}, ran), "head": Statement({"out": out + 1e-6}, ran)})
        said = dict(two.contradictions())
    assert list(said) == [CASE.id]
    assert "the head gives another out beside the other side than alone in a process" in said[CASE.id]


def test_compiled_code_is_not_compiled_once_more_in_each_process() -> None:
    asked = Witness({}, Path())
    work = build(Case("sdpa", False, CASE.shape, "full", "fp32", "cpu", "fwd"), Side.of("head", attention))
    built = Fingerprint(Pass({}, 0, 0), compilation=Compilation(1, (), 0, 1))
    asked.note(work, {"head": Statement({}, built), "base": Statement({}, Fingerprint(Pass({}, 0, 0)))})
    assert list(asked.contradictions()) == []


def test_the_smallest_case_of_each_subject_is_asked_for_with_gradients_where_there_are_any() -> None:
    def case(shape: str, direction: str, subject: str = "k") -> Case:
        return Case(subject, False, Shape.parse(shape), "full", "fp32", "cpu", direction)

    small, large = case("b1h1t8d4", "fwd"), case("b1h1t16d4", "fwdbwd")
    assert smallest([small, large, case("b1h1t32d4", "fwdbwd")]) == {"k": large}
    assert smallest([small, case("b1h1t9d4", "fwd", "j")]).keys() == {"j", "k"}


def test_nan_is_equal_to_itself_and_to_nothing_else() -> None:
    nan, one = torch.tensor([torch.nan, 1.0]), torch.ones(2)
    assert _same(nan, nan.clone())
    assert not _same(nan, one)
    assert not _same(nan, torch.tensor([torch.nan, 1.0 + 1e-6]))
    assert not _same(one, one.half())
