"""Silent faults: edits of a head that a gate could miss, one of each kind, each tried by a whole run of the gate.

Each is planted in a copy of the suite, in a kernel of its own, ``probe``; the base is that kernel without the edit.
"""

import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import indent

from ..sides.what import PACKAGE

SUITE = ("bench", "conftest.py", "pyproject.toml")
CASES = "probe and (b1h4t64d32-full-fp32 or large)"

KERNEL = """
import torch
from torch.nn import functional as F

from .registry import Capabilities, register

{before}

@register("probe", Capabilities(masks=frozenset(), causal=False, grouped=False, value_size=False))
def probe(q, k, v, *, mask, causal, scale):
    scale = q.shape[-1] ** -0.5 if scale is None else scale
{call}
"""
PLAIN = "return torch.softmax((q @ k.mT) * scale, -1) @ v"
OPERATOR = """
@torch.library.custom_op("probe_ops::attend", mutates_args=())
def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float) -> torch.Tensor:
    {more}
    return torch.softmax((q @ k.mT) * scale, -1) @ v{times}

attend.register_fake(lambda q, k, v, scale: torch.empty_like(q))

def setup_context(ctx, inputs, output):
    ctx.save_for_backward(*inputs[:3])
    ctx.scale = inputs[3]

def backward(ctx, gradient):
    with torch.enable_grad():
        leaves = [t.detach().requires_grad_() for t in ctx.saved_tensors]
        q, k, v = leaves
        out = torch.softmax((q @ k.mT) * ctx.scale, -1) @ v
        return (*torch.autograd.grad(out, leaves, gradient), None)

attend.register_autograd(backward, setup_context=setup_context)
"""
SLOWER = "for _ in range(3): torch.softmax((q @ k.mT) * scale, -1)"
BY_NAME = "return torch.ops.probe_ops.attend(q, k, v, scale)"


@dataclass(frozen=True)
class Fault:
    """An edit: what the kernel's file and files beside it hold in base and in head, and what the gate must say."""

    kind: str
    said: str
    head_call: str = PLAIN
    base_call: str = PLAIN
    head_before: str = ""
    base_before: str = ""
    head_files: Mapping[str, str] = field(default_factory=dict)
    base_files: Mapping[str, str] = field(default_factory=dict)


def _operator(kind: str, said: str, more: str = "pass", times: str = "") -> Fault:
    before, after = (OPERATOR.format(more=m, times=t) for m, t in (("pass", ""), (more, times)))
    return Fault(kind, said, BY_NAME, BY_NAME, after, before)


def _file(kind: str, said: str, call: str, files: tuple[str, str, str], before: str = "") -> Fault:
    """A file by its name, with what it holds in base and in head; the kernel's file uses it."""
    name, base, head = files
    return Fault(kind, said, call, call, before, before, {name: head}, {name: base})


