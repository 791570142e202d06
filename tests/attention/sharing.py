"""What ``test_parallel.py`` runs in two processes: shared-out attention against its module, and then the launcher."""

import re
import runpy
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, distributed
from torch.distributed.device_mesh import init_device_mesh

from attention import MultiHeadAttention, TensorParallelAttention, tensor_parallel

TOKENS, D_MODEL, HEADS = 7, 32, 4


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def module(kv_heads: int, kernel: str, *, bias: bool) -> MultiHeadAttention:
    built = MultiHeadAttention(D_MODEL, HEADS, n_kv_heads=kv_heads, kernel=kernel, bias=bias).double()
    for seed, parameter in enumerate(built.parameters()):
        parameter.data = normal(*parameter.shape, seed=seed)
    return built


def assert_same(got: Tensor, want: Tensor) -> None:
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)


def check_outputs_and_gradients(whole: MultiHeadAttention, share: TensorParallelAttention, mask: Tensor | None) -> None:
    x, upstream = normal(2, TOKENS, D_MODEL, seed=7), normal(2, TOKENS, D_MODEL, seed=8)
    xs = [x.clone().requires_grad_() for _ in range(2)]
    outs = []
    for built, own in zip((whole, share), xs, strict=True):
        built.zero_grad()
        outs.append(built(own, mask=mask, causal=mask is None))
        outs[-1].backward(upstream)
    assert_same(outs[1], outs[0])
    assert xs[0].grad is not None
    assert xs[1].grad is not None
    assert_same(xs[1].grad, xs[0].grad)
    gathered = share.gather(gradients=True)
    assert set(gathered) == set(whole.state_dict())
    for name, parameter in whole.named_parameters():
        assert parameter.grad is not None
        assert_same(gathered[name], parameter.grad)


@torch.no_grad()
def check_decoding(whole: MultiHeadAttention, share: TensorParallelAttention) -> None:
    x = normal(2, TOKENS, D_MODEL, seed=9)
    cache = share.make_cache(2, TOKENS)
    assert cache.keys.shape[1] == whole.n_kv_heads // distributed.get_world_size()
    parts = [share(part, causal=True, cache=cache) for part in x.split([4, 2, 1], dim=1)]
    assert_same(torch.cat(parts, dim=1), whole(x, causal=True))


def check_refusals(share: TensorParallelAttention) -> None:
    x = normal(2, TOKENS, D_MODEL, seed=7)
    for mask, expected, words in (
        (torch.ones(2, TOKENS, TOKENS).bool(), ValueError, "mask must broadcast to (B, Hq, Tq, Tk) = (2, 4, 7, 7)"),
        (normal(TOKENS, TOKENS, seed=1).requires_grad_(), NotImplementedError, "a mask that requires a gradient"),
    ):
        with pytest.raises(expected, match=re.escape(words)):
            share(x, mask=mask)


def check(meeting_place: Path, rank: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=meeting_place.as_uri(), rank=int(rank), world_size=2)
    mesh = init_device_mesh("cpu", (2,))
    masks = [None, normal(2, HEADS, TOKENS, TOKENS, seed=5) > -0.5, normal(HEADS, TOKENS, TOKENS, seed=6)]
    for kv_heads, kernel, bias in ((HEADS, "sdpa", False), (2, "masked", True)):
        whole = module(kv_heads, kernel, bias=bias)
        before = {name: t.clone() for name, t in whole.state_dict().items()}
        share = tensor_parallel(whole, mesh)
        for mask in masks:
            check_outputs_and_gradients(whole, share, mask)
        check_decoding(whole, share)
        for name, tensor in share.gather().items():
            assert torch.equal(tensor, before[name])
            assert torch.equal(whole.state_dict()[name], before[name])
    check_refusals(share)
    distributed.destroy_process_group()


def launch(meeting_place: Path) -> None:
    sys.argv[1:] = ["--shapes", "b1h4kv2t16d8", "--pairs=3", f"--init={meeting_place.as_uri()}"]
    runpy.run_module("bench.study.tensor_parallel", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    directory = Path(sys.argv[1])
    check(directory / "sharing", sys.argv[2])
    launch(directory / "launcher")
