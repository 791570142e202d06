"""The contract as a table: each rule sees a kernel that breaks it, and what the command says of one."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from attention import KERNELS
from bench.__main__ import main
from bench.suite.contract import FAILS, examine
from bench.suite.rules import RULES

from .conftest import WRONG

RULE = {rule.name: rule for rule in RULES}


def right(q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Tensor:
    return KERNELS["masked"](q, k, v, **options)


def after_two_tokens(q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Tensor:
    out = right(q, k, v, **options)
    return out * 1.01 if k.shape[2] > 2 else out


def top_left(q: Tensor, k: Tensor, v: Tensor, *, causal: bool, mask: Tensor | None, **options: Any) -> Tensor:
    seen = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool).tril() if causal else None
    return right(q, k, v, causal=False, mask=seen if mask is None else mask, **options)


def blind_means(q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None, **options: Any) -> Tensor:
    if mask is not None:
        mask = torch.zeros(mask.shape).masked_fill(~mask, -1e30) if mask.dtype == torch.bool else mask.clamp(min=-1e30)
    return right(q, k, v, mask=mask, **options)


def inverted(q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None, **options: Any) -> Tensor:
    return right(q, k, v, mask=~mask if mask is not None and mask.dtype == torch.bool else mask, **options)


def interleaved(q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Tensor:
    k, v = (t.repeat(1, q.shape[1] // t.shape[1], 1, 1) for t in (k, v))
    return right(q, k, v, **options)


def assumes_layout(q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Tensor:
    if not v.is_contiguous():
        v = torch.as_strided(v, v.shape, torch.empty(v.shape).stride())
    return right(q, k, v, **options)


def no_maximum(q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None, causal: bool, scale: float | None) -> Tensor:
    if mask is not None or causal or scale is not None or k.shape[1] != q.shape[1]:
        raise NotImplementedError("what is not plain")
    weights = (q @ k.mT / q.shape[3] ** 0.5).exp()
    out: Tensor = weights / weights.sum(-1, keepdim=True) @ v
    return out


def unsteady(q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Tensor:
    return right(q, k, v, **options) * (1 + 1e-7 * torch.rand(()))


def mixing(q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Tensor:
    out = right(q, k, v, **options)
    return out + 0.1 * (out.mean(0) - out[:1].detach()) if out.shape[0] > 1 else out


def writing(q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Tensor:
    out = right(q, k, v, **options)
    with torch.no_grad():
        q.mul_(1.5)
    return out


def scale_ignored(q: Tensor, k: Tensor, v: Tensor, *, scale: float | None, **options: Any) -> Tensor:
    return right(q, k, v, scale=None, **options)


def forgets_early_keys(q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None, **options: Any) -> Tensor:
    mask = mask if mask is None or mask.shape[-1] == 1 else mask[..., -1024:]
    return right(q, k[:, :, -1024:], v[:, :, -1024:], mask=mask, **options)


def scaled_for_one_head_size(q: Tensor, k: Tensor, v: Tensor, *, scale: float | None, **options: Any) -> Tensor:
    return right(q, k, v, scale=0.125 if scale is None else scale, **options)


def in_groups_of_two(q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Tensor:
    if k.shape[1] != q.shape[1]:
        heads = (torch.arange(q.shape[1]) // 2).clamp(max=k.shape[1] - 1)
        k, v = k[:, heads], v[:, heads]
    return right(q, k, v, **options)


def one_key_head_for_all(q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Tensor:
    k, v = (t if t.shape[1] == q.shape[1] else t[:, :1] for t in (k, v))
    return right(q, k, v, **options)


class Spending(torch.autograd.Function):
    """The identity, whose gradient is right in the first backward pass alone."""

    @staticmethod
    def forward(ctx: Any, t: Tensor) -> Tensor:
        ctx.factor = torch.ones(())
        return t.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        out: Tensor = gradient * ctx.factor
        ctx.factor *= 0.5
        return out


def spending(q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Tensor:
    spent: Any = Spending
    return right(spent.apply(q), k, v, **options)


def remembering() -> Callable[..., Tensor]:
    kept: dict[Any, Tensor] = {}

    def attend(q: Tensor, k: Tensor, v: Tensor, *, causal: bool, **options: Any) -> Tensor:
        key = tuple((t.data_ptr(), t._version) for t in (q, k, v)), causal
        if key not in kept or not torch.is_grad_enabled():
            kept[key] = right(q, k, v, causal=causal, **options)
        return kept[key]

    return attend


def reusing() -> Callable[..., Tensor]:
    kept: dict[Any, Tensor] = {}

    def attend(q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Tensor:
        out = right(q, k, v, **options)
        return kept.setdefault(out.shape, torch.empty_like(out)).copy_(out)

    return attend


def broken() -> Iterator[tuple[Callable[..., Tensor], str, str]]:
    yield after_two_tokens, "output is within the error budget", "b2h2t3k5d64"
    yield top_left, "causal: the last query sees every key, each earlier one a key less", "b2h2t3k5d64"
    yield blind_means, "a query that sees no key gives zeros", "b1h1t1d64"
    yield inverted, "a bool mask is True where a query attends", "b1h1t1d64"
    yield interleaved, "grouped queries read the key head of their group", "b2h4kv2t3k5d64"
    yield assumes_layout, "layout of the inputs does not matter", "b1h1t2d64"
    yield no_maximum, "large scores stay finite and right", "b1h1t1d64"
    yield unsteady, "a call repeated gives the same bits", "b1h1t"  # the noise may round away in the smallest
    yield mixing, "items of a batch do not know of each other", "b2h2t3k5d64"
    yield writing, "inputs are not written to", "b1h1t1d64"
    yield scale_ignored, "a scale of any sign does what the formula says", "b1h1t2d64"
    yield forgets_early_keys, "output is within the error budget", "b1h1t3k1100d64"
    yield scaled_for_one_head_size, "output is within the error budget", "b1h1t5k9d128"
    yield in_groups_of_two, "grouped queries read the key head of their group", "b1h6kv2t3k5d128"
    yield one_key_head_for_all, "gradients of grouped queries are within the error budget", "b2h4kv2t3k5d64"
    yield spending, "a second backward pass through a graph gives the same gradients", "b1h1t2d64"
    yield remembering(), "under torch.utils.checkpoint the gradients are the same", "b1h1t1d64"
    yield reusing(), "an output stays as it is when the next call comes", "b1h1t1d64"


@pytest.mark.parametrize(
    ("kernel", "rule", "smallest"), list(broken()), ids=lambda value: getattr(value, "__name__", None)
)
def test_a_kernel_that_breaks_a_rule_fails_it_with_the_smallest_input_that_shows_it(
    kernel: Callable[..., Tensor], rule: str, smallest: str
) -> None:
    failing = [finding for finding in examine(kernel, [RULE[rule]]) if finding.outcome == FAILS]
    assert any(finding.smallest.startswith(smallest) for finding in failing)
    assert all(finding.why for finding in failing)


def test_no_two_rules_have_one_name_and_no_two_variants_of_a_rule() -> None:
    assert len(RULE) == len(RULES)
    assert all(len(dict(rule.variants)) == len(rule.variants) for rule in RULES)


def test_the_table_is_printed_and_written_and_a_failure_is_exit_code_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "conforming.py").write_text(
        "from attention.masked import masked\n"
        "def mine(q, k, v, *, mask, causal, scale):\n"
        "    if mask is not None: raise NotImplementedError('a | mask')\n"
        "    return masked(q, k, v, causal=causal, scale=scale) * (1 if k.shape[2] < 3 else 1.1)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    files = {form: tmp_path / f"report.{form}" for form in ("json", "markdown")}
    given = [f"--{form}={path}" for form, path in files.items()]
    assert main(["conformance", "--kernel=conforming:mine", *given]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "mine, in fp32 on cpu"
    assert any("(bool mask)" in line and line.endswith("refused  a | mask") for line in lines)
    assert any("(full)" in line and "fails    b2h2t3k5d64 float32 cpu: out: error" in line for line in lines)
    assert re.fullmatch(rf"{len(RULES)} rules: \d+ kept, \d+ refused, \d+ broken", lines[-2])
    found = json.loads(files["json"].read_text())["mine"]
    assert found[0]["rule"] == "output is within the error budget"
    assert found[0]["smallest"] == "b2h2t3k5d64 float32 cpu"
    assert "| refused | a &#124; mask |" in files["markdown"].read_text()


def test_a_kernel_of_half_precision_is_examined_in_the_first_dtype_that_it_takes(
    half_precision: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["conformance", f"--kernel={half_precision()}"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "flash_attn_func, in bf16 on cpu"
    assert not any("does not support dtype" in line for line in lines)


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_a_wrong_kernel_of_half_precision_fails(half_precision: Callable[..., str], wrong: dict[str, str]) -> None:
    assert main(["conformance", f"--kernel={half_precision(**wrong)}"]) == 1


def test_where_most_is_refused_the_last_line_says_so_and_the_exit_code_is_4_or_1_if_a_rule_fails(
    half_precision: Callable[..., str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "report.md"
    assert main(["conformance", f"--kernel={half_precision()}", "--dtype=fp32", f"--markdown={path}"]) == 4
    said = r"mostly refused: (\d+) of (\d+) rules, .* dtype torch.float32 on cpu \(RuntimeError: .*: give --dtype=bf16$"
    last = capsys.readouterr().out.splitlines()[-2]  # a blank line follows
    found = re.match(said, last)
    assert found is not None
    assert 2 * int(found[1]) > int(found[2])
    assert "mostly refused: " in path.read_text()
    assert main(["conformance", f"--kernel={half_precision(scale='1.0')}", "--dtype=fp32"]) == 1  # its rows in bf16
    capsys.readouterr()
    assert main(["conformance", "--kernel=attention.manual:manual"]) == 4  # in a dtype that it takes
    assert capsys.readouterr().out.splitlines()[-2].endswith(": most of the contract was not checked")
