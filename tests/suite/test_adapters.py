"""Which functions from outside are recognised, the adapters of other signatures, and the wrapper for any other one.

Over 300 lines: one table of signatures for each of these.
"""

import re
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from attention import KERNELS, reference
from attention.registry import Kernel
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


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Write a module whose name is in no other test, and return the name of a function in it, ``mine`` or another."""
    monkeypatch.syspath_prepend(tmp_path)

    def written(text: str, function: str = "mine") -> str:
        name = f"outside_{abs(hash(tmp_path))}_{len(list(tmp_path.iterdir()))}"
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
        return f"{name}:{function}"

    return written


def only(name: str) -> Kernel:
    (kernel,) = load([name], ["cpu"]).values()
    return kernel


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
def test_both_signatures_are_recognised(write: Callable[..., str], signature: str) -> None:
    kernel = only(write(f"def mine({signature}): return q"))
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
    write: Callable[..., str], signature: str
) -> None:
    name = write(f"def mine({signature}): ...")
    message = (
        f"--kernel={name}: its signature is mine({signature}): wrap it as {ACCEPTED}, in a file wrapped.py say, for "
        f"--kernel=wrapped:mine --source={name.partition(':')[0]}:\n\nfrom "
    )
    with pytest.raises(CannotDo, match=f"^{re.escape(message)}"):
        only(name)


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
    write: Callable[..., str], signature: str, refuse: str, taken: tuple[str, str]
) -> None:
    kernel = only(write(f"import torch\ndef mine({signature}):\n    {refuse}\n    return q * 1.0\n"))
    hash(kernel)  # what is chosen for a kernel may be kept by it

    def takes(word: str, *, backward: bool) -> bool:
        asked: Any = {"mask": None, "causal": kernel.capabilities.causal, "grouped": False, "dtype": DTYPES[word]}
        return kernel.capabilities.lacks(**asked, device="cpu", backward=backward) is None

    for words, backward in zip(taken, (False, True), strict=True):
        assert [word for word in DTYPES if takes(word, backward=backward)] == words.split()


def test_what_it_refuses_of_a_token_is_said_in_its_own_words_and_of_a_device_that_is_not_here_nothing_is_known(
    write: Callable[..., str],
) -> None:
    text = (
        "import torch\ndef mine(q, k, v, softmax_scale, causal):\n"
        "    if q.dtype == torch.float32: raise RuntimeError('only half')\n    return q.detach()\n"
    )
    kernel = only(write(text))
    q = inputs()[0]
    with pytest.raises(NotImplementedError, match=r"support dtype torch.float32 on cpu \(RuntimeError: only half"):
        kernel(q, q, q)
    q = q.half().requires_grad_()
    with pytest.raises(NotImplementedError, match=r"support a backward pass in torch.float16 on cpu \(RuntimeE"):
        kernel(q, q, q)
    asked: Any = {"mask": None, "causal": False, "grouped": False, "dtype": torch.float32}
    assert kernel.capabilities.lacks(**asked, device="cuda", backward=True) is None


def test_two_kernels_of_one_name_are_refused(write: Callable[..., str]) -> None:
    text = "def mine(q, k, v, *, mask, causal, scale): ...\nsdpa = mine\n"
    one, two = write(text), write(text)
    with pytest.raises(CannotDo, match=f"^--kernel={two}: another kernel is named 'mine' too: rename one$"):
        load([one, two], ["cpu"])
    assert list(load([one.replace("mine", "sdpa")], ["cpu"])) == ["sdpa"]  # ours are not beside it


def test_a_dotted_name_leads_to_its_last_part(write: Callable[..., str]) -> None:
    text = "class Mine:\n    @staticmethod\n    def attend(q, k, v, *, mask, causal, scale): ...\n"
    assert list(load([write(text, "Mine.attend")], ["cpu"])) == ["attend"]


def test_a_registered_kernel_keeps_its_capabilities() -> None:
    assert load(["attention.manual:manual"], ["cpu"]) == {"manual": KERNELS["manual"]}


@pytest.mark.parametrize(
    ("text", "function", "message"),
    [
        (None, "builtins:max", r": its signature cannot be read \(.*\): wrap it as "),
        ("import sys; sys.exit(0)", "mine", r": it cannot be imported \(SystemExit: 0\): give an importable module"),
        ("class mine: ...", "mine", r": it is a class, of which an instance may be a kernel: wrap it as "),
        (
            "def größe(q, k, v, *, mask, causal, scale): ...\n",
            "größe",
            r":größe: a name is a letter or _.*wrap it in a function",
        ),
    ],
)
def test_what_cannot_be_a_kernel_is_refused_and_does_not_end_the_run(
    write: Callable[..., str], text: str | None, function: str, message: str
) -> None:
    name = function if text is None else write(text, function)
    with pytest.raises(CannotDo, match=f"^--kernel={name.partition(':')[0]}.*{message}"):
        only(name)


SDPA = "torch.nn.functional.scaled_dot_product_attention(query, key, value, is_causal=bool(causal), scale=scale)"
WRAPPED = {  # a kernel of another signature, by the name in its module: with the number of lines of its wrapper
    "Mine.attend": (f"""
