"""The matrix: ids, tiers, and what a kernel cannot run."""

import re

import pytest

import attention
from attention import KERNELS, MODULES
from attention.registry import Capabilities, Kernel
from bench.cases import COMPILING, DTYPES, TIERS, VARIANTS, Mask, Shape, matrix, supported_ids
from bench.gate import Gate
from bench.sides.side import Side
from bench.sides.workload import bytes_needed

ID = re.compile(
    r"\w+-b\d+h\d+(kv\d+)?t\d+(k\d+)?d\d+(v\d+)?(scale\d+(\.\d+)?)?-"
    r"(full|(causal)?((bool|float|learned)mask|window\d+)?)-"
    r"(fp32|bf16|fp16)-(cpu|cuda)-(fwd|fwdbwd)"
)


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("b1h8t512d64", Shape(1, 8, 8, 512, 512, 64, 64)),
        ("b2h8kv2t16d8", Shape(2, 8, 2, 16, 16, 8, 8)),
        ("b1h8t1k1024d64", Shape(1, 8, 8, 1, 1024, 64, 64)),
        ("b1h8kv2t1k1024d64", Shape(1, 8, 2, 1, 1024, 64, 64)),
        ("b1h2t16d32v8", Shape(1, 2, 2, 16, 16, 32, 8)),
        ("b1h2t16d32v8scale0.3", Shape(1, 2, 2, 16, 16, 32, 8, 0.3)),
        ("b1h2t16d32scale0", Shape(1, 2, 2, 16, 16, 32, 32, 0.0)),
    ],
)
def test_a_shape_reads_and_writes_as_the_same_text(text: str, shape: Shape) -> None:
    assert Shape.parse(text) == shape
    assert str(shape) == text


@pytest.mark.parametrize("text", ["", "b1h8", "b1h8t512d64x", "h8t1d4", "b1h8t512k512", "b-1h8t5d4"])
def test_what_is_no_shape_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=rf"written like b1h8t512d64.*{re.escape(repr(text))}"):
        Shape.parse(text)


def test_ids_are_unique_and_follow_the_contract() -> None:
    ids = [case.id for case in matrix(KERNELS, MODULES, "full", ("cpu", "cuda"))]
    assert len(ids) == len(set(ids))
    assert all(ID.fullmatch(id_) for id_ in ids)
    assert "sdpa-b1h8t512d64-causal-fp32-cpu-fwd" in ids


def test_each_tier_holds_the_one_before() -> None:
    smoke, pr, full = (set(matrix(KERNELS, MODULES, tier, ("cpu",))) for tier in TIERS)
    assert smoke < pr < full
    assert 150 <= len(supported_ids(matrix(KERNELS, MODULES, "pr", ("cpu",)))) <= 250


def test_full_holds_the_whole_matrix_of_the_study() -> None:
    ids = {case.id for case in matrix(KERNELS, MODULES, "full", ("cpu",))}
    for batch in (1, 8, 32):
        for tokens in (128, 512, 1024):
            for heads in (4, 8, 16):
                for dtype in ("fp32", "fp16"):
                    assert f"mha-b{batch}h{heads}t{tokens}d64-causal-{dtype}-cpu-fwdbwd" in ids
    assert "manual-b4h1t8d10-full-fp32-cpu-fwd" in ids


def test_a_case_that_a_kernel_cannot_run_is_listed_with_the_reason() -> None:
    cases = {case.id: reason for case, reason in matrix(KERNELS, MODULES, "pr", ("cpu",)).items()}
    assert cases["manual-b1h8t128d64-causal-fp32-cpu-fwd"] == "manual does not support causal attention"
    assert cases["manual-b1h2t256d64-boolmask-fp32-cpu-fwd"] == "manual does not support a bool mask"
    assert cases["sdpa-b1h8t128d64-causal-fp32-cpu-fwd"] is None


@pytest.mark.parametrize(
    ("text", "mask"),
    [
        ("full", Mask()),
        ("causal", Mask(causal=True)),
        ("boolmask", Mask("bool")),
        ("floatmask", Mask("float")),
        ("causalfloatmask", Mask("float", causal=True)),
        ("learnedmask", Mask("float", learned=True)),
        ("window64", Mask(window=64)),
        ("causalwindow1", Mask(causal=True, window=1)),
    ],
)
def test_a_mask_reads_as_what_hides_keys(text: str, mask: Mask) -> None:
    assert Mask.parse(text) == mask


@pytest.mark.parametrize(
    "text", ["", "none", "mask", "window", "windowcausal", "window-1", "causalmask", "fullwindow2", "boolmaskwindow2"]
)
def test_what_is_no_mask_is_refused_with_the_choices(text: str) -> None:
    with pytest.raises(ValueError, match=rf"^a mask is full, .* after causal too; saw {re.escape(repr(text))}$"):
        Mask.parse(text)


def test_what_a_kernel_from_an_old_base_does_not_know_of_is_not_asked_of_it() -> None:
    class Old:
        """Capabilities of such a base, which said themselves how much of a kernel is measured."""

        variant = True

        def lacks(
            self, *, mask: str | None, causal: bool, grouped: bool, dtype: object, device: str, backward: bool
        ) -> None: ...

    class Base:
        capabilities = Old()

    cases = {case.id: reason for case, reason in matrix({"old": Base()}, {}, "smoke", ("cpu",)).items()}
    assert cases["old-b1h4t64d32-full-fp32-cpu-fwd"] is None
    assert cases["old-b1h2t96d32-window16-fp32-cpu-fwdbwd"] == "old does not support a window"
    other_size = "old does not support values with a head size of their own"
    assert cases["old-b2h4kv2t16k48d16v32-causalfloatmask-fp32-cpu-fwdbwd"] == other_size


@pytest.mark.parametrize(("name", "in_smoke"), [*((n, 0) for n in COMPILING), *((n, 1) for n in VARIANTS)])
def test_a_kernel_that_compiles_or_varies_another_is_in_few_rows(name: str, in_smoke: int) -> None:
    assert name in KERNELS
    for tier, least, most in (("smoke", in_smoke, in_smoke), ("pr", 1, 6), ("full", 1, 6)):
        cases = {case.id for case in matrix(KERNELS, MODULES, tier, ("cpu",)) if case.subject == name}
        assert least <= len(cases) <= most


def test_a_new_kernel_is_in_every_row_that_measures_kernels() -> None:
    def function(*_: object, **__: object) -> None: ...

    before = matrix(KERNELS, MODULES, "pr", ("cpu",))
    new = Kernel("new", function, Capabilities())  # type: ignore[arg-type]  # it is never called
    after = matrix({**KERNELS, "new": new}, MODULES, "pr", ("cpu",))
    added = {case.id for case in set(after) - set(before)}
    assert added == {case.id.replace("sdpa-", "new-") for case in before if case.subject == "sdpa"}


def test_no_kernel_needs_more_memory_than_the_case_is_estimated_to_take() -> None:
    side = Side.of("head", attention)
    cases = [case for case, reason in matrix(KERNELS, {}, "smoke", ("cpu",)).items() if reason is None]
    for case in cases:
        executed = Gate(side, None).check(case).evidence.head_fingerprint
        assert executed is not None
        assert executed.peak_bytes <= bytes_needed(case), case.id


def test_every_dtype_of_the_matrix_is_one_a_kernel_declares() -> None:
    assert set(DTYPES.values()) <= KERNELS["sdpa"].capabilities.dtypes
