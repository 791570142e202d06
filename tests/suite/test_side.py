"""What a side has, once it is imported, and which cases it supports."""

import re
import sys
from types import ModuleType
from typing import Any

import pytest

import attention
from bench.plain.errors import CannotDo
from bench.sources.target import ATTENTION, Target, place_of
from bench.suite.cases import Case, Shape
from bench.suite.side import Side, load


def test_the_head_is_the_package_as_it_is_imported_here() -> None:
    side = load(ATTENTION, ("cpu",))
    assert side.label == "head"
    assert side.kernels is attention.KERNELS
    assert list(side.modules) == list(attention.MODULES)
    assert not side.undeclared


@pytest.mark.parametrize(
    ("kernel", "said"),
    [
        ("no.such:thing", "it cannot be imported (ModuleNotFoundError"),
        ("math", "it cannot be imported (AttributeError"),
        ("math:pi", "pi is not callable: name a kernel function"),
        ("attention.oracle:sdpa", "it cannot be imported (AttributeError"),
    ],
)
def test_what_is_no_kernel_is_refused_in_one_sentence(kernel: str, said: str) -> None:
    with pytest.raises(CannotDo, match=f"^--kernel={kernel}: {re.escape(said)}"):
        load(Target((kernel,)), ("cpu",))


def test_a_source_that_is_no_package_made_of_files_is_refused() -> None:
    with pytest.raises(
        CannotDo, match="^no_such_package is no package or module made of files here: name one that can"
    ):
        place_of("no_such_package")


@pytest.mark.parametrize("text", ["KERNELS = {}", "x = 1"])
def test_a_package_without_kernels_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    package = ModuleType("attention")
    exec(text, vars(package))  # noqa: S102  # the text of the test
    monkeypatch.setitem(sys.modules, "attention", package)
    with pytest.raises(CannotDo, match=r"^the base has no attention\.KERNELS: choose a base that registers some$"):
        load(ATTENTION, ("cpu",), "base")


def test_a_package_without_modules_has_kernels_all_the_same() -> None:
    package = ModuleType("attention")
    package.KERNELS = {"sdpa": attention.KERNELS["sdpa"]}  # type: ignore[attr-defined]  # an old base's
    assert not Side.of("base", package).modules


@pytest.mark.parametrize(
    ("case", "supported"),
    [
        (("sdpa", False, "causal"), True),
        (("manual", False, "full"), True),
        (("manual", False, "causal"), False),
        (("no_such", False, "full"), False),
        (("mha", True, "causal"), True),
        (("mha", False, "causal"), False),
    ],
)
def test_a_side_supports_the_cases_whose_subject_it_has_and_that_its_kernel_supports(
    case: tuple[Any, ...], supported: bool
) -> None:
    subject, module, mask = case
    asked = Case(subject, module, Shape.parse("b1h2t8d4"), mask, "fp32", "cpu", "fwd")
    assert Side.of("head", attention).supports(asked) is supported
