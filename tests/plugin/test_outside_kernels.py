"""Kernels from outside the repository, in whole runs: flash_attn's signature, our own, and what is refused."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

Bench = Callable[..., pytest.RunResult]
REPOSITORY = Path(__file__).parents[2]
BUDGET = "--gate-budget=0.2"  # whether the time is enough does not matter here
FLASH = "--kernel=flash_attn:flash_attn_func"

# The signature and layout of flash_attn_func 2.8, by PyTorch; bottom-right causal, as it is since version 2.1.
FLASH_ATTN = """
import torch

def flash_attn_func(
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
SLOWER = "[q * q for _ in range(20)]"
ONLY_FP16 = "if q.dtype == torch.float32: raise RuntimeError('FlashAttention only support fp16 and bf16 data type')"
ONLY_CUDA = "if not q.is_cuda: raise RuntimeError('FlashAttention only supports CUDA\\nsecond line')"


@pytest.fixture
def flash_attn(pytester: pytest.Pytester) -> Iterator[Callable[..., Path]]:
    """Write a module ``flash_attn`` where the inner run finds it; returns a folder with the first that was written."""

    def write(
        refuse: str = "", diagonal: str = "k.shape[2] - q.shape[2]", returned: str = "out.transpose(1, 2)"
    ) -> Path:
        text = FLASH_ATTN.format(refuse=refuse, diagonal=diagonal, returned=returned)
        pytester.makepyfile(flash_attn=text)
        pytester.syspathinsert()
        sys.modules.pop("flash_attn", None)
        base = pytester.path / "base"
        if not base.exists():  # the first that is written
            base.mkdir()
            (base / "flash_attn.py").write_text(text)
        return base

    yield write
    sys.modules.pop("flash_attn", None)
    sys.modules.pop("refusing", None)


def test_a_kernel_of_flash_attn_s_signature_is_checked_wherever_it_can_run(
    bench: Bench, flash_attn: Callable[..., Path]
) -> None:
    flash_attn()
    result = bench(FLASH, "--benchmark-disable", "-rs", case="flash_attn_func")
    assert result.ret == 0, result.outlines
    assert result.parseoutcomes()["passed"] >= 7  # both directions, bf16, grouped causal with fewer queries, decode
    for kind in ("bool", "float"):
        assert any(f"flash_attn_func does not support a {kind} mask" in line for line in result.outlines)


def test_it_alone_is_compared_with_the_source_of_its_own_base(
    bench: Bench, flash_attn: Callable[..., Path], pytester: pytest.Pytester
) -> None:
    base = flash_attn()
    result = bench(f"--gate-base={base}", "--gate-budget=20", FLASH, case="b1h4t64d32-full-fp32-cpu-fwd]")
    assert result.ret == 0, result.outlines
    assert "gate: PASS, no slowdown of 5% and no drift in 1 case (1 UNCHANGED)" in result.outlines[-1]


@pytest.mark.parametrize(
    ("edit", "verdict"),
    [
        (SLOWER, "REGRESSED"),
        ("v = v * 1.01", "DRIFTED"),
    ],
)
def test_a_head_that_is_slower_or_wrong_fails_against_it(
    bench: Bench, flash_attn: Callable[..., Path], edit: str, verdict: str
) -> None:
    base = flash_attn()
    flash_attn(edit)
    result = bench(f"--gate-base={base}", "--gate-budget=20", FLASH, case="b1h4t64d32-full-fp32-cpu-fwd]")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert f"gate: FAIL (1 {verdict})" in result.outlines[-1]


def test_a_base_that_lacks_the_kernel_is_one_sentence(
    bench: Bench, flash_attn: Callable[..., Path], pytester: pytest.Pytester
) -> None:
    flash_attn()
    other = pytester.mkdir("other")
    (other / "flash_attn.py").write_text("def another(): ...\n")
    result = bench(f"--gate-base={other}", FLASH)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert any("it cannot be imported (AttributeError" in line for line in result.errlines)
    empty = pytester.mkdir("empty")
    result = bench(f"--gate-base={empty}", FLASH)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert any("holds no flash_attn/__init__.py" in line for line in result.errlines)


def test_a_kernel_that_was_asked_for_and_is_skipped_everywhere_is_no_pass(
    bench: Bench, flash_attn: Callable[..., Path], pytester: pytest.Pytester
) -> None:
    base = flash_attn()
    for folder in (pytester.path, base):
        (folder / "refusing.py").write_text(
            "def refusing(q, k, v, *, mask, causal, scale): raise NotImplementedError('anything')\n"
        )
    more = ("--kernel=refusing:refusing", "--gate-budget=20")
    result = bench(f"--gate-base={base}", FLASH, *more, case="b1h4t64d32-full-fp32-cpu-fwd]")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert "refusing was asked for, and no case of it was compared" in "\n".join(result.outlines)


@pytest.mark.parametrize(
    ("wrong", "seen"),
    [
        ({"returned": "out.transpose(1, 2) * 1.01"}, "DRIFTED: out: error"),
        ({"diagonal": "0"}, "DRIFTED: out: error"),  # top-left, as flash_attn before version 2.1
        ({"returned": "out"}, "ERROR: head raised RuntimeError: Mismatch in shape"),  # heads before tokens
    ],
)
def test_a_wrong_kernel_from_outside_fails_the_run(
    bench: Bench, flash_attn: Callable[..., Path], wrong: dict[str, str], seen: str
) -> None:
    base = flash_attn()
    flash_attn(**wrong)
    result = bench(f"--gate-base={base}", BUDGET, FLASH, case="flash_attn_func and t16k48 and causal")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert seen in result.outlines[-1]


def test_a_result_with_the_log_sum_exp_is_taken_for_its_output(bench: Bench, flash_attn: Callable[..., Path]) -> None:
    flash_attn(returned="out.transpose(1, 2), None")
    assert bench(FLASH, "--benchmark-disable", case="flash_attn_func and full").ret == 0


def test_a_dtype_that_it_refuses_is_skipped_in_its_own_words(bench: Bench, flash_attn: Callable[..., Path]) -> None:
    flash_attn(ONLY_FP16)
    result = bench(FLASH, "--benchmark-disable", "-rs", case="flash_attn_func and b1h4t64d32 and fwd]")
    assert result.ret == 0
    assert result.parseoutcomes()["passed"] == 1  # bf16
    words = "RuntimeError: FlashAttention only support fp16 and bf16 data type"
    assert any(f"does not support dtype torch.float32 on cpu ({words})" in line for line in result.outlines)


def test_a_backward_pass_that_it_does_not_have_is_skipped(bench: Bench, flash_attn: Callable[..., Path]) -> None:
    flash_attn(returned="out.transpose(1, 2).detach()")
    result = bench(FLASH, "--benchmark-disable", "-rs", case="flash_attn_func and b1h4t64d32 and full and fp32")
    assert result.ret == 0
    assert result.parseoutcomes()["passed"] == 1  # fwd
    assert any("does not support a backward pass in torch.float32 on cpu (RuntimeError" in x for x in result.outlines)


@pytest.mark.parametrize(
    ("edit", "seen"),
    [
        (ONLY_FP16, "MISSING: is in the base and gone from the head"),
        ("if q.dtype == torch.float32 and q.requires_grad: raise ValueError", "MISSING: is in the base and gone"),
        # The token that is tried is not causal.
        ("if causal: raise NotImplementedError('causal')", "ERROR: head refuses what the base serves: causal"),
    ],
)
def test_what_the_base_takes_and_the_head_refuses_fails_the_run_and_is_not_skipped(
    bench: Bench, flash_attn: Callable[..., Path], edit: str, seen: str
) -> None:
    base = flash_attn()
    flash_attn(edit)
    chosen = "flash_attn_func-b1h4t64d32 or flash_attn_func-b2h4t64d64transposed"
    result = bench(f"--gate-base={base}", BUDGET, FLASH, case=chosen)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert seen in result.outlines[-1]


def test_a_dtype_that_a_kernel_of_our_signature_loses_is_an_error_and_one_that_it_gains_is_checked(
    bench: Bench, pytester: pytest.Pytester
) -> None:
    text = (
        "import torch\n"
        "def mine(q, k, v, *, mask, causal, scale):\n"
        "    if {condition}: raise NotImplementedError('not here')\n"
        "    return torch.nn.functional.scaled_dot_product_attention(q, k, v, scale=scale){more}\n"
    )
    refusing, base, head = "q.dtype == torch.float32", pytester.mkdir("base"), pytester.path
    config = head / "gate.toml"
    config.write_text(
        'kernels = ["half:mine"]\n[[row]]\ntier = "smoke"\nshapes = "b1h1t8d16"\nmasks = "full"\ndtypes = "fp32 bf16"\n'
        'directions = "fwd"\n'
    )

    def closing(of_base: str, of_head: str, more: str = "") -> str:
        (base / "half.py").write_text(text.format(condition=of_base, more=""))
        (head / "half.py").write_text(text.format(condition=of_head, more=more))
        sys.modules.pop("half", None)
        return str(bench(f"--gate-config={config}", f"--gate-base={base}", BUDGET, case=None).outlines[-1])

    lost = closing("False", refusing)
    assert "worst: mine-b1h1t8d16-full-fp32-cpu-fwd ERROR: head refuses what the base serves: not here" in lost
    assert "1 NEW" in closing(refusing, "False")
    assert "mine-b1h1t8d16-full-fp32-cpu-fwd DRIFTED" in closing(
        refusing, "False", " * (1 + (q.dtype == torch.float32))"
    )


def test_a_kernel_that_refuses_every_device_here_is_a_usage_error_in_its_own_words(
    bench: Bench, flash_attn: Callable[..., Path]
) -> None:
    base = flash_attn(ONLY_CUDA)
    result = bench(f"--gate-base={base}", FLASH, "--device=cpu")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    words = "RuntimeError: FlashAttention only supports CUDA"
    assert (
        "ERROR: --kernel=flash_attn:flash_attn_func: no case can run here, since it refuses torch.float16 with head "
        f"size 64 on cpu ({words}): run where it is supported" in result.errlines
    )


def test_a_kernel_that_serves_a_token_and_then_raises_is_an_error(
    bench: Bench, flash_attn: Callable[..., Path]
) -> None:
    base = flash_attn("if q.shape[1] > 16: raise RuntimeError('illegal memory access')")
    result = bench(f"--gate-base={base}", BUDGET, FLASH, case="flash_attn_func-b1h4t64d32-full-fp32-cpu-fwd]")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert "head raised RuntimeError: illegal memory access" in result.outlines[-1]


def test_a_stored_baseline_holds_its_source_and_is_compared_with(bench: Bench, flash_attn: Callable[..., Path]) -> None:
    flash_attn()
    case = "b1h4t64d32-full-fp32-cpu-fwd]"
    assert bench(FLASH, "--benchmark-save=theirs", case=case).ret == 0
    same = bench("--benchmark-compare", "--gate-budget=20", FLASH, case=case)
    assert (same.ret, "1 UNCHANGED" in same.outlines[-1]) == (0, True)
    flash_attn("v = v * 1.01")
    assert "1 DRIFTED" in bench("--benchmark-compare", BUDGET, FLASH, case=case).outlines[-1]
    ours = bench("--benchmark-compare", BUDGET, case=case)
    assert ours.ret == pytest.ExitCode.USAGE_ERROR
    assert any("holds no attention: store the baseline anew, with the same --kernel" in x for x in ours.errlines)


def test_another_signature_is_a_usage_error(bench: Bench, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(outside="def mine(q, k, v, is_causal=False): ...")
    pytester.syspathinsert()
    result = bench("--kernel=outside:mine")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert any("its signature is mine(q, k, v, is_causal=False): wrap it as" in line for line in result.errlines)


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


def test_a_file_without_kernels_is_one_sentence(bench: Bench, pytester: pytest.Pytester) -> None:
    (pytester.path / "gate.toml").write_text("sources = []\n")
    result = bench("--gate-config=gate.toml")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "ERROR: gate.toml names no kernels: give kernels = [...] there, or --kernel=PKG.MOD:FN" in result.errlines
