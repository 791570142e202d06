"""The matrix: ids, tiers, and what a kernel cannot run."""

import re
from dataclasses import replace
from itertools import product

import pytest
import torch

import attention
from attention import KERNELS, MODULES
from attention.registry import Capabilities, Kernel
from bench.observing.fingerprint import fingerprint
from bench.suite.cases import DTYPES, Case, Mask, Shape
from bench.suite.gate import Gate
from bench.suite.matrix import COMPILING, MODELS, NESTED, ROWS, VARIANTS, Row, matrix
from bench.suite.side import Side
from bench.suite.sides import in_process
from bench.suite.workload import bind, build, bytes_needed

HEAD = Side.of("head", attention)


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
        ("b1h2t16d32large", Shape(1, 2, 2, 16, 16, 32, 32, scores="large")),
        ("b1h2t16d32transposed", Shape(1, 2, 2, 16, 16, 32, 32, layout="transposed")),
        ("b1h2t16d32softcap2.5", Shape(1, 2, 2, 16, 16, 32, 32, softcap=2.5)),
        ("b1h2t16d32scale1softcap30sinkslarge", Shape(1, 2, 2, 16, 16, 32, 32, 1.0, "large", None, 30.0, sinks=True)),
        (
            "b1h2t16d32sinksvalues300sliced",
            Shape(1, 2, 2, 16, 16, 32, 32, None, None, "sliced", sinks=True, values=300),
        ),
        ("b1h2t16d32scale0.3peakedsliced", Shape(1, 2, 2, 16, 16, 32, 32, 0.3, "peaked", "sliced")),
    ],
)
def test_a_shape_reads_and_writes_as_the_same_text(text: str, shape: Shape) -> None:
    assert Shape.parse(text) == shape
    assert str(shape) == text


@pytest.mark.parametrize(
    "text", ["", "b1h8", "b1h8t512d64x", "h8t1d4", "b1h8t512k512", "b-1h8t5d4", "b1h1t1d1slicedlarge"]
)
def test_what_is_no_shape_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=rf"written like b1h8t512d64.*{re.escape(repr(text))}"):
        Shape.parse(text)


def test_ids_are_unique_and_read_back_as_their_cases() -> None:
    cases = list(matrix(KERNELS, MODULES, None, ("cpu", "cuda")))
    ids = [case.id for case in cases]
    assert len(ids) == len(set(ids))
    assert [Case.parse(id_, MODULES) for id_ in ids] == cases
    assert "sdpa-b1h8t512d64-causal-fp32-cpu-fwd" in ids


def test_each_tier_holds_the_one_before() -> None:
    smoke, pr, full = (set(matrix(KERNELS, MODULES, tier, ("cpu",))) for tier in NESTED)
    assert smoke < pr < full
    supported = {case for case, reason in matrix(KERNELS, MODULES, "pr", ("cpu",)).items() if reason is None}
    assert 150 <= sum(case.timed for case in supported) <= 250
    assert sum(case.watched and not case.timed for case in supported) <= 280
    assert sum(not case.watched for case in supported) <= 500


def test_the_models_are_a_tier_of_their_own_and_each_runs_on_some_kernel_that_claims_what_it_needs() -> None:
    models, full, every = (matrix(KERNELS, MODULES, tier, ("cpu",)) for tier in ("models", "full", None))
    runs = {case.model for case, reason in models.items() if reason is None}
    assert runs == {case.model for case in models} == {row.model for row in MODELS}
    assert len(runs) >= 10
    assert {case.id for case in models}.isdisjoint(case.id for case in full)
    assert set(every) == {*models, *full}


def test_full_holds_the_whole_matrix_of_the_study() -> None:
    ids = {case.id for case in matrix(KERNELS, MODULES, "full", ("cpu",))}
    for batch, heads, tokens, dtype in product((1, 8, 32), (4, 8, 16), (128, 512, 1024), ("fp32", "fp16")):
        assert f"mha-b{batch}h{heads}t{tokens}d64-causal-{dtype}-cpu-fwdbwd" in ids
    assert "manual-b4h1t8d10-full-fp32-cpu-fwd" in ids


