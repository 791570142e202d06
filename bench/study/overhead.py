"""``python -m bench overhead``: times the package beside PyTorch's own attention, as a Markdown table."""

import argparse
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attention import KERNELS, MultiHeadAttention

from ..judging.statistics import median
from ..plain.arguments import DEFAULT_THREADS, SECONDS, THREADS
from ..plain.collecting import no_garbage_collection
from ..report.text import ratio_of
from ..timing import environment
from ..timing.clock import Clock
from ..timing.measure import Never, burst_of, measure

KERNEL_TOKENS = (8, 16)  # below 16 keys, ``sdpa`` adds a mask to keep NaN
MODULE_SIZES = ((1, 16, 64, 4), (4, 128, 256, 4), (1, 128, 512, 8), (1, 512, 512, 8))  # batch, tokens, d_model, heads

Work = Callable[[], Tensor]


@dataclass(frozen=True)
class SameWork:
    """PyTorch's call and ours for the same work; ``leaves`` of each are what gradients are taken of, if any are."""

    name: str
    calls: tuple[Work, Work]
    leaves: tuple[list[Tensor], list[Tensor]] | None = None

    @property
    def works(self) -> list[Callable[[], object]]:
        if self.leaves is None:
            return [*self.calls]
        upstream = torch.randn_like(self.calls[0]())
        return [partial(_both_ways, *work, upstream) for work in zip(self.calls, self.leaves, strict=True)]


def add_command(commands: Any) -> None:
    """Declare ``overhead`` among the commands of the command line."""
    parser = commands.add_parser("overhead", help="compare sdpa and MultiHeadAttention with PyTorch's own")
    SECONDS.declare(parser, "--time-limit", "60", "of measuring, for all rows together")
    THREADS.declare(parser, "--threads", str(DEFAULT_THREADS), "CPU threads")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Time each comparison in pairs, all for the same time, and print a row of each."""
    environment.hold_still(options.threads)
    print("| work | PyTorch's, us a call | ours, us a call | ours / PyTorch's | 99.8% interval |")
    print("|---|---|---|---|---|")
    comparisons = [*_kernels(), *_modules()]
    budget_s, clock = options.time_limit / len(comparisons), Clock.of("cpu")
    for same in comparisons:
        with torch.set_grad_enabled(same.leaves is not None), no_garbage_collection():
            theirs, ours = (burst_of(work, clock) for work in same.works)
            taken = measure(theirs, ours, rule=Never(), budget_s=budget_s, order=random.Random(0))
        ratio, interval = ratio_of(taken.pairs)
        theirs_us = median(sorted(pair.base_ns_per_call for pair in taken.pairs)) / 1000
        print(f"| {same.name} | {theirs_us:.1f} | {theirs_us * ratio:.1f} | {ratio:.3f} | {interval} |")


def _kernels() -> Iterator[SameWork]:
    for tokens, causal in product(KERNEL_TOKENS, (False, True)):
        q, k, v = (torch.randn(1, 2, tokens, 16) for _ in range(3))
        theirs = partial(F.scaled_dot_product_attention, q, k, v, is_causal=causal)
        ours = partial(KERNELS["sdpa"], q, k, v, causal=causal)
        yield SameWork(f"sdpa, {tokens} tokens, {'causal' if causal else 'full'}", (theirs, ours))


def _modules() -> Iterator[SameWork]:
    for (batch, tokens, d_model, heads), causal in product(MODULE_SIZES, (False, True)):
        theirs = nn.MultiheadAttention(d_model, heads, batch_first=True).eval()
        ours = MultiHeadAttention(d_model, heads).eval()
        ours.load_state_dict(theirs.state_dict())
        x = torch.randn(batch, tokens, d_model, requires_grad=True)
        hidden = ~torch.ones(tokens, tokens, dtype=torch.bool).tril() if causal else None
        calls = (partial(_call_theirs, theirs, x, hidden), partial(ours, x, causal=causal))
        name = f"module, batch {batch}, {tokens} tokens, width {d_model}, {'causal' if causal else 'full'}"
        yield SameWork(f"{name}, forward", calls)
        yield SameWork(f"{name}, forward and backward", calls, ([x, *theirs.parameters()], [x, *ours.parameters()]))


def _call_theirs(module: nn.MultiheadAttention, x: Tensor, hidden: Tensor | None) -> Tensor:
    out: Tensor = module(x, x, x, need_weights=False, attn_mask=hidden, is_causal=hidden is not None)[0]
    return out


def _both_ways(call: Work, leaves: list[Tensor], upstream: Tensor) -> object:
    return torch.autograd.grad(call(), leaves, upstream)
