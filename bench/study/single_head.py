"""Tables A1 to A4: attention with one head, by hand, by PyTorch, and by every registered kernel."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from attention import KERNELS, reference

from .published import BY_HAND, COMPILED, LARGE, LARGE_REPETITIONS, PYTORCH, TINY, TINY_REPETITIONS
from .results import CALL_NS, CLOSE, DIFFERENCE, ERROR, MEAN_DIFFERENCE, PAIRED_NS, PROTOCOL_NS, Series
from .sampling import repeated
from .setting import Entry, Part, Setting, entry, one_by_one, time_rounds
from .subjects import Subjects, study_call, study_data

DRAWS = 200
PYTORCH_4D = "PyTorch, with a head dimension"
WARM_UP_CASE = "b1h8t128d64-{mask}-fp32-fwd"
FIRST_CALLS, PROCESSES = 30, 8  # eight is the fewest for which a 95% interval exists
PROCESS_S = 2.0  # what a fresh process takes, at the least
TIME_LIMIT_S = 120.0  # of one fresh process


def parts(device: str, subjects: Subjects) -> list[Part]:
    """Name the parts of tables A1 to A4 on a device; A1 and A2 are about a CPU."""
    found = [Part("A1", device, 2, accuracy)]
    if device == "cpu":
        found.append(Part("A2", device, 24, tiny))
    found.append(Part("A3", device, 30, large))
    # The claim is judged by hand, which gets the time for as many processes as an interval needs.
    weights = {name: 35 if name == BY_HAND else 5 for name in subjects.kernels}
    found += [Part(f"A4 {name}", device, weight, partial(first_calls, name)) for name, weight in weights.items()]
    return found


def accuracy(setting: Setting) -> Iterator[Series]:
    """A1: how far by hand is from PyTorch, and everything from the float64 oracle, over many draws of the data."""
    case = setting.case(TINY)
    draws = [study_data(seed, setting.device) for seed in range(DRAWS)]
    exact = [reference(*(t.unsqueeze(1) for t in qkv), causal=True).squeeze(1) for qkv in draws]
    theirs = [study_call(setting.subjects, PYTORCH, case, qkv).forward() for qkv in draws]
    for subject in setting.subjects.kernels:
        where = Entry("A1", subject, case, partial(study_call, setting.subjects, subject, case, draws[0]))
        for each, work in one_by_one([where], setting, ERROR):
            if isinstance(work, Series):
                yield work
                continue
            outs = [study_call(setting.subjects, subject, case, qkv).forward().view_as(qkv[0]) for qkv in draws]
            yield each.series(ERROR, [_largest(o, e) for o, e in zip(outs, exact, strict=True)])
            if subject == PYTORCH:
                continue  # it is what the others are compared with
            yield each.series(DIFFERENCE, [_largest(o, t) for o, t in zip(outs, theirs, strict=True)])
            yield each.series(MEAN_DIFFERENCE, [float((o - t).abs().mean()) for o, t in zip(outs, theirs, strict=True)])
            yield each.series(CLOSE, [float(torch.allclose(o, t)) for o, t in zip(outs, theirs, strict=True)])


def _largest(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one.double() - other.double()).abs().max())


def tiny(setting: Setting) -> Iterator[Series]:
    """A2: the tiny configuration, 50,000 calls one after another, and in interleaved rounds."""
    case, qkv = setting.case(TINY), study_data(0, setting.device)
    with_head = (qkv[0].unsqueeze(1), qkv[1].unsqueeze(1), qkv[2].unsqueeze(1))
    entries = [
        Entry("A2", subject, case, partial(study_call, setting.subjects, subject, case, qkv))
        for subject in setting.subjects.kernels
    ]
    # In three dimensions PyTorch's attention on a CPU takes its slower, unfused way.
    fused = Entry("A2", PYTORCH_4D, case, partial(study_call, setting.subjects, PYTORCH, case, with_head))
    entries.insert(2, fused)
    yield from _repeatedly(entries, setting, TINY_REPETITIONS)


def large(setting: Setting) -> Iterator[Series]:
    """A3: large matrices, 200 calls one after another, and in interleaved rounds."""
    subjects = [name for name in (BY_HAND, PYTORCH, COMPILED) if name in setting.subjects.kernels]
    case = setting.case(LARGE)
    yield from _repeatedly([entry("A3", s, case, setting.subjects) for s in subjects], setting, LARGE_REPETITIONS)
    if COMPILED not in subjects:
        reason = "was not asked for" if COMPILED in KERNELS else "no kernel of this name is registered"
        absent = entry("A3", COMPILED, case, setting.subjects)
        yield from (absent.series(quantity, missing=reason) for quantity in (PAIRED_NS, PROTOCOL_NS))


def _repeatedly(entries: list[Entry], setting: Setting, repetitions: int) -> Iterator[Series]:
    """Time the entries in rounds, and those that the study names by its protocol too, half of the time each."""
    half = replace(setting, budget_s=setting.budget_s / 2)
    yield from time_rounds(entries, half)
    theirs = [each for each in entries if each.subject in (BY_HAND, PYTORCH, COMPILED)]
    budget_s = half.budget_s / len(theirs)
    with torch.no_grad():
        for each, work in one_by_one(theirs, half, PROTOCOL_NS):
            if isinstance(work, Series):
                yield work
            else:
                yield each.series(PROTOCOL_NS, repeated(work.work, setting.clock, repetitions, budget_s))


def first_calls(subject: str, setting: Setting) -> Iterator[Series]:
    """A4: the first calls of fresh processes, one series each, as many processes as the time allows, up to eight."""
    name = WARM_UP_CASE.format(mask=setting.subjects.mask_for(subject))
    case = setting.case(name)
    end, expected_s = time.monotonic() + setting.budget_s, PROCESS_S
    for number in range(1, PROCESSES + 1):
        one = entry(f"A4 process {number}", subject, case, setting.subjects)
        start = time.monotonic()
        if start + expected_s > end:
            if number == 1:
                yield one.series(CALL_NS, missing="a fresh process takes too long for --time-limit")
            return
        command = [sys.executable, "-m", "bench.study.fresh", subject, name, setting.device]
        command += [str(FIRST_CALLS), str(torch.get_num_threads())]
        root = Path(__file__).parents[2]
        try:
            done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False, timeout=TIME_LIMIT_S)
        except subprocess.TimeoutExpired:
            yield one.series(CALL_NS, missing=f"did not end within {TIME_LIMIT_S:g} s")
            return
        if done.returncode != 0:
            yield one.series(CALL_NS, missing=(done.stderr.strip().splitlines() or ["it died"])[-1])
            return
        yield one.series(CALL_NS, json.loads(done.stdout))
        expected_s = time.monotonic() - start
