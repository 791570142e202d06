"""Realistic edits that leave the outputs right and cost dear: the fingerprint alone catches or notes every one."""

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import attention
from bench.judging.fingerprint_diff import compare
from bench.sources.source import Source
from bench.sources.target import ATTENTION
from bench.suite import code
from bench.suite.base import Base
from bench.suite.cases import Case
from bench.suite.forked import Twins, starts_of, twins
from bench.suite.gate import Gate
from bench.suite.worker import Start

PACKAGE = Path(attention.__file__ or "").parent

COMPILED = '''\
"""A compiled kernel; the backend that only traces is enough to break a graph, and quick."""

import torch

from .registry import Capabilities, register


def formula(q, k, v, times):
    scores = q * q.shape[-1] ** -0.5 @ k.mT
    scores = scores * times / times
    return scores.softmax(-1) @ v


calls = 1
fast = torch.compile(formula, backend="eager", dynamic=False)


@register("fast", Capabilities(masks=frozenset(), causal=False, grouped=False))
def kernel(q, k, v, *, mask, causal, scale):
    return fast(q, k, v, calls)
'''


@dataclass(frozen=True)
class Edit:
    """Text by text what is replaced in a file, on which case it shows, and what is said of it."""

    file: str
    replaced: dict[str, str]
    case: str
    changes: str = ""  # a pattern; empty: nothing fails
    notes: str = ""


CALL = "    out = (by or F.scaled_dot_product_attention)(\n        q, k, v, "
EDITS = {
    "a 3-D reshape before SDPA": Edit(
        "sdpa.py",
        {
            CALL: "    q, k, v = q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1)\n" + CALL,
            "n_kv_heads)\n    )": "n_kv_heads)\n    )[None]",
        },
        "sdpa-b1h8t512d64-full-fp32-cpu-fwd",
        r"backend flash -> math because q, k, v have 3, 3, 3 dimensions and 4 are needed; peak 1\.02 MiB -> 1\d\.",
        r"\+2 aten\.bmm",
    ),
    "a dropout that is never off": Edit(
        "sdpa.py",
        {"is_causal=causal,": "is_causal=causal, dropout_p=1e-9,"},
        "sdpa-b1h8t128d64-causal-fp32-cpu-fwdbwd",
        "backend flash -> math because dropout is 1e-09; leaves torch's random generator changed; peak",
    ),
    "a mask tensor where is_causal would do": Edit(
        "sdpa.py",
        {"if not causal or (mask is None and n_queries == n_keys and not under_jit_trace()):": "if not causal:"},
        "sdpa-b1h8t512d64-causal-fp32-cpu-fwd",
        "^peak 1.02 MiB -> ",
        r"sdpa's mask none -> \(512, 512\), mask dtype none -> bool, causal True -> False; .* aten\.tril",
    ),
    "keys and values of a group copied out": Edit(
        "sdpa.py",
        {CALL: "    k, v = (t.repeat_interleave(q.shape[1] // t.shape[1], 1) for t in (k, v))\n" + CALL},
        "sdpa-b1h8kv2t1k1024d64-full-fp32-cpu-fwd",
        "^peak 0.00 MiB -> 4.",
        r"sdpa's k \(1, 2, 1024, 64\) -> \(1, 8, 1024, 64\)",
    ),
    "everything computed in float32": Edit(
        "sdpa.py",
        {
            CALL: "    dtype = q.dtype\n    q, k, v = q.float(), k.float(), v.float()\n" + CALL,
            "n_kv_heads)\n    )": "n_kv_heads)\n    ).to(dtype)",
        },
        "sdpa-b1h4t128d64-full-bf16-cpu-fwd",
        r"^peak 0\.06 MiB -> 0\.56",
        "sdpa's dtype bfloat16 -> float32",
    ),
    "a float64 mask": Edit(
        "masked.py",
        {
            "scores + mask.to(scores.dtype)": "scores + mask.double()",
            "weights = softmax(scores, sinks)": "weights = softmax(scores, sinks).to(v.dtype)",
        },
        "masked-b1h4t256d64-floatmask-fp32-cpu-fwd",
        "^peak ",
        r"\+3 aten\._to_copy",
    ),
    "a score matrix kept alive": Edit(
        "masked.py",
        {
            "    scores = scores.masked_fill(~visible, -torch.inf).masked_fill": (
                "    kept = scores.masked_fill(~visible, -torch.inf)\n    scores = kept.masked_fill"
            )
        },
        "masked-b1h8t128d64-causal-fp32-cpu-fwd",
        "^peak ",
    ),
    "an extra contiguous": Edit(
        "multihead.py",
        {"    if cache is None:\n": "    q = q.contiguous()\n    if cache is None:\n"},
        "mha-b1h4t64d32-full-fp32-cpu-fwd",
        "",
        r"peak \+32 KiB; allocated \+64 KiB; ops .*\+2 aten\.clone",
    ),
    "fewer ops than before": Edit(
        "masked.py",
        {"    scores = scores + (v.detach() * 0.0).sum(dim=-1).unsqueeze(-2)": "    scores = scores"},
        "masked-b1h8t128d64-causal-fp32-cpu-fwd",
        "",
        r"ops -1 aten\.add",
    ),
    "a graph break in the compiled kernel": Edit(
        "fast.py",
        {"    scores = scores * times": "    torch._dynamo.graph_break()\n    scores = scores * times"},
        "fast-b1h4t64d32-full-fp32-cpu-fwd",
        r"graph breaks 0 -> 1 because Call to `torch\._dynamo\.graph_break\(\)`",
        "graphs 1 -> 2",
    ),
    "a compiled kernel compiled anew by every call": Edit(
        "fast.py",
        {"    return fast": "    global calls\n    calls += 1\n    return fast"},
        "fast-b1h4t64d32-full-fp32-cpu-fwd",
        "graphs compiled again by a repeated call 0 -> 1",
    ),
    "a compiled kernel that is not compiled any more": Edit(
        "fast.py",
        {'torch.compile(formula, backend="eager", dynamic=False)': "formula"},
        "fast-b1h4t64d32-full-fp32-cpu-fwd",
        "compiled -> eager: torch.compile no longer takes part",
    ),
}


