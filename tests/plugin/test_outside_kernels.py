"""Kernels from outside the repository, in whole runs: flash_attn's signature, our own, and what is refused."""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import Bench

BUDGET = "--gate-budget=0.2"  # whether the time is enough does not matter here
FLASH = "--kernel=flash_attn:flash_attn_func"
ONE = "b1h4t64d32-full-fp32-cpu-fwd]"

# The signature and layout of flash_attn_func 2.8, by PyTorch; bottom-right causal, as it is since version 2.1.
FLASH_ATTN = """
import torch

def {name}(
    q, k, v, dropout_p=0.0, softmax_scale=None, causal=False, window_size=(-1, -1), softcap=0.0, alibi_slopes=None,
    deterministic=False, return_attn_probs=False,
):
    {refuse}
    q, k, v = (t.repeat_interleave(q.shape[2] // t.shape[2], 2).transpose(1, 2) for t in (q, k, v))
    scale = q.shape[-1] ** -0.5 if softmax_scale is None else softmax_scale
    scores = q * scale @ k.mT
    if softcap > 0:
        scores = softcap * torch.tanh(scores / softcap)
    left, right = window_size
    offset, seen = k.shape[2] - q.shape[2], torch.ones(q.shape[2], k.shape[2], dtype=torch.bool)
    seen = seen if left < 0 else seen.triu(offset - left)
    seen = seen if right < 0 else seen.tril(offset + right)
    seen = seen.tril({diagonal}) if causal else seen
    out = torch.softmax(scores.masked_fill(~seen, float("-inf")), -1) @ v
    return {returned}
"""
OURS = """
import torch

def {name}(q, k, v, *, mask, causal, scale):
    if {condition}: raise NotImplementedError("not here")
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, scale=scale){more}
"""
ONLY_FP16 = "if q.dtype == torch.float32: raise RuntimeError('FlashAttention only support fp16 and bf16 data type')"
ONLY_CUDA = "if not q.is_cuda: raise RuntimeError('FlashAttention only supports CUDA\\nsecond line')"
WRONG = "softmax_scale = 1.01 * q.shape[-1] ** -0.5"  # in the same time, so that it is judged soon


def flash(
    name: str = "flash_attn_func",
    refuse: str = "",
    diagonal: str = "k.shape[2] - q.shape[2]",
    returned: str = "out.transpose(1, 2)",
) -> str:
    return FLASH_ATTN.format(name=name, refuse=refuse, diagonal=diagonal, returned=returned)


def ours(name: str, condition: str = "False", more: str = "") -> str:
    return OURS.format(name=name, condition=condition, more=more)


@pytest.fixture
def write(pytester: pytest.Pytester) -> Iterator[Callable[[str, str], Path]]:
    """Write a module where the inner run finds it; returns a folder with the first that was written of each name."""
    names: set[str] = set()
    base = pytester.mkdir("base")

    def module(name: str, text: str) -> Path:
        pytester.makepyfile(**{name: text})
        pytester.syspathinsert()
        sys.modules.pop(name, None)
        if name not in names:
            (base / f"{name}.py").write_text(text)
        names.add(name)
        return base

    yield module
    for name in names:
        sys.modules.pop(name, None)


