"""A kernel that takes half precision alone, right or wrong, as a module to be named on a command line."""

from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

# The signature of flash_attn_func 2.8, which computes in fp32 what it is given in half precision.
FLASH_ATTN = """
import torch

def flash_attn_func(q, k, v, dropout_p=0.0, softmax_scale=None, causal=False, window_size=(-1, -1), softcap=0.0):
    if q.dtype not in (torch.float16, torch.bfloat16):
        raise RuntimeError("FlashAttention only support fp16 and bf16 data type")
    heads = torch.arange(q.shape[2])
    heads = {head}
    qf, kf, vf = (t.transpose(1, 2).float() for t in (q, k[:, :, heads], v[:, :, heads]))
    scale = {scale}
    scores = qf * scale @ kf.mT
    if softcap > 0:
        scores = softcap * torch.tanh(scores / softcap)
    left, right = window_size
    offset, seen = k.shape[1] - q.shape[1], torch.ones(q.shape[1], k.shape[1], dtype=torch.bool)
    seen = seen if left < 0 else seen.triu(offset - {left})
    seen = seen if right < 0 else seen.tril(offset + right)
    seen = seen.tril({diagonal}) if causal else seen
    out = torch.softmax(scores.masked_fill(~seen, float("-inf")), -1) @ vf
    return out.transpose(1, 2).to(q.dtype)
"""
RIGHT = {
    "head": "heads // (q.shape[2] // k.shape[2])",
    "scale": "q.shape[-1] ** -0.5 if softmax_scale is None else softmax_scale",
    "left": "left",
    "diagonal": "offset",
}
WRONG = {
    "key heads dealt in turn": {"head": "heads % k.shape[2]"},
    "a scale that is ignored": {"scale": "q.shape[-1] ** -0.5"},
    "a window one too wide": {"left": "(left + 1)"},
    "causal top-left": {"diagonal": "0"},
}
_numbers = count()


@pytest.fixture
def half_precision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Write the kernel, by default the right one, and return its name for ``--kernel``."""

    def write(**wrong: str) -> str:
        module = f"half_precision_{next(_numbers)}"
        (tmp_path / f"{module}.py").write_text(FLASH_ATTN.format(**RIGHT | wrong))
        monkeypatch.syspath_prepend(tmp_path)
        return f"{module}:flash_attn_func"

    return write