def copy(directory: Path, *, compiled: bool) -> Path:
    """Copy the package, with a kernel that compiles if one is asked for: torch's compiler takes a second to load."""
    shutil.copytree(PACKAGE, directory / "attention", ignore=shutil.ignore_patterns("__pycache__"))
    if compiled:
        (directory / "attention" / "fast.py").write_text(COMPILED, encoding="utf-8")
    return directory


def started(label: str, directory: Path, scratch: Path) -> dict[str, Start]:
    found = code.of_name(ATTENTION, str(directory), scratch)
    return starts_of({label: found}, ATTENTION, ("cpu",), 1, scratch)


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Twins]:
    """Hold twins of the package as it is and a compiled kernel; the base stays, and each test has a head of its own."""
    directory, scratch = copy(tmp_path_factory.mktemp("before"), compiled=True), tmp_path_factory.mktemp("scratch")
    with twins(started("base", directory, scratch) | started("head", directory, scratch), scratch) as both:
        yield both


def fork_head(sides: Twins, directory: Path) -> None:
    """Let the next check fork a head from a directory."""
    sides.head.close()
    sides.starts |= started("head", directory, sides.scratch)


def said(sides: Twins, case_id: str) -> tuple[str, str]:
    """Compare the fingerprints of base and head on one case, and time nothing; returns changes and notes."""
    evidence = Gate(sides, Base(Source("here", b""))).check(Case.parse(case_id, attention.MODULES))
    assert not [c for error in evidence.errors for c in error.complaints], "an edit of this table leaves outputs right"
    changes, notes = compare(evidence.base_fingerprint, evidence.head_fingerprint)
    return "; ".join(changes), "; ".join(notes)


@pytest.mark.parametrize("name", EDITS, ids=lambda name: name.replace(" ", "-"))
def test_a_silent_edit_fails_or_is_noted_with_its_cause(tmp_path: Path, sides: Twins, name: str) -> None:
    edit = EDITS[name]
    path = copy(tmp_path, compiled=edit.case.startswith("fast-")) / "attention" / edit.file
    text = path.read_text(encoding="utf-8")
    for old, new in edit.replaced.items():
        assert text.count(old) == 1, "the table has fallen behind the code"
        text = text.replace(old, new)
    path.write_text(text, encoding="utf-8")
    fork_head(sides, tmp_path)
    changes, notes = said(sides, edit.case)
    assert re.search(edit.changes or "^$", changes), changes
    assert re.search(edit.notes, notes), notes


def test_the_same_code_changes_nothing_and_needs_no_note(tmp_path: Path, sides: Twins) -> None:
    fork_head(sides, copy(tmp_path, compiled=True))
    cases = sorted({edit.case for edit in EDITS.values()})
    assert {case: said(sides, case) for case in cases} == dict.fromkeys(cases, ("", ""))
