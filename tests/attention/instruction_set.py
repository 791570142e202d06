"""What ``test_instruction_sets.py`` asks of each instruction set, in processes of their own: kernels that compile.

Writes a JSON object: what PyTorch uses, and for each request the complaints of the error rule, or the refusal.
"""

import json
import sys
from typing import Any

import torch
from torch import Tensor

from attention import KERNELS, reference
from bench.observing.drift import hold_to_budget
from bench.suite.naive import naive_attention

# Keys beyond a multiple of 16 by 8, at the head sizes whose scores PyTorch computes in another way than others'.
REQUESTS: dict[str, dict[str, Any]] = {
    "compiled, 24 keys, head size 16": {"keys": 24, "size": 16, "causal": True},
}
OF_FLEX: dict[str, dict[str, Any]] = {  # which takes longer to compile
    "flex, 8 keys, head size 8": {"keys": 8, "size": 8},
    "flex, 23 keys and a sink, head size 16, bf16": {"keys": 23, "size": 16, "dtype": torch.bfloat16, "sinks": True},
    "flex, 136 keys, head size 8, fp16": {"keys": 136, "size": 8, "dtype": torch.float16},
}


def complaints(
    name: str, *, keys: int, size: int, dtype: torch.dtype = torch.float32, causal: bool = False, sinks: bool = False
) -> list[str]:
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(dtype)

    q, k, v = normal(1, 4, 6, size), normal(1, 2, keys, size), normal(1, 2, keys, size)
    options: dict[str, Any] = {"mask": None, "causal": causal, "sinks": normal(4) if sinks else None}
    exact, naive = reference(q.double(), k.double(), v.double(), **options), naive_attention(q, k, v, **options)
    try:
        got = KERNELS[name](q, beside_nan(k), v, **options)
    except NotImplementedError as refusal:
        return [str(refusal)]
    (error,) = hold_to_budget({"out": got}, {"out": exact}, {"out": naive})
    return list(error.complaints)


def beside_nan(k: Tensor) -> Tensor:
    """Return the same keys in a larger tensor, in which NaN follows them: a kernel that reads on shows it."""
    larger = k.new_full((*k.shape[:2], k.shape[2] + 16, k.shape[3]), torch.nan)
    larger[:, :, : k.shape[2]] = k
    return larger[:, :, : k.shape[2]]


def found(*, every: bool) -> dict[str, Any]:
    """Return what PyTorch uses in this process, and the complaints about each request, or those of ``compiled``."""
    requests = REQUESTS | (OF_FLEX if every else {})
    said = {request: complaints(request.partition(",")[0], **given) for request, given in requests.items()}
    return {"uses": torch.backends.cpu.get_cpu_capability(), "complaints": said}


if __name__ == "__main__":
    torch.set_num_threads(1)
    json.dump(found(every="every" in sys.argv), sys.stdout)
