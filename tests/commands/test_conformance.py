"""The contract as a table: what holds of ours, and that each rule sees a kernel that breaks it."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from attention import KERNELS
from bench.__main__ import main
from bench.checking.contract import FAILS, HOLDS, REFUSED, RULES, examine

NAN_SPREADS = "a value that is masked from all reaches no output"  # sdpa's docstring says so


@pytest.mark.parametrize("name", ["blockwise", "manual", "masked", "sdpa", "sliding_window"])
def test_our_kernels_keep_the_contract_or_refuse_by_name(name: str) -> None:
    found = list(examine(KERNELS[name]))
    failing = {finding.rule for finding in found if finding.outcome == FAILS}
    assert failing == ({NAN_SPREADS} if name == "sdpa" else set())
    refused = [finding for finding in found if finding.outcome == REFUSED]
    assert all(finding.why.startswith(f"kernel '{name}' does not support ") for finding in refused)
    if name == "sliding_window":
        assert {finding.outcome for finding in found if "window" in finding.variant} == {HOLDS}


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
    yield reusing(), "an output stays as it is when the next call comes", "b1h1t1d64"


@pytest.mark.parametrize(
    ("kernel", "rule", "smallest"), list(broken()), ids=lambda value: getattr(value, "__name__", None)
)
def test_a_kernel_that_breaks_a_rule_fails_it_with_the_smallest_input_that_shows_it(
    kernel: Callable[..., Tensor], rule: str, smallest: str
) -> None:
    failing = [f for f in examine(kernel) if f.rule == rule and f.outcome == FAILS]
    assert any(finding.smallest.startswith(smallest) for finding in failing)
    assert all(finding.why for finding in failing)


def test_no_two_rules_have_one_name() -> None:
    assert len({rule.name for rule in RULES}) == len(RULES)


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
    assert lines[0] == "mine"
    assert any("(bool mask)" in line and line.endswith("refused  a | mask") for line in lines)
    assert any("(full)" in line and "fails    b2h2t3k5d64 float32 cpu: out: error" in line for line in lines)
    found = json.loads(files["json"].read_text())["mine"]
    assert found[0]["rule"] == "output is within the error budget"
    assert found[0]["smallest"] == "b2h2t3k5d64 float32 cpu"
    assert "| refused | a &#124; mask |" in files["markdown"].read_text()
    assert main(["conformance", "--kernel=attention.manual:manual"]) == 0
