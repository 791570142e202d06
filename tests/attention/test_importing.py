"""Importing the package: nothing is computed, and what is made later belongs to no mode that happened to be on."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses import FakeTensorMode
from torch.func import grad, vmap

from attention import KERNELS, MODULES, reference
from bench.suite.matrix import COMPILING

REPOSITORY = Path(__file__).parents[2]
WATCHED_IMPORT = """
import json
import psutil
import torch
from torch.utils._python_dispatch import TorchDispatchMode

class Watch(TorchDispatchMode):
    def __torch_dispatch__(self, op, types, args=(), kwargs=None):
        ops.append(str(op))
        return op(*args, **(kwargs or {}))

ops, before = [], psutil.Process().num_threads()
with Watch(), torch.inference_mode():
    import attention
found = {"kernels": len(attention.KERNELS), "ops": ops, "threads": psutil.Process().num_threads() - before}
x, trained = torch.randn(1, 5, 8), []
for name in ("manual", "masked", "sdpa", "blockwise"):
    for module, build in attention.MODULES.items():
        build(8, 2, kernel=name)(x, causal=name != "manual").sum().backward()
        trained.append(module)
print(json.dumps(found | {"trained": sorted(set(trained))}))
"""


@pytest.fixture(scope="module")
def imported() -> dict[str, Any]:
    """What a process saw that imported the package in inference mode, and then trained its modules outside of it."""
    done = subprocess.run(
        [sys.executable, "-c", WATCHED_IMPORT], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_import_computes_nothing_and_starts_no_thread(imported: dict[str, Any]) -> None:
    assert (imported["kernels"], imported["ops"], imported["threads"]) == (len(KERNELS), [], 0)


def test_modules_are_trained_where_the_package_was_imported_in_inference_mode(imported: dict[str, Any]) -> None:
    assert imported["trained"] == sorted(MODULES)


def under(mode: Callable[[], AbstractContextManager[Any]]) -> Callable[[Callable[..., Tensor], Any], object]:
    def call(attend: Callable[..., Tensor], inputs: Any) -> object:
        with mode():
            return attend(*inputs)

    return call


@contextmanager
def other_defaults() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"):
            yield
    finally:
        torch.set_default_dtype(torch.float32)


FIRST_CALLS: dict[str, Callable[[Callable[..., Tensor], Any], object]] = {
    "inference_mode": under(torch.inference_mode),
    "fake_tensor_mode": under(lambda: FakeTensorMode(allow_non_fake_inputs=True)),
    "other_default_device_and_dtype": under(other_defaults),
    "vmap": lambda attend, inputs: vmap(attend)(*(t[None] for t in inputs)),
    "grad": lambda attend, inputs: grad(lambda q: attend(q, *inputs[1:]).sum())(inputs[0]),
}
# Code that is generated is generated for each mode apart.
EAGER = [k for name, k in KERNELS.items() if name not in COMPILING and "cpu" in k.capabilities.devices]


def forget_what_is_cached() -> None:
    for name, module in list(sys.modules.items()):
        if name.startswith("attention."):
            for thing in vars(module).values():
                getattr(thing, "cache_clear", lambda: None)()


@pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")
@pytest.mark.parametrize("first", FIRST_CALLS.values(), ids=FIRST_CALLS)
def test_a_first_call_under_a_mode_leaves_later_training_alone(first: Callable[..., object]) -> None:
    for kernel in EAGER:
        can = kernel.capabilities
        window: Any = {} if can.windowless else {"window": 2}
        for causal in (False, True) if can.causal else (False,):
            forget_what_is_cached()
            attend = partial(kernel, causal=causal, **window)
            inputs = list(torch.randn(3, 1, 2, 5, 8))  # few keys: for these sdpa keeps its masks
            with suppress(NotImplementedError):  # some kernels refuse some modes
                first(attend, inputs)
            leaves = [t.clone().requires_grad_(can.backward) for t in inputs]
            out = attend(*leaves)
            torch.testing.assert_close(out, reference(*inputs, causal=causal, **window).float())
            if can.backward:
                out.sum().backward()