FP32 = "q.dtype == torch.float32"
# A kernel in the base and in the head, the case that compares them, its verdict and what the reason begins with.
COMPARED = {
    "same": (flash("same"), flash("same"), ONE, "UNCHANGED", ""),
    "slower": (flash("slower"), flash("slower", "[q * q for _ in range(40)]"), ONE, "REGRESSED", ""),
    "wrong": (flash("wrong"), flash("wrong", WRONG), ONE, "DRIFTED", "out: error"),
    # Top-left, as flash_attn before version 2.1.
    "top_left": (flash("top_left"), flash("top_left", diagonal="0"), "t16k48 and causal", "DRIFTED", "out: error"),
    "heads_first": (
        flash("heads_first"),
        flash("heads_first", returned="out"),
        "t16k48 and causal",
        "ERROR",
        "head raised RuntimeError: Mismatch in shape",
    ),
    "only_fp16": (flash("only_fp16"), flash("only_fp16", ONLY_FP16), ONE, "MISSING", "is in the base and gone from"),
    "no_gradient": (
        flash("no_gradient"),
        flash("no_gradient", f"if {FP32} and q.requires_grad: raise ValueError"),
        "b1h4t64d32-full-fp32-cpu-fwdbwd]",
        "MISSING",
        "is in the base and gone from the head",
    ),
    "no_causal": (  # the token that is tried is not causal
        flash("no_causal"),
        flash("no_causal", "if causal: raise NotImplementedError('causal')"),
        "b1h4t64d32-causal-fp32-cpu-fwd]",
        "ERROR",
        "head refuses what the base serves: causal",
    ),
    "raises_later": (
        flash("raises_later", "if q.shape[1] > 16: raise RuntimeError('illegal memory access')"),
        flash("raises_later", "if q.shape[1] > 16: raise RuntimeError('illegal memory access')"),
        ONE,
        "ERROR",
        "head raised RuntimeError: illegal memory access",
    ),
    "lost": (ours("lost"), ours("lost", FP32), ONE, "ERROR", "head refuses what the base serves: not here"),
    "gained": (ours("gained", FP32), ours("gained"), ONE, "NEW", ""),
    "gained_wrong": (ours("gained_wrong", FP32), ours("gained_wrong", more=" * 1.01"), ONE, "DRIFTED", "out: error"),
    "refusing": (ours("refusing", "True"), ours("refusing", "True"), ONE, "SKIPPED", ""),
}


def test_kernels_from_outside_are_compared_with_the_source_of_their_own_base(
    bench: Bench, write: Callable[[str, str], Path], pytester: pytest.Pytester
) -> None:
    base = write("theirs", "".join(of_base for of_base, *_ in COMPARED.values()))
    write("theirs", "".join(of_head for _, of_head, *_ in COMPARED.values()))
    kernels = [f"--kernel=theirs:{name}" for name in COMPARED]
    chosen = " or ".join(f"[{name}- and {case}" for name, (_, _, case, *_) in COMPARED.items())
    result = bench(f"--gate-base={base}", "--gate-json=report.json", "--gate-budget=5", *kernels, case=chosen)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    cases: dict[str, list[Any]] = {name: [] for name in COMPARED}
    for case in json.loads((pytester.path / "report.json").read_text())["cases"]:
        cases[case["id"].partition("-")[0]].append(case)
    for name, (*_, verdict, reason) in COMPARED.items():
        found = [case["reasons"] or [""] for case in cases[name] if case["verdict"] == verdict]
        assert any(one.startswith(reason) for reasons in found for one in reasons), (name, cases[name])
    assert "refusing was asked for, and no case of it was compared" in "\n".join(result.outlines)


def test_a_kernel_is_checked_wherever_it_can_run_and_skipped_in_its_own_words_elsewhere(
    bench: Bench, write: Callable[[str, str], Path]
) -> None:
    with_lse = flash("with_lse", returned="out.transpose(1, 2), None")  # the log-sum-exp beside the output
    detached = flash("detached", returned="out.transpose(1, 2).detach()")
    write("theirs", flash("everywhere") + with_lse + flash("only_fp16", ONLY_FP16) + detached)
    kernels = [f"--kernel=theirs:{name}" for name in ("everywhere", "with_lse", "only_fp16", "detached")]
    case = "everywhere or b1h4t64d32"
    result = bench(*kernels, "--benchmark-disable", "-rs", "-v", case=case)
    assert result.ret == 0, result.outlines
    passed = [line.partition("[")[2].partition("-")[0] for line in result.outlines if " PASSED" in line]
    # both directions, bf16, grouped causal with fewer queries, decode
    assert passed.count("everywhere") >= 7
    assert "with_lse" in passed
    for kind in ("bool", "float"):
        assert any(f"everywhere does not support a {kind} mask" in line for line in result.outlines)
    words = "RuntimeError: FlashAttention only support fp16 and bf16 data type"
    assert any(f"only_fp16 does not support dtype torch.float32 on cpu ({words})" in line for line in result.outlines)
    assert any("only_fp16-" in line and "bf16" in line and " PASSED" in line for line in result.outlines)
    assert any("does not support a backward pass in torch.float32 on cpu (RuntimeError" in x for x in result.outlines)
    assert any(f"detached-{ONE}" in line and " PASSED" in line for line in result.outlines)


