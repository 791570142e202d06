"""Which functions from outside are recognised, and the adapter for flash_attn's signature."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from attention import KERNELS, reference
from bench.plain.errors import CannotDo
from bench.suite.adapters import load
from bench.suite.signatures import ACCEPTED, FlashLayout, InterfaceLayout, Undeclared


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

    kernel = Undeclared(FlashLayout(spy))
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
    assert isinstance(kernel.function, Undeclared) == ("softmax_scale" in signature)
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
        f"--kernel={name}: its signature is mine({signature}): wrap it as {ACCEPTED}, in a file wrapped.py say, for "
        f"--kernel=wrapped:mine --source={name.partition(':')[0]}:\n\nimport "
    )
    with pytest.raises(CannotDo, match=f"^{re.escape(message)}"):
        load([name], ["cpu"])


DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
OURS, FLASH = "q, k, v, *, mask, causal, scale", "q, k, v, softmax_scale, causal"
EVERY, HALF = "fp32 bf16 fp16", "bf16 fp16"


@pytest.mark.parametrize(
    ("signature", "refuse", "taken"),
    [
        (OURS, "raise NotImplementedError", (EVERY, EVERY)),  # it is not tried: its cases show what it refuses
        (FLASH, "if q.dtype == torch.float32 or q.shape[-1] < 99: raise RuntimeError", (HALF, HALF)),
        (FLASH, "if q.dtype == torch.float32: raise RuntimeError", (HALF, HALF)),
        (FLASH, "q = q if q.dtype == torch.bfloat16 else q.detach()", (EVERY, "bf16")),
        ("m, q, k, v, attention_mask, scaling, dropout", "assert q.dtype == torch.float16", ("fp16", "fp16")),
    ],
)
def test_the_dtypes_and_directions_that_a_kernel_takes_are_found_by_trying(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signature: str, refuse: str, taken: tuple[str, str]
) -> None:
    text = f"import torch\ndef mine({signature}):\n    {refuse}\n    return q * 1.0\n"
    (kernel,) = load([f"{write(tmp_path, monkeypatch, 'mine', text)}:mine"], ["cpu"]).values()
    hash(kernel)  # what is chosen for a kernel may be kept by it

    def takes(word: str, *, backward: bool) -> bool:
        asked: Any = {"mask": None, "causal": kernel.capabilities.causal, "grouped": False, "dtype": DTYPES[word]}
        return kernel.capabilities.lacks(**asked, device="cpu", backward=backward) is None

    for words, backward in zip(taken, (False, True), strict=True):
        assert [word for word in DTYPES if takes(word, backward=backward)] == words.split()


def test_what_it_refuses_of_a_token_is_said_in_its_own_words_and_of_a_device_that_is_not_here_nothing_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (
        "import torch\ndef mine(q, k, v, softmax_scale, causal):\n"
        "    if q.dtype == torch.float32: raise RuntimeError('only half')\n    return q.detach()\n"
    )
    (kernel,) = load([f"{write(tmp_path, monkeypatch, 'mine', text)}:mine"], ["cpu"]).values()
    q = inputs()[0]
    with pytest.raises(NotImplementedError, match=r"support dtype torch.float32 on cpu \(RuntimeError: only half"):
        kernel(q, q, q)
    q = q.half().requires_grad_()
    with pytest.raises(NotImplementedError, match=r"support a backward pass in torch.float16 on cpu \(RuntimeE"):
        kernel(q, q, q)
    asked: Any = {"mask": None, "causal": False, "grouped": False, "dtype": torch.float32}
    assert kernel.capabilities.lacks(**asked, device="cuda", backward=True) is None


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


def test_the_wrapper_that_a_refusal_shows_runs_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (
        "import torch\n"
        "class Mine:\n"
        "    @staticmethod\n"
        "    def attend(query, key, value, is_causal=False, sm_scale=None):\n"
        "        return torch.nn.functional.scaled_dot_product_attention(\n"
        "            query, key, value, is_causal=is_causal, scale=sm_scale)\n"
    )
    with pytest.raises(CannotDo) as refused:
        load([f"{write(tmp_path, monkeypatch, 'theirs', text)}:Mine.attend"], ["cpu"])
    shown = str(refused.value).partition("\n\n")[2]
    assert len(shown.splitlines()) == 5
    (kernel,) = load([f"{write(tmp_path, monkeypatch, 'wrapped', shown)}:attend"], ["cpu"]).values()
    q = inputs()[0]
    torch.testing.assert_close(
        kernel(q, q, q, causal=True, scale=0.3), reference(q, q, q, causal=True, scale=0.3).float()
    )
    with pytest.raises(NotImplementedError, match=r"^a mask$"):
        kernel(q, q, q, mask=torch.ones(3, 3))


def sdpa_forward(  # noqa: PLR0917  # as transformers' sdpa_attention_forward
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None,
    dropout: float = 0.0, scaling: float | None = None, is_causal: bool | None = None, **_: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    key, value = (t.repeat_interleave(module.num_key_value_groups, dim=1) for t in (key, value))
    causal = attention_mask is None and (module.is_causal if is_causal is None else is_causal)
    out = torch.nn.functional.scaled_dot_product_attention(
        query, key, value, attention_mask, dropout, is_causal=causal, scale=scaling
    )
    return out.transpose(1, 2), None


# To it a mask is numbers, and nothing else is causal.
def eager_forward(  # noqa: PLR0917  # as transformers' eager_attention_forward
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, scaling: float,
    dropout: float = 0.0, **_: Any,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    key, value = (t.repeat_interleave(module.num_key_value_groups, dim=1) for t in (key, value))
    scores = query @ key.mT * scaling
    weights = (scores if attention_mask is None else scores + attention_mask).softmax(-1)
    return (weights @ value).transpose(1, 2), weights


FORWARDS = {"sdpa": (sdpa_forward, {"bool", "float"}, True), "eager": (eager_forward, {"float"}, False)}


def interface_kernel(monkeypatch: pytest.MonkeyPatch, forward: Any) -> Any:
    monkeypatch.setattr(torch, "forward_under_test", forward, raising=False)
    (kernel,) = load(["torch:forward_under_test"], ["cpu"]).values()
    return kernel


@pytest.mark.parametrize("name", FORWARDS)
def test_what_a_function_of_the_attention_interface_heeds_is_found_by_trying(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    forward, masks, heeds_causal = FORWARDS[name]
    kernel = interface_kernel(monkeypatch, forward)
    assert kernel.capabilities.masks == masks
    assert kernel.capabilities.causal
    assert isinstance(kernel.function.layout, InterfaceLayout)
    assert kernel.function.layout.heeds_causal == heeds_causal


@pytest.mark.parametrize("kind", [None, "bool", "float"])
@pytest.mark.parametrize("name", FORWARDS)
def test_a_function_of_the_attention_interface_gives_what_the_contract_says(
    monkeypatch: pytest.MonkeyPatch, name: str, kind: str | None
) -> None:
    kernel = interface_kernel(monkeypatch, FORWARDS[name][0])
    if kind not in {None, *kernel.capabilities.masks}:
        pytest.skip("it does not take such a mask")
    q, k, v = inputs()
    seen = torch.tensor([[True, False, True, True, True], [True, True, False, True, True], [True] * 5])
    mask = {None: None, "bool": seen, "float": torch.zeros(3, 5).masked_fill(~seen, -torch.inf)}[kind]
    for causal in (False, True):
        for scale in (None, 0.3):
            got = kernel(q, k, v, mask=mask, causal=causal, scale=scale)
            torch.testing.assert_close(got, reference(q, k, v, mask=mask, causal=causal, scale=scale).float())
    q = q[:, :2].repeat(1, 1, 2, 1)[:, :, :5]  # as many queries as keys
    k, v = k[:, :, : q.shape[2]], v[:, :, : q.shape[2]]
    torch.testing.assert_close(kernel(q, k, v, causal=True), reference(q, k, v, causal=True).float())


def test_the_causal_mask_is_made_once_as_a_model_makes_it_for_all_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Tensor | None] = []

    def spy(module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor, **options: Any) -> Any:
        given.append(attention_mask)
        return sdpa_forward(module, query, key, value, attention_mask, **options)

    layout = InterfaceLayout(spy)
    for _ in range(2):
        layout(*inputs(), mask=None, causal=True, scale=None)
    assert given[0] is not None
    assert given[1] is not None
    assert given[0].data_ptr() == given[1].data_ptr()
    assert given[0].shape == (1, 1, 3, 5)


def test_a_function_whose_name_no_case_id_can_hold_is_refused_with_the_rule(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "odd_names.py").write_text("def größe(q, k, v, *, mask, causal, scale): ...\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(CannotDo, match=r"--kernel=odd_names:größe: a name is a letter or _.*wrap it in a function"):
        load(["odd_names:größe"], ["cpu"])
