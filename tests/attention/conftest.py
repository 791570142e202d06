"""Every kernel with every request it claims to serve, inputs for them, and the rules they are held to."""

from collections.abc import Callable
from dataclasses import replace
from inspect import signature
from itertools import product
from typing import Any

import pytest
import torch
from hypothesis import is_hypothesis_test
from torch import Tensor

from attention import KERNELS, Kernel
from bench.suite.contract import REFUSED, examine
from bench.suite.matrix import COMPILING, VARIANTS
from bench.suite.rules import RULES


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "request_of(mask, causal, grouped, dtype, backward, window, value_size): what the test asks of a kernel; "
        "several values in a tuple are asked one by one, and handed to the test by the arguments of these names",
    )
    config.addinivalue_line("markers", "by_name: the test finds the kernel in the registry, so it gets no stand-in")


SHARED = {"request", "_one_thread", "_little_garbage"}  # fixtures of the whole session
REQUESTS: dict[tuple[str, str], list[dict[str, Any]]] = {}  # by test and kernel, of those that it serves


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test of ``kernel`` for every registered kernel, which is asked for every request that it serves."""
    if "kernel" not in metafunc.fixturenames:
        return
    request: dict[str, Any] = {
        "mask": None, "causal": False, "grouped": False, "dtype": torch.float32, "device": "cpu", "backward": False,
        "window": None, "value_size": False,
    }  # fmt: skip
    for marker in metafunc.definition.iter_markers("request_of"):
        request |= marker.kwargs
    by_name = metafunc.definition.get_closest_marker("by_name") is not None
    drawing = is_hypothesis_test(metafunc.function)

    def covered(kernel: Kernel) -> bool:
        # A kernel that compiles takes seconds a test: test_compiling.py asks as much of it in a few. A variant's
        # properties are those of the kernel it varies; what is tested of it is what a backend can get wrong.
        return kernel.name not in (*COMPILING, *(VARIANTS if drawing or by_name else ()))

    choices = [value if isinstance(value, tuple) else (value,) for value in request.values()]
    wanted = [name for name in request if name in metafunc.fixturenames]
    rows = []
    for kernel in (k if by_name else stand_in(k) for k in KERNELS.values() if covered(k)):
        every = [dict(zip(request, values, strict=True)) for values in product(*choices)]
        served = [
            {name: asked[name] for name in wanted} for asked in every if kernel.capabilities.lacks(**asked) is None
        ]
        given = {mark.args[0] for mark in metafunc.definition.iter_markers("parametrize")}
        alone = {*metafunc.fixturenames} - {"kernel", *wanted, *given, *SHARED}  # what is made anew for each node
        if alone or len(served) == 1:
            rows += [pytest.param(kernel, *asked.values(), id=_spell(kernel, asked)) for asked in served]
        elif served:
            REQUESTS[metafunc.definition.nodeid, kernel.name] = served
            rows.append(pytest.param(kernel, *served[0].values(), id=kernel.name))
    metafunc.parametrize(["kernel", *wanted], rows)


def _spell(kernel: Kernel, asked: dict[str, Any]) -> str:
    said = {True: "{}", False: "not_{}"}
    words = [said[v].format(n) if isinstance(v, bool) else str(v).removeprefix("torch.") for n, v in asked.items()]
    return "-".join([kernel.name, *words])


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Ask a kernel for each request in turn, and say which fail; one node a request would take longer than it does."""
    kernel = pyfuncitem.callspec.params.get("kernel") if hasattr(pyfuncitem, "callspec") else None
    served = REQUESTS.get((pyfuncitem.nodeid.partition("[")[0], getattr(kernel, "name", "")))
    if served is None:
        return None
    given = {name: pyfuncitem.funcargs[name] for name in signature(pyfuncitem.obj).parameters}
    failed: list[Exception] = []
    skipped: list[BaseException] = []
    for asked in served:
        try:
            pyfuncitem.obj(**given | asked)
        except pytest.skip.Exception as reason:
            skipped.append(reason)
        except Exception as error:  # noqa: BLE001  # a test's own
            error.add_note(f"asked for {', '.join(f'{name}={value}' for name, value in asked.items())}")
            failed.append(error)
    if failed:
        raise failed[0] if len(failed) == 1 else ExceptionGroup(f"{len(failed)} of {len(served)} requests", failed)
    if len(skipped) == len(served):
        raise skipped[0]
    return True


