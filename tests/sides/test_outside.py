"""Which functions from outside are recognised, and the adapter for flash_attn's signature."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from attention import KERNELS, reference
from bench.plain.errors import CannotDo
from bench.sides.outside import FlashLayout, load


def tokens_first(q: Tensor, k: Tensor, v: Tensor, *, softmax_scale: float | None, causal: bool) -> Tensor:
    out = reference(*(t.transpose(1, 2) for t in (q, k, v)), causal=causal, scale=softmax_scale)
    return out.transpose(1, 2).to(q.dtype)


def inputs() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, heads, tokens, 8, generator=generator) for heads, tokens in ((4, 3), (2, 5), (2, 5))]


def test_layout_scale_and_causal_are_translated() -> None:
    q, k, v = inputs()
    for scale in (None, 0.3):
        for causal in (False, True):
            got = FlashLayout(tokens_first)(q, k, v, mask=None, causal=causal, scale=scale)
            want = reference(q, k, v, causal=causal, scale=scale)
            torch.testing.assert_close(got, want.float())


def test_the_function_is_given_views() -> None:
    given: list[Tensor] = []

    def spy(q: Tensor, k: Tensor, v: Tensor, **_: Any) -> Tensor:
        given[:] = q, k, v
        return q

    q, k, v = inputs()
    FlashLayout(spy)(q, k, v, mask=None, causal=False, scale=None)
    assert [t.data_ptr() for t in given] == [t.data_ptr() for t in (q, k, v)]
    assert [tuple(t.shape) for t in given] == [(2, 3, 4, 8), (2, 5, 2, 8), (2, 5, 2, 8)]


def test_each_kind_of_request_is_tried_once() -> None:
    seen: list[tuple[int, ...]] = []

    def spy(q: Tensor, k: Tensor, v: Tensor, **_: Any) -> Tensor:
        seen.append(tuple(q.shape))
        return q

    kernel = FlashLayout(spy)
    for _ in range(2):
        kernel(*inputs(), mask=None, causal=False, scale=None)
    assert seen == [(1, 1, 1, 8), (2, 3, 4, 8), (2, 3, 4, 8)]


def write(directory: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> str:
    """Write a module of a name that is in no other test, and return the name."""
    name = f"outside_{abs(hash(directory))}_{name}"
    (directory / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(directory)
    return name


@pytest.mark.parametrize(
    "signature",
    [
        "q, k, v, *, mask, causal, scale",
        "query, key, value, mask=None, causal=False, scale=None, window=None",
        "q, k, v, dropout_p=0.0, softmax_scale=None, causal=False, window_size=(-1, -1)",  # flash_attn 2
        "q, k, v, softmax_scale=None, causal=False, qv=None, window_size=(-1, -1)",  # flash_attn 3
        "q, k, v, *, causal, softmax_scale, **more",
    ],
)
def test_both_signatures_are_recognised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signature: str) -> None:
    module = write(tmp_path, monkeypatch, "mine", f"def mine({signature}): return q")
    (kernel,) = load([f"{module}:mine"], ["cpu"]).values()
    assert isinstance(kernel.function, FlashLayout) == ("softmax_scale" in signature)
    assert bool(kernel.capabilities.masks) == ("mask" in signature)


@pytest.mark.parametrize(
    "signature",
    [
        "qkv, dropout_p=0.0, softmax_scale=None, causal=False",
        "q, kv, dropout_p=0.0, softmax_scale=None, causal=False",
        "q, k, v, cu_seqlens, softmax_scale=None, causal=False",
        "q, k, v, mask=None, is_causal=False, scale=None",
        "q, k, v, **options",
        "q, k, v, mask, causal, scale, window",
        "*, q, k, v, mask, causal, scale",
    ],
)
def test_any_other_signature_is_refused_and_shown_beside_those_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signature: str
) -> None:
    name = write(tmp_path, monkeypatch, "mine", f"def mine({signature}): ...") + ":mine"
    message = (
        f"--kernel={name}: its signature is mine({signature}): wrap it as (q, k, v, *, mask, causal, scale), as "
        "attention.Kernel's, or (q, k, v, softmax_scale, causal), as flash_attn's"
    )
    with pytest.raises(CannotDo, match=f"^{re.escape(message)}$"):
        load([name], ["cpu"])


def test_two_kernels_of_one_name_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "def mine(q, k, v, *, mask, causal, scale): ...\nsdpa = mine\n"
    one, two = (write(tmp_path, monkeypatch, name, text) for name in ("one", "two"))
    with pytest.raises(CannotDo, match=f"^--kernel={two}:mine: another kernel is named 'mine' too: rename one$"):
        load([f"{one}:mine", f"{two}:mine"], ["cpu"])
    assert list(load([f"{one}:sdpa"], ["cpu"])) == ["sdpa"]  # ours are not beside it


def test_a_dotted_name_leads_to_its_last_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "class Mine:\n    @staticmethod\n    def attend(q, k, v, *, mask, causal, scale): ...\n"
    assert list(load([f"{write(tmp_path, monkeypatch, 'dotted', text)}:Mine.attend"], ["cpu"])) == ["attend"]


def test_a_registered_kernel_keeps_its_capabilities() -> None:
    assert load(["attention.manual:manual"], ["cpu"]) == {"manual": KERNELS["manual"]}


def test_a_signature_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(CannotDo, match=r"^--kernel=builtins:type: its signature cannot be read \(.*\): wrap it as "):
        load(["builtins:type"], ["cpu"])


def test_a_module_that_quits_is_refused_and_does_not_end_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = write(tmp_path, monkeypatch, "quits", "import sys; sys.exit(0)") + ":mine"
    with pytest.raises(CannotDo, match=r": it cannot be imported \(SystemExit: 0\): give an importable module"):
        load([name], ["cpu"])