def test_a_case_that_a_kernel_cannot_run_is_listed_with_the_reason() -> None:
    cases = {case.id: reason for case, reason in matrix(KERNELS, MODULES, "pr", ("cpu",)).items()}
    assert cases["manual-b1h2t128d64-causal-fp32-cpu-fwd"] == "manual does not support causal attention"
    assert cases["manual-b1h2t128d64-boolmask-fp32-cpu-fwd"] == "manual does not support a bool mask"
    assert cases["sdpa-b1h2t128d64-causal-fp32-cpu-fwd"] is None


@pytest.mark.parametrize(
    ("text", "mask"),
    [
        ("full", Mask()),
        ("causal", Mask(causal=True)),
        ("boolmask", Mask("bool", sizes="bqk")),
        ("floatmask", Mask("float", sizes="hqk")),
        ("causalfloatmask", Mask("float", causal=True, sizes="hqk")),
        ("learnedmask", Mask("learned", sizes="hk")),
        ("boolmaskbhqk", Mask("bool", sizes="bhqk")),
        ("causalfloatmaskk", Mask("float", causal=True, sizes="k")),
        ("paddingmask", Mask("padding", sizes="bk")),
        ("causaltruemask", Mask("true", causal=True, sizes="bqk")),
        ("window64", Mask(window=64)),
        ("causalwindow1", Mask(causal=True, window=1)),
    ],
)
def test_a_mask_reads_as_what_hides_keys(text: str, mask: Mask) -> None:
    assert Mask.parse(text) == mask


NO_MASKS = "none mask window windowcausal window-1 causalmask fullwindow2 boolmaskwindow2 boolmaskkq fullk"


@pytest.mark.parametrize("text", ["", *NO_MASKS.split()])
def test_what_is_no_mask_is_refused_with_the_choices(text: str) -> None:
    with pytest.raises(ValueError, match=rf"^a mask is full, .* after causal too; saw {re.escape(repr(text))}$"):
        Mask.parse(text)


@pytest.mark.parametrize(
    ("mask", "shape"),
    [
        ("full", None),
        ("causalwindow4", None),
        ("boolmask", (2, 1, 5, 7)),
        ("floatmask", (1, 3, 5, 7)),
        ("learnedmask", (1, 3, 1, 7)),
        ("paddingmask", (2, 1, 1, 7)),
        ("boolmaskk", (7,)),
        ("boolmaskqk", (5, 7)),
        ("boolmaskbhk", (2, 3, 1, 7)),
        ("boolmaskbq", (2, 1, 5, 1)),
        ("causallowmaskbhqk", (2, 3, 5, 7)),
    ],
)
def test_a_mask_has_the_sizes_that_its_letters_say(mask: str, shape: tuple[int, ...] | None) -> None:
    case = Case("masked", False, Shape.parse("b2h3t5k7d4"), mask, "fp32", "cpu", "fwd")
    assert case.mask_shape == shape


def test_tensors_as_projections_give_them_are_timed_in_the_smallest_tier() -> None:
    assert any(case.timed and case.shape.layout == "transposed" for case in matrix(KERNELS, {}, "smoke", ("cpu",)))


def test_no_case_is_in_a_row_that_is_timed_and_in_one_that_is_not() -> None:
    rows = [
        matrix(KERNELS, MODULES, "full", ("cpu",), [row for row in ROWS if isinstance(row, Row) and row.timed is timed])
        for timed in (0, 1)
    ]
    assert not {case.id for case in rows[0]} & {case.id for case in rows[1]}
    assert not any(case.timed for case in rows[0])
    assert all(case.timed for case in rows[1])


def on_a_gpu(tier: str) -> list[Case]:
    """The cases that are timed on a GPU, whatever this machine can run of them."""
    return [case for case in matrix(KERNELS, MODULES, tier, ("cuda",)) if case.timed]


