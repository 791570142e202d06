"""Torch's switches and functions: each that a side changes is seen, named and put back."""

import gc
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
import torch
import torch._dynamo.config
import torch._inductor.config
from torch import Tensor
from torch.nn import functional
from torch.nn.modules.module import register_module_forward_hook, register_module_full_backward_hook
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from bench.sides.switches import changed_switches, read_switches, restore_switches
from bench.sides.watched import all_functions, called_functions, replaced_functions

SWITCHES: dict[str, Callable[[], Any]] = {
    "torch.set_num_threads": lambda: torch.set_num_threads(torch.get_num_threads() + 1),
    "torch.set_default_dtype": lambda: torch.set_default_dtype(torch.float64),
    "torch.set_default_device": lambda: torch.set_default_device("meta"),
    "torch.set_float32_matmul_precision": lambda: torch.set_float32_matmul_precision("medium"),
    "torch.use_deterministic_algorithms": lambda: torch.use_deterministic_algorithms(mode=True),
    "torch.set_deterministic_debug_mode": lambda: torch.set_deterministic_debug_mode("warn"),
    "torch.set_warn_always": lambda: torch.set_warn_always(True),
    "torch anomaly mode": lambda: torch.autograd.set_detect_anomaly(True),
    "torch grad mode": lambda: torch.set_grad_enabled(not torch.is_grad_enabled()),
    "torch.set_flush_denormal": lambda: torch.set_flush_denormal(True),
    "torch autocast on cpu": lambda: torch.set_autocast_enabled("cpu", True),
    "torch autocast dtype on cpu": lambda: torch.set_autocast_dtype("cpu", torch.float16),
    "torch.backends.mkldnn.enabled": lambda: setattr(torch.backends.mkldnn, "enabled", False),
    "torch.backends.cudnn.benchmark": lambda: setattr(torch.backends.cudnn, "benchmark", True),
    "torch.backends.cuda.enable_flash_sdp": lambda: torch.backends.cuda.enable_flash_sdp(False),
    "torch.backends.mha.set_fastpath_enabled": lambda: torch.backends.mha.set_fastpath_enabled(False),
    "fill_uninitialized_memory": lambda: setattr(torch.utils.deterministic, "fill_uninitialized_memory", False),
    "cublas_allow_tf32": lambda: setattr(torch.backends.cuda.matmul, "allow_tf32", True),
    "torch._dynamo.config['recompile_limit']": lambda: setattr(torch._dynamo.config, "recompile_limit", 3),
    "torch._inductor.config['max_autotune']": lambda: setattr(torch._inductor.config, "max_autotune", True),
    "os.environ['KERNEL_FLAVOUR']": lambda: os.environ.update(KERNEL_FLAVOUR="fast"),
    "gc.isenabled": gc.disable,
    "gc.get_threshold": lambda: gc.set_threshold(1, 2, 3),
    "sys.setprofile": lambda: sys.setprofile(lambda *_: None),
    "sys.settrace": lambda: sys.settrace(lambda *_: None),
    "sys.setswitchinterval": lambda: sys.setswitchinterval(1e-4),
    "_global_forward_hooks": lambda: register_module_forward_hook(lambda *_: None),
    "_global_backward_hooks": lambda: register_module_full_backward_hook(lambda *_: None),
    "saved_tensors_hooks": torch.autograd.graph.saved_tensors_hooks(Tensor.clone, Tensor.clone).__enter__,
    "TorchFunctionMode": lambda: TorchFunctionMode().__enter__(),
    "TorchDispatchMode": lambda: TorchDispatchMode().__enter__(),
}


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    before = read_switches()
    with torch.backends.__allow_nonbracketed_mutation():  # torch's own test helpers, once imported, freeze its flags
        yield
    restore_switches(before)
    assert changed_switches(before) == ()


@pytest.mark.parametrize(("name", "turn"), SWITCHES.items(), ids=SWITCHES)
def test_a_switch_that_was_turned_is_named_and_turned_back(name: str, turn: Callable[[], Any]) -> None:
    before = read_switches()
    turn()
    (first, *rest) = changed_switches(before)
    assert any(name in str(change) for change in (first, *rest))
    assert " -> " in str(first)
    restore_switches(before)
    assert changed_switches(before) == ()


def test_a_switch_whose_property_torch_froze_is_turned_back_by_its_other_name() -> None:
    before = read_switches()
    setattr(torch.backends.mkldnn, "enabled", False)  # noqa: B010  # mypy takes the property for its value
    torch.backends.disable_global_flags()
    restore_switches(before)
    assert changed_switches(before) == ()


def test_nothing_is_said_where_nothing_changed() -> None:
    before, functions = read_switches(), all_functions()
    q = torch.randn(1, 1, 4, 8)
    functional.scaled_dot_product_attention(q, q, q)
    torch.compile(lambda x: x + 1, backend="aot_eager")(torch.ones(2))
    assert changed_switches(before) == ()
    assert replaced_functions(functions) == ()


def test_every_setter_of_torch_is_watched_or_is_about_no_process_wide_state() -> None:
    watched = " ".join(read_switches())
    of_another_kind = {
        "set_printoptions", "set_rng_state", "set_default_tensor_type",  # shown, consumed, the default dtype
        "set_anomaly_enabled", "set_autocast_cache_enabled", "set_grad_enabled",  # by a name in words
    }  # fmt: skip
    setters = {name for name in dir(torch) if name.startswith("set_")} - of_another_kind
    missed = {n for n in setters if n not in watched and not n.startswith("set_autocast")}
    assert missed == set()


REPLACED: list[tuple[Any, str]] = [
    (functional, "scaled_dot_product_attention"),
    (functional, "softmax"),
    (torch, "matmul"),
    (torch, "bmm"),
    (torch.Tensor, "softmax"),
    (torch.Tensor, "__matmul__"),
    (torch._C._nn, "scaled_dot_product_attention"),
    (torch.nn.Module, "__call__"),
]


@pytest.mark.parametrize(("owner", "name"), REPLACED, ids=[f"{o.__name__}.{n}" for o, n in REPLACED])
@pytest.mark.parametrize("read", [called_functions, all_functions])
def test_a_function_of_torch_that_was_replaced_is_named(
    monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, read: Callable[[], Any]
) -> None:
    before = read()
    original = getattr(owner, name)

    def replacement(*args: Any, **kwargs: Any) -> Any:
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, name, replacement, raising=False)
    assert any(found.endswith(f".{name}") for found in replaced_functions(before))


def test_what_torch_loads_late_of_itself_is_not_named() -> None:
    before = all_functions()
    with suppress(AttributeError):
        _ = torch.export
    assert replaced_functions(before) == ()