class Mine:
    @staticmethod
    def attend(query, key, value, is_causal=False, sm_scale=None):
        causal, scale = is_causal, sm_scale
        return {SDPA}
""", 5),
    "by_name": (f"def by_name(*, query, key, value, causal, scale=None): return {SDPA}", 5),
    "partly_by_name": (f"def partly_by_name(query, *, key, value, causal, scale=None): return {SDPA}", 5),
    "any_name": (f"""
def any_name(*args, **kwargs):
    query, key, value, causal, scale = *args, kwargs["causal"], kwargs["scale"]
    if kwargs["mask"] is not None: raise NotImplementedError("a mask")
    return {SDPA}
""", 3),
    "Module": (f"""
class Module(torch.nn.Module):
    def forward(self, query, key, value, is_causal=False, sm_scale=None):
        causal, scale = is_causal, sm_scale
        return {SDPA}
""", 6),
    "Called": (f"""
class Called:
    def __call__(self, query, key, value, causal, scale=None): return {SDPA}
""", 6),
    "Called.unbound": (f"""
class Called:
    def unbound(self, query, key, value, causal, scale=None): return {SDPA}
""", 6),
}  # fmt: skip


@pytest.mark.parametrize("name", WRAPPED)
def test_the_wrapper_that_a_refusal_shows_runs_as_it_stands(write: Callable[..., str], name: str) -> None:
    text, lines = WRAPPED[name]
    with pytest.raises(CannotDo) as refused:
        only(write(f"import torch\n{text}", name))
    shown = str(refused.value).partition("\n\n")[2]
    assert len(shown.splitlines()) == lines
    kernel = only(write(shown.replace("(...)", "()"), name.rpartition(".")[2]))  # an instance is made by who reads it
    q = inputs()[0]
    torch.testing.assert_close(
        kernel(q, q, q, causal=True, scale=0.3), reference(q, q, q, causal=True, scale=0.3).float()
    )
    with pytest.raises(NotImplementedError, match=r"^a mask$"):
        kernel(q, q, q, mask=torch.ones(3, 3))


def test_the_wrapper_finds_a_function_of_which_its_package_has_the_name_of_its_module(
    write: Callable[..., str], tmp_path: Path
) -> None:
    package = tmp_path / "of_one_name"
    package.mkdir()
    (package / "__init__.py").write_text("from .attend import attend\n")
    (package / "attend.py").write_text(f"import torch\ndef attend(query, key, value, causal, scale): return {SDPA}\n")
    with pytest.raises(CannotDo) as refused:
        only("of_one_name.attend:attend")
    q = inputs()[0]
    assert only(write(str(refused.value).partition("\n\n")[2], "attend"))(q, q, q).shape == q.shape


def test_a_module_is_recognised_by_its_forward(write: Callable[..., str]) -> None:
    text = (
        "import torch\nclass Mine(torch.nn.Module):\n    def forward(self, q, k, v, *, mask, causal, scale): return q\n"
    )
    q = inputs()[0]
    assert only(write(f"{text}mine = Mine()\n"))(q, q, q) is q


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


def causal_forward(  # noqa: PLR0917  # as those of the interface that serve no mask
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, scaling: float,
    dropout: float = 0.0, **_: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    del attention_mask
    return sdpa_forward(module, query, key, value, None, dropout, scaling)


def test_a_function_that_knows_causal_and_no_mask_refuses_fewer_queries_than_keys(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch, "forward_under_test", causal_forward, raising=False)
    kernel = only("torch:forward_under_test")
    assert (kernel.capabilities.masks, kernel.capabilities.causal) == (frozenset(), True)
    q, k, v = inputs()
    with pytest.raises(NotImplementedError, match=r"^causal attention of 3 queries to 5 keys, for it uses no mask$"):
        kernel(q, k, v, causal=True)
    k, v = k[:, :, :3], v[:, :, :3]
    torch.testing.assert_close(kernel(q, k, v, causal=True), reference(q, k, v, causal=True).float())


FORWARDS = {"sdpa": (sdpa_forward, {"bool", "float"}, True), "eager": (eager_forward, {"float"}, False)}


@pytest.mark.parametrize("name", FORWARDS)
def test_a_function_of_the_attention_interface_gives_what_the_contract_says_for_what_it_is_found_to_use(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    forward, masks, uses_causal = FORWARDS[name]
    monkeypatch.setattr(torch, "forward_under_test", forward, raising=False)
    kernel = only("torch:forward_under_test")
    assert kernel.capabilities.masks == masks
    assert kernel.capabilities.causal
    assert isinstance(kernel.function, Undeclared)
    assert isinstance(kernel.function.layout, InterfaceLayout)
    assert kernel.function.layout.uses_causal == uses_causal
    q, k, v = inputs()
    seen = torch.tensor([[True, False, True, True, True], [True, True, False, True, True], [True] * 5])
    by_kind = {"bool": seen, "float": torch.zeros(3, 5).masked_fill(~seen, -torch.inf)}
    for mask, causal, scale in product([None, *(by_kind[kind] for kind in masks)], (False, True), (None, 0.3)):
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
