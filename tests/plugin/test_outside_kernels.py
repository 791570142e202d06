"""Kernels from outside the repository, in whole runs: flash_attn's signature, our own, and what is refused."""

from collections.abc import Callable
from pathlib import Path

import pytest

Bench = Callable[..., pytest.RunResult]
REPOSITORY = Path(__file__).parents[2]
BASE = (f"--gate-base={REPOSITORY}", "--gate-budget=0.2")  # whether the time is enough does not matter here
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
    seen = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool).tril({diagonal}) if causal else None
    out = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=seen, scale=softmax_scale)
    return {returned}
"""
ONLY_FP16 = "if q.dtype == torch.float32: raise RuntimeError('FlashAttention only support fp16 and bf16 data type')"
ONLY_CUDA = "if not q.is_cuda: raise RuntimeError('FlashAttention only supports CUDA\\nsecond line')"


@pytest.fixture
def flash_attn(pytester: pytest.Pytester) -> Callable[..., None]:
    """Write a module ``flash_attn`` where the inner run finds it."""

    def write(
        refuse: str = "", diagonal: str = "k.shape[2] - q.shape[2]", returned: str = "out.transpose(1, 2)"
    ) -> None:
        text = FLASH_ATTN.format(refuse=refuse, diagonal=diagonal, returned=returned)
        pytester.makepyfile(flash_attn=text)
        pytester.syspathinsert()

    return write


def test_a_kernel_of_flash_attn_s_signature_is_checked_wherever_it_can_run(
    bench: Bench, flash_attn: Callable[..., None]
) -> None:
    flash_attn()
    result = bench(FLASH, "--benchmark-disable", "-rs", case="flash_attn_func")
    assert result.ret == 0, result.outlines
    assert result.parseoutcomes()["passed"] >= 7  # both directions, bf16, grouped causal with fewer queries, decode
    for kind in ("bool", "float"):
        assert any(f"flash_attn_func does not support a {kind} mask" in line for line in result.outlines)


def test_it_is_new_against_a_base_that_is_this_very_code(bench: Bench, flash_attn: Callable[..., None]) -> None:
    flash_attn()
    case = "b1h4t64d32 and fwd] and full and (flash_attn_func or sdpa)"
    result = bench(*BASE, FLASH, case=case)
    assert result.ret == 0
    assert "1 NEW" in result.outlines[-1]


@pytest.mark.parametrize(
    ("wrong", "seen"),
    [
        ({"returned": "out.transpose(1, 2) * 1.01"}, "DRIFTED: out: error"),
        ({"diagonal": "0"}, "DRIFTED: out: error"),  # top-left, as flash_attn before version 2.1
        ({"returned": "out"}, "ERROR: head raised RuntimeError: Mismatch in shape"),  # heads before tokens
    ],
)
def test_a_wrong_kernel_from_outside_fails_the_run(
    bench: Bench, flash_attn: Callable[..., None], wrong: dict[str, str], seen: str
) -> None:
    flash_attn(**wrong)
    result = bench(*BASE, FLASH, case="flash_attn_func and t16k48 and causal or (sdpa and full and fwd])")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert seen in result.outlines[-1]


def test_a_result_with_the_log_sum_exp_is_taken_for_its_output(bench: Bench, flash_attn: Callable[..., None]) -> None:
    flash_attn(returned="out.transpose(1, 2), None")
    assert bench(FLASH, "--benchmark-disable", case="flash_attn_func and full").ret == 0


def test_a_dtype_that_it_refuses_is_skipped_in_its_own_words(bench: Bench, flash_attn: Callable[..., None]) -> None:
    flash_attn(ONLY_FP16)
    result = bench(FLASH, "--benchmark-disable", "-rs", case="flash_attn_func and b1h4t64d32 and fwd]")
    assert result.ret == 0
    assert result.parseoutcomes()["passed"] == 1  # bf16
    words = "RuntimeError: FlashAttention only support fp16 and bf16 data type"
    assert any(f"it refuses torch.float32 with head size 32 on cpu ({words})" in line for line in result.outlines)


def test_a_backward_pass_that_it_does_not_have_is_skipped(bench: Bench, flash_attn: Callable[..., None]) -> None:
    flash_attn(returned="out.transpose(1, 2).detach()")
    result = bench(FLASH, "--benchmark-disable", "-rs", case="flash_attn_func and b1h4t64d32 and full and fp32")
    assert result.ret == 0
    assert result.parseoutcomes()["passed"] == 1  # fwd
    assert any("it refuses a backward pass in torch.float32 with head size 32 on cpu (Ru" in x for x in result.outlines)


def test_a_kernel_that_refuses_every_device_here_is_a_usage_error_in_its_own_words(
    bench: Bench, flash_attn: Callable[..., None]
) -> None:
    flash_attn(ONLY_CUDA)
    result = bench(*BASE, FLASH, "--device=cpu")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    words = "RuntimeError: FlashAttention only supports CUDA"
    assert (
        "ERROR: --kernel=flash_attn:flash_attn_func: no case can run here, since it refuses torch.float16 with head "
        f"size 64 on cpu ({words}): run where it is supported" in result.errlines
    )


def test_a_kernel_that_serves_a_token_and_then_raises_is_an_error(
    bench: Bench, flash_attn: Callable[..., None]
) -> None:
    flash_attn("if q.shape[1] > 16: raise RuntimeError('illegal memory access')")
    result = bench(*BASE, FLASH, case="flash_attn_func-b1h4t64d32-full-fp32-cpu-fwd]")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert "head raised RuntimeError: illegal memory access" in result.outlines[-1]


def test_a_baseline_stored_with_an_outside_kernel_serves_without_it(
    bench: Bench, flash_attn: Callable[..., None]
) -> None:
    flash_attn()
    case = "b1h4t64d32 and full and fwd] and fp32 and (flash_attn_func or sdpa)"
    assert bench(FLASH, "--benchmark-save=both", case=case).ret == 0
    without, with_it = (bench("--benchmark-compare", "--gate-budget=0.2", *more, case=case) for more in ((), (FLASH,)))
    assert (without.ret, with_it.ret) == (0, 0)  # nothing is MISSING
    assert "NEW" not in without.outlines[-1]
    assert "1 NEW" in with_it.outlines[-1]


def test_another_signature_is_a_usage_error(bench: Bench, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(outside="def mine(q, k, v, is_causal=False): ...")
    pytester.syspathinsert()
    result = bench("--kernel=outside:mine")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert any("its signature is mine(q, k, v, is_causal=False): wrap it as" in line for line in result.errlines)
