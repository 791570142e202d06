"""Two fingerprints compared: what fails, what is noted, and the cause; the rules of refusal against torch itself.

Over 300 lines: one table of differences.
"""

import json
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from bench.judging.fingerprint_diff import compare, signed, why_not_fused
from bench.observing.fingerprint import fingerprint
from bench.plain.execution import Calls, Compilation, Fingerprint, Pass, SdpaCall

MIB = 2**20
CALL = SdpaCall((1, 8, 512, 64), (1, 8, 512, 64), (1, 8, 512, 64), (1, 1, 1), "float32")
FLASH = Fingerprint(Pass({"aten.flash": 1}, MIB, MIB), backend="flash", sdpa=(CALL,))
COMPILED = Fingerprint(Pass({"aten.bmm": 2}, MIB, MIB), compilation=Compilation(1, (), 0, 3))
DROPPING, GRADED_MASK = replace(CALL, dropout=0.1), replace(CALL, mask=(512, 512), mask_requires_grad=True)
BOTH = replace(FLASH, backward=Pass({"aten.flash_backward": 1}, 8 * MIB, 3 * MIB))


def peak(of: Fingerprint, size: int) -> Fingerprint:
    return replace(of, forward=replace(of.forward, peak_bytes=size))


def built(graphs: int = 1, breaks: tuple[str, ...] = (), recompiles: int = 0, kernels: int = 3) -> Fingerprint:
    return replace(COMPILED, compilation=Compilation(graphs, breaks, recompiles, kernels))


def ran(backend: str | None, *calls: SdpaCall) -> Fingerprint:
    return replace(FLASH, backend=backend, sdpa=calls)


def called(**facts: Any) -> Fingerprint:
    return replace(FLASH, calls=Calls(**facts))


def lengths(each: bool | None) -> Fingerprint:  # three answers, one of them none
    return replace(COMPILED, calls=Calls(compiles_each_length=each))


