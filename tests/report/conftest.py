"""A run of 77 cases with every verdict and with hostile text."""

from collections.abc import Callable
from dataclasses import replace
from math import exp
from typing import Any

import pytest

from bench.judging.policy import Policy
from bench.judging.run import Run
from bench.judging.verdict import CaseResult, Verdict
from bench.plain.evidence import Evidence, Load, Measurement, Pair, TensorError
from bench.plain.execution import Fingerprint, Pass

HOSTILE = """<script>document.title="hit"</script><img src=x onerror=alert(1)> " ' & </td></style> {{ 7*7 }} | \u202e"""
FLASH = Fingerprint(
    Pass({"aten._scaled_dot_product_flash_attention_for_cpu": 1, "aten.view": 4}, 2**20, 2**21), backend="flash"
)
MATH = Fingerprint(Pass({"aten._safe_softmax": 1, "aten.bmm": 2, "aten.view": 4}, 17 * 2**20, 2**21), backend="math")
TIMED = Measurement((Pair(1000.0, 1010.0),) * 3, 10, 0.25, 2)
ERROR = TensorError("out", 1e-7, 1e-7, 4e-7, 1e-8, 4e-8, base=1e-7, bit_equal=True)
SPECIAL = 12  # cases of the run that are not UNCHANGED or SKIPPED


def timed(case_id: str, verdict: Verdict, ratio: float, *reasons: str, width: float = 0.02, **found: Any) -> CaseResult:
    """A case that was timed, with everything that a report can show of it; ``found`` is evidence other than usual."""
    usual = Evidence(
        case_id,
        errors=(ERROR, replace(ERROR, name="q.grad", bit_equal=False)),
        base_fingerprint=FLASH,
        head_fingerprint=FLASH,
        measurements=(TIMED,),
    )
    return CaseResult(
        replace(usual, **found),
        verdict,
        reasons,
        ratio=ratio,
        ci=(ratio * exp(-width), ratio * exp(width)),
        pairs=60,
        mde=0.04,
        base_ns=1e6,
        head_ns=ratio * 1e6,
        seconds=0.3,
    )


def some_run(*cases: CaseResult, policy: Policy | None = None) -> Run:
    """A run of these cases."""
    return Run(
        {"origin": "baseline 0001_shipped.json", "source_sha256": "a" * 64},
        {"origin": "working tree", "source_sha256": "b" * 64},
        {"cpu": "A processor", "cores": 4, "threads": 1, "torch": "2.13.0"},
        policy or Policy(),
        cases,
        Load(4, 1.25, 0.0, None),
    )


@pytest.fixture(scope="session")
def make_run() -> Callable[..., Run]:
    """Make a run of the given cases, under the given policy."""
    return some_run


@pytest.fixture(scope="session")
def large_run() -> Run:
    """77 cases, every verdict among them; the ids are those of a real matrix, except for the hostile one."""
    over = replace(ERROR, name="k.grad", head=9e-6, complaints=("k.grad: error 9e-06 is over its budget 4e-07",))
    drifted, changed = "masked-b1h8t128d64-causal-fp32-cpu-fwdbwd", "sdpa-b1h4t256d64-boolmask-fp32-cpu-fwd"
    special = (
        timed("sdpa-b1h8t512d64-causal-fp32-cpu-fwd", Verdict.REGRESSED, 1.198, "19.8% slower, confirmed"),
        timed("sdpa-b1h8t512d64-full-fp32-cpu-fwd", Verdict.REGRESSED, 3.5, "250.0% slower, confirmed"),
        timed(drifted, Verdict.DRIFTED, 1.01, over.complaints[0], errors=(ERROR, over)),
        timed(changed, Verdict.CHANGED, 1.02, "backend flash -> math", head_fingerprint=MATH),
        CaseResult(Evidence(f"outside{HOSTILE}-cpu-fwd"), Verdict.ERROR, (f"head raised ValueError: {HOSTILE}",)),
        CaseResult(
            Evidence("gone-b1h4t64d32-full-fp32-cpu-fwd"), Verdict.MISSING, ("is in the base and gone from the head",)
        ),
        timed("masked-b1h8t1k1024d64-full-fp32-cpu-fwd", Verdict.INCONCLUSIVE, 1.03, "undecided", width=0.2),
        replace(timed("manual-b1h4t64d32-full-fp32-cpu-fwd", Verdict.INCONCLUSIVE, 1.0), ci=(None, None), pairs=3),
        timed("mhaloop-b4h8kv2t64d32-full-bf16-cpu-fwd", Verdict.WAIVED, 1.08, "accepted up to 1.1 until 2999-01-01"),
        timed("masked-b1h8t512d64-full-fp32-cpu-fwd", Verdict.FASTER, 0.82),
        timed("manual-b1h8t512d64-full-fp32-cpu-fwdbwd", Verdict.FASTER, 0.3),
        replace(timed("mine-b1h4t64d32-full-fp32-cpu-fwd", Verdict.NEW, 1.0, "not in the base"), ratio=None),
    )
    assert len(special) == SPECIAL
    unchanged = [
        timed(f"sdpa-b1h8t{t}d64-causal-fp32-cpu-fwd", Verdict.UNCHANGED, 0.98 + 0.0003 * t) for t in range(84, 124)
    ]
    reason = "manual does not support causal attention"
    skipped = [
        CaseResult(Evidence(f"manual-b1h4t{t}d32-causal-fp32-cpu-fwd"), Verdict.SKIPPED, (reason,)) for t in range(25)
    ]
    return some_run(*unchanged, *special, *skipped)