FAULTS = (
    _operator("a custom operator made slower", "REGRESSED", more=SLOWER),
    _operator("a custom operator off by 1%", "DRIFTED", times=" * 1.01"),
    Fault(
        "a function of torch replaced by a slower one",
        "REGRESSED",
        head_before="plain = torch.softmax\ntorch.softmax = lambda *a: [plain(*a) for _ in range(9)][0]\n",
    ),
    Fault(
        "a clock that hides half of the time",
        "REGRESSED",
        f"{SLOWER}\n{PLAIN}",
        head_before="import time\ntrue = time.perf_counter_ns\ntime.perf_counter_ns = lambda: true() // 9\n",
    ),
    Fault("a switch of torch turned in the call", "DRIFTED", f"torch.set_autocast_enabled('cpu', True)\n{PLAIN}"),
    Fault(
        "a crash in a later call",
        "by signal 6 (SIGABRT)",
        f"CALLS.append(None)\nif len(CALLS) > 60: os.abort()\n{PLAIN}",
        head_before="import os\nCALLS = []",
    ),
    _file(
        "a module found by its name at the call",
        "DRIFTED",
        f"import importlib\n{PLAIN} * importlib.import_module('attention.probe_factor').FACTOR",
        ("attention/probe_factor.py", "FACTOR = 1.0\n", "FACTOR = 1.01\n"),
    ),
    _file(
        "a resource of the package",
        "DRIFTED",
        f"from importlib.resources import files\n{PLAIN} * float(files('attention').joinpath('probe.txt').read_text())",
        ("attention/probe.txt", "1.0\n", "1.01\n"),
    ),
    _file(
        "a module beside the package",
        "REGRESSED",
        f"probe_beside.work(q)\n{PLAIN}",
        ("probe_beside.py", "def work(q): pass\n", "def work(q): [q @ q.mT for _ in range(9)]\n"),
        "import probe_beside",
    ),
    Fault(
        "a result kept by the address of its inputs",
        "earlier inputs",
        "key = q.data_ptr(), k.data_ptr(), v.data_ptr(), torch.is_grad_enabled()\n"
        "if key not in KEPT:\n    KEPT[key] = torch.softmax((q @ k.mT) * scale, -1) @ v\nreturn KEPT[key]",
        head_before="KEPT = {}",
    ),
    Fault(
        "a tensor kept at each call",
        "a call alive",
        "KEPT.append(q @ k.mT)\nreturn torch.softmax(KEPT[-1] * scale, -1) @ v",
        head_before="KEPT = []",
    ),
    Fault(
        "an output that the next call overwrites",
        "overwrites",
        "out = torch.softmax((q @ k.mT) * scale, -1) @ v\n"
        "if torch.is_grad_enabled():\n    return out\n"
        "BUFFER.setdefault(out.shape, torch.empty_like(out)).copy_(out)\nreturn BUFFER[out.shape]",
        head_before="BUFFER = {}",
    ),
    Fault(
        "memory that nobody wrote",
        "nobody wrote",
        "scores = (q @ k.mT) * scale\nlow = scores.new_empty(1).clamp(-1e-38, 1e-38)\n"
        "return torch.softmax(scores + torch.nan_to_num(low, nan=1.0), -1) @ v + low",
    ),
    Fault(
        "softmax without its maximum",
        "DRIFTED",
        "weights = torch.exp((q @ k.mT) * scale)\nreturn (weights / weights.sum(-1, keepdim=True)) @ v",
    ),
)


@dataclass(frozen=True)
class Trial:
    """What the gate said of a fault. It was caught if the run did not pass, and named the fault."""

    fault: Fault
    exit_code: int
    said: str

    @property
    def caught(self) -> bool:
        return self.exit_code in (1, 4) and self.fault.said in self.said


def copy_suite(suite: Path, place: Path) -> None:
    """Copy the gate, without its documents, to a directory that will hold a package for it to measure."""
    for name in SUITE:
        if (suite / name).is_dir():
            shutil.copytree(suite / name, place / name, ignore=shutil.ignore_patterns("__pycache__", "docs"))
        else:
            shutil.copy(suite / name, place / name)


def attempt(fault: Fault, suite: Path, scratch: Path, cases: str = CASES) -> Trial:
    """Plant a fault in a copy of the suite in a scratch directory, and run the gate on it."""
    for label, before, call, files in (
        ("base", fault.base_before, fault.base_call, fault.base_files),
        ("head", fault.head_before, fault.head_call, fault.head_files),
    ):
        root = scratch / label
        shutil.copytree(suite / PACKAGE, root / PACKAGE, ignore=shutil.ignore_patterns("__pycache__"))
        text = KERNEL.format(before=before, call=indent(call, "    "))
        for name, content in {**files, f"{PACKAGE}/probe.py": text}.items():
            (root / name).write_text(content, encoding="utf-8")
    copy_suite(suite, scratch / "head")
    pytest = [sys.executable, "-m", "pytest", "bench/", "--tier=smoke", "-q"]
    done = subprocess.run(
        [*pytest, "-k", cases, f"--gate-base={scratch / 'base'}"],
        cwd=scratch / "head",
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    return Trial(fault, done.returncode, done.stdout + done.stderr)
