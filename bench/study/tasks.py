"""What some parts measure in a way of their own: accuracy, the first calls of a process, errors, long context."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from attention import reference

from ..checking import drift
from ..checking.fingerprint import fingerprint
from ..sides.workload import build
from .measuring import Entry, Setting, one_by_one, ready, time_rounds, within_time
from .published import BY_HAND, PYTORCH
from .results import NotMeasured, Quantity, Series
from .subjects import SIDE, call, study_data

DRAWS = 200
FIRST_CALLS, PROCESSES = 30, 8  # eight is the fewest for which a 95% interval exists
PROCESS_S, TIME_LIMIT_S = 2.0, 120.0  # what a fresh process takes, at the least, and may take
ROOT = Path(__file__).parents[2]


def accuracy(entries: Sequence[Entry], setting: Setting) -> Iterator[Series]:
    """A1: how far everything is from PyTorch and from the float64 oracle, over many draws of the study's data."""
    device = entries[0].case.device
    exact = [reference(*(t.unsqueeze(1) for t in study_data(seed, device)), causal=True) for seed in range(DRAWS)]
    outs: dict[str, list[torch.Tensor]] = {}
    for entry in entries:
        try:
            ready(entry, setting)
        except NotMeasured as reason:
            yield entry.series(Quantity.ERROR, missing=str(reason))
            continue
        outs[entry.case.subject] = [call(entry.case, seed).forward().view(exact[0].shape) for seed in range(DRAWS)]
        pairs = list(zip(outs[entry.case.subject], exact, strict=True))
        yield entry.series(Quantity.ERROR, [float((o - e).abs().max()) for o, e in pairs])
    for entry in (e for e in entries if e.case.subject in outs.keys() - {PYTORCH}):
        pairs = list(zip(outs[entry.case.subject], outs[PYTORCH], strict=True))
        yield entry.series(Quantity.MEAN_DIFFERENCE, [float((o - p).abs().mean()) for o, p in pairs])
        if entry.case.subject == BY_HAND:
            yield entry.series(Quantity.DIFFERENCE, [float((o - p).abs().max()) for o, p in pairs])
            yield entry.series(Quantity.CLOSE, [float(torch.allclose(o, p)) for o, p in pairs])


def first_calls(entries: Sequence[Entry], setting: Setting) -> Iterator[Series]:
    """A4: the first calls of fresh processes, one series each, as many processes as the time allows, up to eight."""
    (entry,) = entries
    words = [entry.case.subject, entry.name, entry.case.device, str(FIRST_CALLS), str(torch.get_num_threads())]
    end, expected_s = time.monotonic() + setting.budget_s, PROCESS_S
    for number in range(PROCESSES):
        start = time.monotonic()
        if start + expected_s > end:
            if number == 0:
                yield entry.series(Quantity.CALL_NS, missing="a fresh process takes too long for --budget")
            return
        try:
            yield entry.series(Quantity.CALL_NS, _in_fresh_process(words))
        except NotMeasured as reason:
            yield entry.series(Quantity.CALL_NS, missing=str(reason))
            return
        expected_s = time.monotonic() - start


def _in_fresh_process(words: Sequence[str]) -> list[float]:
    command = [sys.executable, "-m", "bench.study.fresh", *words]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=TIME_LIMIT_S)
    except subprocess.TimeoutExpired:
        raise NotMeasured(f"did not end within {TIME_LIMIT_S:g} s") from None
    if done.returncode != 0:
        raise NotMeasured((done.stderr.strip().splitlines() or ["it died"])[-1])
    times: list[float] = json.loads(done.stdout)
    return times


def speed_and_error(entries: Sequence[Entry], setting: Setting) -> Iterator[Series]:
    """Time every kernel on the same inputs, in the same rounds, and hold its output to the float64 oracle."""
    yield from time_rounds(entries, setting)
    exact = drift.oracle(build(entries[0].case, SIDE))["out"]
    yield from one_by_one(
        entries, setting, Quantity.ERROR, lambda entry, _: [float((call(entry.case).forward() - exact).abs().max())]
    )


def long_context(entries: Sequence[Entry], setting: Setting) -> Iterator[Series]:
    """Measure the peak of a single call, unless earlier parts say that there is no time for it."""
    (entry,) = entries
    try:
        within_time(entry.case, setting.budget_s, setting.found)
    except NotMeasured as reason:
        yield entry.series(Quantity.PEAK_BYTES, missing=str(reason))
    else:
        peak = fingerprint(call(entry.case), device=entry.case.device).peak_bytes
        yield entry.series(Quantity.PEAK_BYTES, [float(peak)])