@pytest.mark.parametrize(
    ("base", "head", "changes", "notes"),
    [
        (FLASH, FLASH, "", ""),
        (None, FLASH, "", ""),
        (FLASH, None, "", ""),
        (replace(FLASH, launches={"gemm": 2}), FLASH, "", ""),
        (FLASH, replace(FLASH, launches={"gemm": 2}), "", ""),
        (replace(FLASH, launches={"gemm": 2}), replace(FLASH, launches={"gemm": 2}), "", ""),
        (replace(FLASH, launches={"a": 3}), replace(FLASH, launches={"b": 1}), "", "launches 3 -> 1"),
        (replace(FLASH, launches={"gemm": 2}), replace(FLASH, launches={"a": 2, "b": 1}), "", "launches 2 -> 3"),
        (replace(FLASH, launches={"a": 1}), replace(FLASH, launches={"b": 1}), "", "launches other kernels"),
        (
            FLASH,
            Fingerprint(Pass({"aten.bmm": 2}, 9 * MIB, MIB), None, "math", (replace(CALL, q=(8, 512, 64)),)),
            "backend flash -> math because q, k, v have 3, 4, 4 dimensions and 4 are needed; peak 1.00 MiB -> 9.00 MiB",
            "ops +2 aten.bmm, -1 aten.flash",
        ),
        (
            ran("math", replace(CALL, dropout=0.1)),
            FLASH,
            "backend math -> flash because this is gone: dropout is 0.1",
            "",
        ),
        (
            FLASH,
            ran("efficient", replace(CALL, dtype="float64")),
            "backend flash -> efficient because dtype float32 -> float64",
            "",
        ),
        (
            ran("flash", replace(CALL, device="cuda")),
            ran("efficient", replace(CALL, device="cuda", dropout=0.1)),
            "backend flash -> efficient because dropout 0.0 -> 0.1",
            "",
        ),
        (
            ran("math", DROPPING, GRADED_MASK),
            ran("other", DROPPING, DROPPING),
            "backend math -> other because this is gone: the mask requires a gradient",
            "",
        ),
        (
            ran("math", DROPPING, DROPPING),
            ran("other", DROPPING, GRADED_MASK),
            "backend math -> other because the mask requires a gradient",
            "",
        ),
        (FLASH, ran("math", DROPPING, DROPPING), "backend flash -> math because dropout is 0.1", ""),
        (
            ran("flash", CALL, CALL, CALL),
            ran("flash", CALL, replace(CALL, causal=True), replace(CALL, grouped=True)),
            "",
            "sdpa's causal False -> True",  # of the first calls that differ
        ),
        (FLASH, ran(None), "backend flash -> none", ""),
        (FLASH, ran("math"), "backend flash -> math", ""),
        (
            FLASH,
            ran("flash", replace(CALL, mask=(512, 512), mask_dtype="bool")),
            "",
            "sdpa's mask none -> (512, 512), mask dtype none -> bool",
        ),
        (peak(BOTH, MIB), peak(BOTH, 3 * MIB // 2), "forward peak 1.00 MiB -> 1.50 MiB", ""),
        (FLASH, peak(FLASH, MIB - 4096), "", "peak -4 KiB"),
        (
            FLASH,
            replace(FLASH, forward=Pass({"aten.flash": 1, "aten.clone": 1}, MIB, 4 * MIB)),
            "",
            "allocated +3.00 MiB; ops +1 aten.clone",
        ),
        (FLASH, replace(FLASH, forward=Pass({}, MIB, MIB)), "", "ops -1 aten.flash"),
        (COMPILED, built(2, ("Call to print()",)), "graph breaks 0 -> 1 because Call to print()", "graphs 1 -> 2"),
        (built(2, ("a",)), built(3, ("a", "a")), "graph breaks 1 -> 2", "graphs 2 -> 3"),
        (built(2, ("a",)), COMPILED, "", "graphs 2 -> 1; graph breaks 1 -> 0"),
        (COMPILED, built(recompiles=1), "graphs compiled again by a repeated call 0 -> 1", ""),
        (built(recompiles=1), built(recompiles=1), "", ""),
        (built(recompiles=2), built(recompiles=1), "", ""),
        (
            peak(replace(COMPILED, compilation=None), 1),
            built(recompiles=1),
            "graphs compiled again by a repeated call 0 -> 1",
            "eager -> compiled: 1 graph, 3 generated kernels",
        ),
        (COMPILED, built(kernels=5), "", "generated kernels 3 -> 5"),
        (COMPILED, built(kernels=2), "", "generated kernels 3 -> 2"),
        (COMPILED, FLASH, "backend none -> flash; compiled -> eager: torch.compile no longer takes part", ""),
        (peak(replace(COMPILED, compilation=None), 1), COMPILED, "", "eager -> compiled: 1 graph, 3 generated kernels"),
        (FLASH, called(kept_bytes=8), "", ""),
        (called(), called(unrepeated=("out", "dq")), "no longer repeats bit for bit (out, dq)", ""),
        (called(unrepeated=("out",)), called(unrepeated=("dq",)), "", "base and head do not repeat bit for bit"),
        (called(unrepeated=("out",)), called(), "", "repeats bit for bit now"),
        (called(), called(kept_bytes=4096), "keeps 4096 bytes a call alive", ""),
        (called(), called(kept_bytes=1), "keeps 1 byte a call alive", ""),
        (called(kept_bytes=8), called(kept_bytes=9), "keeps 9 bytes a call alive, and the base 8", ""),
        (called(kept_bytes=8), called(kept_bytes=8), "", "keeps 8 bytes a call alive, and the base 8"),
        (called(kept_bytes=8), called(), "", "keeps 0 bytes a call alive, and the base 8"),
        (called(), called(cached_bytes=8), "", "keeps 8 bytes alive between calls, and the base 0"),
        (called(cached_bytes=8), called(), "", "keeps 0 bytes alive between calls, and the base 8"),
        (called(cached_bytes=8), called(cached_bytes=8), "", ""),
        (called(batch_invariant=True), called(), "", ""),
        (called(batch_invariant=True), called(batch_invariant=True), "", ""),
        (
            called(batch_invariant=False),
            called(batch_invariant=True),
            "",
            "an item's result does not depend on the rest of its batch, unlike the base's",
        ),
        (
            called(batch_invariant=True),
            called(batch_invariant=False),
            "",
            "an item's result depends on the rest of its batch, unlike the base's",
        ),
        (called(), called(aliased=("dv",)), "", "results that are memory of the inputs: none -> dv"),
        (called(aliased=("dv",)), called(), "", "results that are memory of the inputs: dv -> none"),
        (called(stale=("out",)), called(), "", "the base's result belongs to earlier inputs (out)"),
        (called(overwritten=("out",)), called(), "", "the base's result is memory that its next call overwrites (out)"),
        (called(unwritten=("dq", "dk")), called(), "", "the base's result depends on uninitialised memory (dq, dk)"),
        (called(stale=("out",)), FLASH, "", ""),
        (called(odd_first=("out",)), called(), "", "the base's result is wrong at the first call of a length (out)"),
        (called(second_backward=("dq",)), called(), "", "the base's result is wrong in a second backward pass (dq)"),
        (
            called(other_modes=("out in inference mode",)),
            called(),
            "",
            "the base's result differs (out in inference mode)",
        ),
        (called(), called(garbage_bytes=1), "leaves 1 byte a call to the garbage collector", ""),
        (
            called(garbage_bytes=8),
            called(garbage_bytes=9),
            "leaves 9 bytes a call to the garbage collector, and the base 8",
            "",
        ),
        (called(garbage_bytes=8), called(garbage_bytes=8), "", ""),
        (called(garbage_bytes=9), called(garbage_bytes=8), "", ""),
        (called(), called(result_bytes=8), "", ""),
        (called(result_bytes=8), called(), "", ""),
        (called(result_bytes=1000), called(result_bytes=1050), "", ""),
        (
            called(result_bytes=1000),
            called(result_bytes=1051),
            "the output keeps 1051 bytes alive, and the base 1000",
            "",
        ),
        (called(), called(strides=(2, 1)), "", ""),
        (called(strides=(2, 1)), called(), "", ""),
        (called(strides=(2, 1)), called(strides=(2, 1)), "", ""),
        (called(strides=(2, 1)), called(strides=(1, 2)), "strides of the output (2, 1) -> (1, 2)", ""),
        (called(strides=(1, 2)), called(strides=(2, 1)), "strides of the output (1, 2) -> (2, 1)", ""),
        (
            called(left_changed=("a", "b", "z")),
            called(left_changed=("a", "b", "c", "d")),
            "leaves c changed; leaves d changed",
            "base and head leave a and b changed",
        ),
        (called(retains_graph=True), called(), "", ""),
        (called(), called(retains_graph=False), "", ""),
        (called(retains_graph=False), called(retains_graph=False), "", ""),
        (
            called(retains_graph=True),
            called(retains_graph=False),
            "a second backward pass through the same graph raises",
            "",
        ),
        (called(first_call_s=0.0), called(), "", ""),
        (called(), called(first_call_s=9.0), "", ""),
        (called(first_call_s=0.0), called(first_call_s=0.05), "", ""),
        (called(first_call_s=0.01), called(first_call_s=0.055), "", ""),
        (called(first_call_s=0.001), called(first_call_s=0.0512), "first call at a new length 1 ms -> 51.2 ms", ""),
        (called(first_call_s=0.1), called(first_call_s=0.5), "", ""),
        (called(first_call_s=0.1), called(first_call_s=0.51), "first call at a new length 100 ms -> 510 ms", ""),
        (called(compiles_each_length=True), called(), "", ""),
        (lengths(False), lengths(True), "compiles for each length", ""),
        (lengths(None), lengths(True), "", ""),
        (lengths(None), lengths(False), "", ""),
        (
            replace(lengths(None), compilation=None),
            lengths(True),
            "compiles for each length",
            "eager -> compiled: 1 graph, 3 generated kernels",
        ),
        (lengths(True), lengths(True), "", ""),
        (lengths(True), lengths(False), "", "compiles for each length no longer"),
        (
            None,
            called(kept_bytes=8, cached_bytes=8, unrepeated=("out",)),
            "",
            "no longer repeats bit for bit (out); keeps 8 bytes a call alive",
        ),
    ],
)
def test_each_difference_fails_or_is_noted_as_documented(
    base: Fingerprint | None, head: Fingerprint | None, changes: str, notes: str
) -> None:
    assert tuple("; ".join(found) for found in compare(base, head)) == (changes, notes)


@pytest.mark.parametrize(("excess", "fails"), [(0, False), (1, True)])
def test_the_peak_may_grow_by_the_stated_tolerance_and_not_by_a_byte_more(excess: int, fails: bool) -> None:
    changes, _ = compare(peak(FLASH, 20 * MIB), peak(FLASH, 21 * MIB + 64 * 1024 + excess))
    assert bool(changes) is fails


@pytest.mark.parametrize(
    ("size", "written"),
    [
        (1023, "+1023 B"),
        (-1023, "-1023 B"),
        (1024, "+1 KiB"),
        (-1536, "-1.5 KiB"),
        (MIB - 1024, "+1023 KiB"),
        (MIB, "+1.00 MiB"),
        (-3 * MIB // 2, "-1.50 MiB"),
    ],
)
def test_a_difference_of_sizes_is_written_in_the_unit_that_suits_it(size: int, written: str) -> None:
    assert signed(size) == written


def test_a_fingerprint_is_read_back_from_its_record_as_json_keeps_it() -> None:
    for one in (FLASH, BOTH, built(2, ("a",)), called(stale=("out",), kept_bytes=8)):
        stored = json.loads(json.dumps(one.as_stored()))
        assert Fingerprint.from_stored(stored) == one
        assert stored["peak_bytes"] == one.peak_bytes
    del stored["calls"]  # as versions before stored it
    assert Fingerprint.from_stored(stored) == replace(one, calls=None)


def tensors(**changes: Any) -> dict[str, Any]:
    q, k, v = (torch.randn(2, 4, 8, 16) for _ in range(3))
    return {"query": q, "key": k, "value": v} | changes


GRADED = torch.zeros(8, 8, requires_grad=True)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({}, None),
        ({"is_causal": True}, None),
        ({"attn_mask": torch.zeros(8, 8)}, None),
        ({"attn_mask": torch.zeros(2, 1, 8, 8)}, None),
        ({"attn_mask": torch.ones(1, 8, dtype=torch.bool)}, None),
        ({"key": torch.randn(2, 2, 8, 16), "value": torch.randn(2, 2, 8, 16), "enable_gqa": True}, None),
        ({"dropout_p": 0.5}, "dropout is 0.5"),
        ({name: torch.randn(4, 8, 16) for name in ("query", "key", "value")}, "q, k, v have 3, 3, 3 dimensions"),
        ({"key": torch.randn(1, 4, 8, 16)}, "q, k, v have batches of 2, 1, 2"),
        ({"value": torch.randn(2, 1, 8, 16)}, "q, k, v have 4, 4, 1 heads without enable_gqa"),
        ({"value": torch.randn(2, 4, 8, 8)}, "q, k, v have head sizes 16, 16, 8"),
        ({"query": torch.randn(2, 4, 1, 16)}, None),
        ({"attn_mask": GRADED}, "the mask requires a gradient"),
        ({name: torch.randn(1, 2, 4, 8, 16) for name in ("query", "key", "value")}, "q, k, v have 5, 5, 5 dimensions"),
        ({"key": torch.randn(2, 4, 8, 1).expand(2, 4, 8, 16)}, "the last strides of q, k, v are 1, 0, 1"),
        ({"attn_mask": torch.zeros(4, 8, 8)}, "the mask has 3 dimensions"),
        ({"key": torch.randn(2, 4, 16, 8).mT}, "the last strides of q, k, v are 1, 8, 1 and 1 is needed"),
        ({"query": torch.randn(2, 4, 0, 16)}, "there are no queries or no keys"),
    ],
)
def test_torch_s_own_choice_of_backend_agrees_with_each_reason(changed: dict[str, Any], reason: str | None) -> None:
    given = tensors(**changed)
    seen = fingerprint(lambda: F.scaled_dot_product_attention(**given))
    assert (seen.backend == "flash") is (reason is None)
    if seen.backend is not None:  # without queries there is nothing to attend, and no op that tells
        (call,) = seen.sdpa
        assert bool(why_not_fused(call)) is (reason is not None)
        assert (reason or "") in "; ".join(why_not_fused(call))


@pytest.mark.parametrize(
    ("call", "reasons"),
    [
        (replace(CALL, q=(1, 8, 0, 64)), ["there are no queries or no keys"]),  # of which torch shows no backend
        (replace(DROPPING, q=(8, 512, 64)), ["dropout is 0.1", "q, k, v have 3, 4, 4 dimensions and 4 are needed"]),
        (replace(DROPPING, device="cuda"), []),
    ],
)
def test_every_reason_that_refuses_a_call_is_named_and_none_on_cuda(call: SdpaCall, reasons: list[str]) -> None:
    assert why_not_fused(call) == reasons


def test_a_fingerprint_that_was_stored_is_compared_by_its_values() -> None:
    one = replace(
        built(300, ("graph break",) * 300, kernels=300),
        backend="flash",
        sdpa=(replace(CALL, mask=(512, 512), mask_dtype="bool"), CALL),
        calls=Calls(cached_bytes=2**20, aliased=("dv",), strides=(2, 1)),
        launches={"gemm": 300},
    )
    stored = Fingerprint.from_stored(json.loads(json.dumps(one.as_stored())))
    assert compare(one, stored) == ((), ())
    other = replace(stored, sdpa=(stored.sdpa[0], replace(CALL, causal=True)), launches={"gemv": int("300")})
    assert compare(one, other) == ((), ("sdpa's causal False -> True", "launches other kernels"))