def test_on_a_gpu_rows_that_fill_it_are_timed_and_the_small_ones_only_checked() -> None:
    gpu, cpu = (matrix(KERNELS, MODULES, "pr", (device,)) for device in ("cuda", "cpu"))
    small = {replace(case, device="cuda") for case in cpu}
    assert small <= set(gpu)
    timed = on_a_gpu("pr")
    assert not small & set(timed)
    shapes = [case.shape for case in timed]
    assert all(shape.batch * shape.keys * shape.kv_heads * shape.head_size >= 2**22 for shape in shapes)
    assert not any(case.device == "cuda" for case in cpu)
    assert 2 <= len(on_a_gpu("smoke")) <= len(timed) <= 150


def test_the_rows_that_fill_a_gpu_are_those_that_kernels_for_it_are_written_for() -> None:
    cases = [case for case in on_a_gpu("pr") if case.subject == "sdpa"]
    shapes = [case.shape for case in cases]
    assert {shape.head_size for shape in shapes} == {64, 128, 192, 256}
    assert {shape.value_size for shape in shapes if shape.head_size == 192} == {128}
    prefill = {shape.queries for shape in shapes if shape.queries == shape.keys}
    assert (min(prefill), max(prefill)) == (1024, 16384)
    decoded = {(shape.queries, shape.keys) for shape in shapes if shape.queries < shape.keys}
    assert {queries for queries, _ in decoded} == {1, 4, 64}
    assert {min(keys for _, keys in decoded), max(keys for _, keys in decoded)} == {4096, 65536}
    assert {"full", "causal"} < {case.mask for case in cases}
    assert any(case.hiding.window for case in on_a_gpu("pr") if case.subject == "flex")
    assert any((shape.heads, shape.kv_heads) == (32, 8) and shape.queries == shape.keys for shape in shapes)
    assert {case.dtype for case in cases} == {"bf16", "fp16"}
    assert {case.backward for case in cases} == {True, False}


def test_a_new_row_is_one_line() -> None:
    row = Row("smoke", "b1h2t8d4sliced", "paddingmask", directions="fwd", subjects="kernels", timed=False)
    cases = matrix(KERNELS, MODULES, "smoke", ("cpu",), [row])
    assert {case.id for case, reason in cases.items() if reason is None} == {
        f"{name}-b1h2t8d4sliced-paddingmask-fp32-cpu-fwd" for name in ("blockwise", "masked", "sdpa")
    }
    gate = Gate(in_process(HEAD))
    assert not any(e.complaints for case in cases if cases[case] is None for e in gate.check(case).errors)


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
def test_a_kernel_that_compiles_or_varies_another_is_timed_in_few_rows(name: str, in_smoke: int) -> None:
    assert name in KERNELS
    for tier, least, most in (("smoke", in_smoke, in_smoke), ("pr", 1, 6), ("full", 1, 6)):
        cases = {case.id for case in matrix(KERNELS, MODULES, tier, ("cpu",)) if case.subject == name and case.timed}
        assert least <= len(cases) <= most


def test_a_new_kernel_is_in_every_row_that_measures_kernels() -> None:
    def function(*_: object, **__: object) -> None: ...

    before = matrix(KERNELS, MODULES, "pr", ("cpu",))
    new = Kernel("new", function, Capabilities())  # type: ignore[arg-type]  # it is never called
    after = matrix({**KERNELS, "new": new}, MODULES, "pr", ("cpu",))
    added = {case.id for case in set(after) - set(before)}
    assert added == {case.id.replace("sdpa-", "new-") for case in before if case.subject == "sdpa"}


def test_no_kernel_needs_more_memory_than_the_case_is_estimated_to_take() -> None:
    cases = [case for case, reason in matrix(KERNELS, {}, "smoke", ("cpu",)).items() if reason is None]
    for case in cases:
        call = bind(build(case, {}), HEAD)
        with torch.set_grad_enabled(case.backward):
            executed = fingerprint(call.forward, call.differentiate if case.backward else None)
        assert executed.peak_bytes <= bytes_needed(case), case.id


def test_every_dtype_of_the_matrix_is_one_a_kernel_declares() -> None:
    assert set(DTYPES.values()) <= KERNELS["sdpa"].capabilities.dtypes
