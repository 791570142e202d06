"""``python -m bench overhead``: times the package beside PyTorch's own attention, as a Markdown table."""

import argparse
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import exp
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attention import KERNELS, MultiHeadAttention

from ..judging.statistics import confidence_interval, median
from ..plain.arguments import DEFAULT_THREADS, SECONDS, THREADS
from ..plain.collecting import no_garbage_collection
from ..plain.evidence import Measurement
from ..timing.clock import Clock
from ..timing.machine import steady_allocator
from ..timing.measure import Never, burst_of, measure

LEVEL = 0.001  # of the intervals, each end
KERNEL_TOKENS = (8, 16)  # below 16 keys, ``sdpa`` adds a mask to keep NaN
MODULE_SIZES = ((1, 16, 64, 4), (4, 128, 256, 4), (1, 128, 512, 8), (1, 512, 512, 8))  # batch, tokens, d_model, heads


@dataclass(frozen=True)
class SameWork:
    """Our call and PyTorch's for the same work."""

    name: str
    theirs: Callable[[], object]
    ours: Callable[[], object]
    backward: bool


def add_command(commands: Any) -> None:
    """Declare ``overhead`` among the commands of the command line."""
    parser = commands.add_parser("overhead", help="compare sdpa and MultiHeadAttention with PyTorch's own")
    SECONDS.declare(parser, "--time-limit", "60", "of measuring, for all rows together")
    THREADS.declare(parser, "--threads", str(DEFAULT_THREADS), "CPU threads")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Time each comparison in pairs, all for the same time, and print a row of each."""
    torch.set_num_threads(options.threads)
    steady_allocator()
    print("| work | PyTorch's, us a call | ours, us a call | ours / PyTorch's | 99.8% interval |")
    print("|---|---|---|---|---|")
    comparisons = [*_kernels(), *_modules()]
    for comparison in comparisons:
        theirs, ours = (burst_of(work, Clock.of("cpu")) for work in (comparison.theirs, comparison.ours))
        with torch.set_grad_enabled(comparison.backward), no_garbage_collection():
            measurement = measure(
                theirs,
                ours,
                rule=Never(),
                budget_s=options.time_limit / len(comparisons),
                order=random.Random(0),
            )
        print(_row(comparison.name, measurement))


def _row(name: str, measurement: Measurement) -> str:
    ordered = sorted(pair.log_ratio for pair in measurement.pairs)
    interval = confidence_interval(ordered, LEVEL)
    ends = ["?" if end is None else f"{exp(end):.3f}" for end in (interval.low, interval.high)]
    theirs_us = median(sorted(pair.base_ns_per_call for pair in measurement.pairs)) / 1000
    ratio = exp(median(ordered))
    return f"| {name} | {theirs_us:.1f} | {theirs_us * ratio:.1f} | {ratio:.3f} | [{', '.join(ends)}] |"


def _kernels() -> list[SameWork]:
    ours = KERNELS["sdpa"]
    rows = []
    for tokens in KERNEL_TOKENS:
        q, k, v = (torch.randn(1, 2, tokens, 16) for _ in range(3))
        for causal in (False, True):
            theirs = partial(F.scaled_dot_product_attention, q, k, v, is_causal=causal)
            name = f"sdpa, {tokens} tokens, {'causal' if causal else 'full'}"
            rows.append(SameWork(name, theirs, partial(ours, q, k, v, causal=causal), backward=False))
    return rows


def _modules() -> list[SameWork]:
    rows = []
    for batch, tokens, d_model, heads in MODULE_SIZES:
        theirs = nn.MultiheadAttention(d_model, heads, batch_first=True).eval()
        ours = MultiHeadAttention(d_model, heads).eval()
        ours.load_state_dict(theirs.state_dict())
        x = torch.randn(batch, tokens, d_model, requires_grad=True)
        upstream = torch.randn(batch, tokens, d_model)
        for causal in (False, True):
            hidden = ~torch.ones(tokens, tokens, dtype=torch.bool).tril() if causal else None
            calls = _module_calls(theirs, ours, x, hidden)
            name = f"module, batch {batch}, {tokens} tokens, width {d_model}, {'causal' if causal else 'full'}"
            rows.append(SameWork(f"{name}, forward", *calls, backward=False))
            leaves = [[x, *module.parameters()] for module in (theirs, ours)]
            theirs_both, ours_both = (
                _with_backward(call, of, upstream) for call, of in zip(calls, leaves, strict=True)
            )
            rows.append(SameWork(f"{name}, forward and backward", theirs_both, ours_both, backward=True))
    return rows


def _module_calls(
    theirs: nn.MultiheadAttention, ours: MultiHeadAttention, x: Tensor, hidden: Tensor | None
) -> tuple[Callable[[], Tensor], Callable[[], Tensor]]:
    causal = hidden is not None

    def call_theirs() -> Tensor:
        out: Tensor = theirs(x, x, x, need_weights=False, attn_mask=hidden, is_causal=causal)[0]
        return out

    def call_ours() -> Tensor:
        out: Tensor = ours(x, causal=causal)
        return out

    return call_theirs, call_ours


def _with_backward(call: Callable[[], Tensor], leaves: list[Tensor], upstream: Tensor) -> Callable[[], object]:
    return lambda: torch.autograd.grad(call(), leaves, upstream)