def stand_in(kernel: Kernel) -> Kernel:
    """The kernel as most tests call it.

    One that must have a window gets a window that hides nothing, and one without a backward pass no request for it.
    Where a variant refuses inputs, in a way that its capabilities cannot tell beforehand, the test is skipped with its
    reason.
    """
    needed: dict[str, Any] = {}
    if not kernel.capabilities.windowless:
        needed = {"window": 10**9}
    elif kernel.name not in VARIANTS and kernel.capabilities.backward:
        return kernel

    def attend(*args: Any, **options: Any) -> Tensor:
        try:
            return kernel.function(*args, **needed | options)
        except NotImplementedError as refusal:
            pytest.skip(str(refusal))

    called = Kernel if kernel.capabilities.backward else ForwardOnly
    return called(kernel.name, attend, replace(kernel.capabilities, windowless=True))


class ForwardOnly(Kernel):
    """Called without gradients, though the inputs of the tests could have them."""

    def __call__(self, *args: Any, **options: Any) -> Tensor:
        with torch.no_grad():
            return super().__call__(*args, **options)


def make(
    batch: int = 2,
    heads: int = 4,
    queries: int = 33,
    keys: int = 49,
    size: int = 16,
    *,
    kv_heads: int | None = None,
    value_size: int | None = None,
    dtype: torch.dtype = torch.float32,
    factor: float = 1.0,
    seed: int = 0,
) -> tuple[Tensor, Tensor, Tensor]:
    """Leaves q, k, v that require gradients; standard normal, q and k times a factor."""
    generator = torch.Generator().manual_seed(seed)
    kv_heads = heads if kv_heads is None else kv_heads
    value_size = size if value_size is None else value_size
    q = torch.randn(batch, heads, queries, size, generator=generator) * factor
    k = torch.randn(batch, kv_heads, keys, size, generator=generator) * factor
    v = torch.randn(batch, kv_heads, keys, value_size, generator=generator)
    return q.to(dtype).requires_grad_(), k.to(dtype).requires_grad_(), v.to(dtype).requires_grad_()


def make_mask(
    kind: str,
    *shape: int,
    dtype: torch.dtype = torch.float32,
    blind: int | None = None,
    visible: int | None = None,
) -> Tensor:
    """A mask that hides one key in four; where it adds, normal biases too.

    From the query ``blind`` it hides every key, from none the key ``visible``.
    """
    generator = torch.Generator().manual_seed(1)
    seen = torch.rand(shape, generator=generator) < 0.75
    if visible is not None:
        seen[..., visible] = True
    if blind is not None:
        seen[..., blind, :] = False
    if kind == "bool":
        return seen
    return torch.randn(shape, generator=generator).masked_fill(~seen, -torch.inf).to(dtype)


def pretend_to_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a kernel that compiles be called without a compiler, and on any CPU: run eagerly, it needs neither."""
    monkeypatch.setattr("attention.compiling._missing", lambda _: None)
    monkeypatch.setattr("attention.compiling.vector_bits", lambda: 256)


def hold_to_rule(
    attend: Callable[..., Tensor], name: str, size: str, dtype: torch.dtype = torch.float32, **options: Any
) -> None:
    """Hold one request to a rule of the contract; skip if the kernel refuses it."""
    (rule,) = (rule for rule in RULES if rule.name == name)
    (found,) = examine(attend, [replace(rule, variants=(("", options),), sizes=(size,))], dtype=dtype)
    if found.outcome == REFUSED:
        pytest.skip(found.why)
    assert found.why == ""