def test_a_base_that_lacks_the_kernel_is_one_sentence(
    bench: Bench, write: Callable[[str, str], Path], pytester: pytest.Pytester
) -> None:
    write("flash_attn", flash())
    other = pytester.mkdir("other")
    (other / "flash_attn.py").write_text("def another(): ...\n")
    result = bench(f"--gate-base={other}", FLASH)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert any("it cannot be imported (AttributeError" in line for line in result.errlines)


def test_a_kernel_that_refuses_every_device_here_is_a_usage_error_in_its_own_words(
    bench: Bench, write: Callable[[str, str], Path]
) -> None:
    base = write("flash_attn", flash(refuse=ONLY_CUDA))
    result = bench(f"--gate-base={base}", FLASH, "--device=cpu")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    words = "RuntimeError: FlashAttention only supports CUDA"
    assert (
        "ERROR: --kernel=flash_attn:flash_attn_func: no case can run here, since it refuses torch.float16 with head "
        f"size 64 on cpu ({words}): run where it is supported" in result.errlines
    )


def test_a_stored_baseline_holds_its_source_and_is_compared_with(
    bench: Bench, write: Callable[[str, str], Path]
) -> None:
    write("flash_attn", flash())
    assert bench(FLASH, "--benchmark-save=theirs", case=ONE).ret == 0
    same = bench("--benchmark-compare", "--gate-budget=20", FLASH, case=ONE)
    assert (same.ret, "1 UNCHANGED" in same.outlines[-1]) == (0, True)
    write("flash_attn", flash(refuse=WRONG))
    assert "1 DRIFTED" in bench("--benchmark-compare", BUDGET, FLASH, case=ONE).outlines[-1]
    ours = bench("--benchmark-compare", BUDGET, case=ONE)
    assert ours.ret == pytest.ExitCode.USAGE_ERROR
    assert any("holds no attention: store the baseline anew, with the same --kernel" in x for x in ours.errlines)


def test_a_repository_s_own_file_says_what_is_compared_and_options_override_it(
    bench: Bench, pytester: pytest.Pytester
) -> None:
    theirs = pytester.mkdir("theirs")
    text = (
        "import torch\n"
        "def mine(q, k, v, *, mask, causal, scale):\n"
        "    return torch.nn.functional.scaled_dot_product_attention(q, k, v, scale=scale)\n"
    )
    (theirs / "configured.py").write_text(text + "other = mine\n")
    (theirs / "gate.toml").write_text(
        'kernels = ["configured:mine"]\n'
        '[[row]]\ntier = "smoke"\nshapes = "b1h1t8d16"\nmasks = "full"\n'
        '[[waiver]]\ncase = "nothing-*"\nratio = 1.1\nreason = "r"\nexpires = 2999-01-01\n'
    )
    config = f"--gate-config={theirs / 'gate.toml'}"
    own = bench(config, "--benchmark-disable", "-v", case=None)
    assert own.ret == 0, own.outlines
    assert own.parseoutcomes()["passed"] == 2
    assert any("mine-b1h1t8d16-full-fp32-cpu-fwdbwd" in line for line in own.outlines)
    assert str(theirs) not in sys.path
    other = bench(config, "--kernel=configured:other", "--benchmark-disable", "-v", case=None)
    assert any("other-b1h1t8d16-full-fp32-cpu-fwdbwd" in line for line in other.outlines)
    compared = bench(config, f"--gate-base={theirs}", case=None)
    assert compared.ret == pytest.ExitCode.USAGE_ERROR
    assert "ERROR: gate.toml, line 7: 'nothing-*' matches no case: correct it, or remove the entry" in compared.errlines
