"""Compiled code: what its fingerprint says, and that taking it leaves the code compiled."""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from bench.observing import compilation
from bench.observing.compilation import Counters
from bench.observing.fingerprint import fingerprint
from bench.observing.profiling import profiled
from bench.plain.execution import Compilation, Fingerprint

Q = torch.randn(2, 64, 64)


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    compilation.forget()
    yield
    compilation.forget()


def formula(q: Tensor) -> Tensor:
    return (q * 2).sin() + 1


def broken(q: Tensor) -> Tensor:
    scores = q * 2
    torch._dynamo.graph_break()
    return scores.sin()


def taken(call: Callable[[], object]) -> Fingerprint:
    """Do what the gate does: forget, call once, and take the fingerprint of a repetition."""
    compilation.forget()
    before = compilation.counters()
    call()
    return fingerprint(call, compiled=compilation.counters().since(before))


def runs_compiled(call: Callable[[], object]) -> bool:
    with profiled() as profile:
        call()
    return any(event.key.startswith("Torch-Compiled Region") for event in profile.key_averages())


@pytest.mark.filterwarnings(
    "ignore:`torch.jit.script_method` is deprecated:DeprecationWarning"
)  # torch's own, at import
def test_generated_kernels_graphs_and_buffers_are_seen_and_the_code_stays_compiled() -> None:
    call = torch.compile(formula, dynamic=False)
    seen = taken(lambda: call(Q))
    assert seen.compilation is not None
    assert (seen.compilation.graphs, seen.compilation.breaks, seen.compilation.recompiles) == (1, (), 0)
    assert seen.compilation.kernels >= 1
    assert seen.peak_bytes >= Q.nbytes  # a buffer of a generated kernel, which no aten op allocates
    assert "aten.sin" not in seen.ops  # fused away
    assert runs_compiled(lambda: call(Q))


def test_each_graph_break_is_counted_with_its_reason() -> None:
    call = torch.compile(broken, backend="eager")
    seen = taken(lambda: call(Q)).compilation
    assert seen is not None
    assert seen.graphs == 2
    assert seen.breaks == ("Call to `torch._dynamo.graph_break()`",)


def test_a_call_that_compiles_at_every_repetition_shows_as_recompiles() -> None:
    call = torch.compile(lambda q, times: q * times, backend="eager", dynamic=False)
    times = iter(range(10))
    seen = taken(lambda: call(Q, next(times))).compilation
    assert seen is not None
    assert seen.recompiles == 1


def test_a_shape_seen_before_does_not_change_what_the_next_compiles() -> None:
    call = torch.compile(broken, backend="eager")
    alone = taken(lambda: call(Q))
    assert alone.compilation is not None
    for size in (8, 16, 32):
        taken(lambda: call(torch.randn(2, size, size)))  # noqa: B023  # called at once
    assert taken(lambda: call(Q)) == alone


def test_eager_code_has_no_compilation_and_the_difference_of_counters_is_none() -> None:
    seen = taken(lambda: formula(Q))
    assert seen.compilation is None
    assert Counters(1, 1, 1, {"a": 1}).since(Counters(1, 1, 1, {"a": 1})) == Counters()


def test_repeated_breaks_are_one_reason_each() -> None:
    assert fingerprint(lambda: Q + 1, compiled=Counters(2, 2, 0, {"b": 1, "a": 2})).compilation == Compilation(
        2, ("a", "a", "b"), 0, 0
    )


def test_code_that_may_not_break_its_graph_is_seen_as_compiled_too() -> None:
    call = torch.compile(formula, fullgraph=True, backend="eager", dynamic=False)
    seen = taken(lambda: call(Q))
    assert seen.compilation is not None
    assert seen.compilation.graphs == 1
    assert seen.peak_bytes >= Q.nbytes
