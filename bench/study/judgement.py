"""Does each claim of the study hold here: pure functions from results to a verdict and its reason."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import partial
from math import inf
from statistics import fmean

from . import published as study
from .estimate import Estimate, estimate, exponent, ratio
from .published import BY_HAND, DEVICES, FUSED_BY_HAND, FUSED_SDPA, PYTORCH, SETTLED_FROM
from .results import NotMeasured, Quantity, Results, Series

NEAR_SQUARE = (1.8, 2.2)  # the exponents that count as "close to T^2"


class ClaimVerdict(Enum):
    """Whether a claim of the study holds here."""

    HOLDS = "holds"
    DOES_NOT_HOLD = "does not hold"
    CANNOT_TELL = "cannot be told"
    NEEDS_GPU = "needs a GPU"


# Computes the number that a claim is about, with a sentence that states it; raises NotMeasured.
Finder = Callable[[Results], tuple[Estimate, str]]


@dataclass(frozen=True)
class Claim:
    """A statement of the study about a number on a ``device``: it holds if the number is in the range (low, high)."""

    table: str
    text: str
    device: str
    low: float
    high: float
    find: Finder


@dataclass(frozen=True)
class Judgement:
    """A claim on one device, which may be another than the study's; its verdict, and the figures that led to it."""

    claim: Claim
    device: str
    verdict: ClaimVerdict
    reason: str


def judge(results: Results, devices: Sequence[str]) -> list[Judgement]:
    """Judge every claim on the study's device, and one made about a GPU on the CPU as well, where that was measured."""
    return [
        _judge(claim, results, device, devices)
        for claim in CLAIMS
        for device in dict.fromkeys((claim.device, *(d for d in devices if d == "cpu")))
    ]


def _judge(claim: Claim, results: Results, device: str, devices: Sequence[str]) -> Judgement:
    if device not in devices:
        verdict = ClaimVerdict.NEEDS_GPU if device == "cuda" else ClaimVerdict.CANNOT_TELL
        return Judgement(claim, device, verdict, f"no {DEVICES[device]} was measured")
    try:
        found, reason = claim.find(Results(tuple(results.where(part=claim.table, device=device))))
    except NotMeasured as missing:
        return Judgement(claim, device, ClaimVerdict.CANNOT_TELL, str(missing))
    return Judgement(claim, device, in_range(found, claim.low, claim.high), reason)


def in_range(found: Estimate, low: float, high: float) -> ClaimVerdict:
    """Compare an interval with a range: inside, outside, or neither."""
    if found.low is None or found.high is None:
        return ClaimVerdict.CANNOT_TELL
    if low <= found.low and found.high <= high:
        return ClaimVerdict.HOLDS
    return ClaimVerdict.DOES_NOT_HOLD if found.high < low or found.low > high else ClaimVerdict.CANNOT_TELL


def speed_ratio(slow: str, fast: str, here: Results, **sizes: int) -> tuple[Estimate, str]:
    """How many times longer ``slow`` takes than ``fast``, round by round."""
    found = ratio(*(here.values(subject=form, quantity=Quantity.PAIRED_NS, **sizes) for form in (slow, fast)))
    return found, f"{slow} takes {found.show()} times as long as {fast}"


def growth(form: str, quantity: Quantity, theirs: Mapping[int, float], here: Results) -> tuple[Estimate, str]:
    """The exponent of time or memory against context length, beside that of the study's own figures."""
    values = {tokens: here.values(subject=form, quantity=quantity, tokens=tokens) for tokens in theirs}
    *_, before, last = theirs
    found = exponent(values, counted=quantity is Quantity.PEAK_BYTES)
    end = exponent({tokens: values[tokens] for tokens in (before, last)})
    own = exponent({tokens: [figure] for tokens, figure in theirs.items()})
    return found, (
        f"T^{found.show()}, from {before} to {last} tokens T^{end.value:.3g}; "
        f"the study's own figures give T^{own.value:.3g}"
    )


def accuracy(quantity: Quantity, here: Results) -> tuple[Estimate, str]:
    """How far by hand is from PyTorch, and how often ``torch.allclose`` holds."""
    values = here.values(subject=BY_HAND, quantity=quantity)
    if quantity == Quantity.CLOSE:
        found = estimate([fmean(values)], counted=True)
        return found, f"it holds in {found.value:.1%} of {len(values)} draws"
    found = estimate(values)
    return found, f"the {quantity} is {found.show()} in {found.n} draws, and never above {max(values):.3g}"


def first_call(here: Results) -> tuple[Estimate, str]:
    """How many times longer the first call of a fresh process takes than its later ones, by hand."""
    found = first_to_later(here.where(subject=BY_HAND))
    return found, f"by hand, the first call of a fresh process takes {found.show()} times as long as later ones"


def first_to_later(processes: Sequence[Series]) -> Estimate:
    """The ratio of the first call to the median of the settled ones, over fresh processes; raises NotMeasured."""
    runs = [series.values for series in processes if series.values]
    if not runs:
        raise NotMeasured("no fresh process was measured")
    return ratio([run[0] for run in runs], [estimate(run[SETTLED_FROM:]).value for run in runs])


CLAIMS = (
    Claim("A1", "by hand and PyTorch differ by 1e-9 to 1e-8 in the mean", "cpu", 1e-9, 1e-8,
          partial(accuracy, Quantity.MEAN_DIFFERENCE)),
    Claim("A1", "by hand and PyTorch differ by 1e-9 to 1e-8 at most", "cpu", 0.0, 1e-8,
          partial(accuracy, Quantity.DIFFERENCE)),
    Claim("A1", "torch.allclose holds", "cpu", 1.0, 1.0, partial(accuracy, Quantity.CLOSE)),
    Claim("A2", "PyTorch is faster than by hand (7.0 against 6.5 s)", "cpu", 1.0, inf,
          partial(speed_ratio, BY_HAND, PYTORCH)),
    Claim("A3", "by hand is faster than PyTorch (4.5 against 9.0 s)", "cuda", 1.0, inf,
          partial(speed_ratio, PYTORCH, BY_HAND)),
    Claim("A3", "compiled is more than 80 times faster than by hand", "cuda", 80.0, inf,
          partial(speed_ratio, BY_HAND, study.COMPILED)),
    Claim("A4", "the first run is slower than later ones", "cuda", 1.0, inf, first_call),
    *(
        Claim("B1", f"SDPA is 2.5 to 3 times faster with {heads} heads", "cuda", 2.5, 3.0,
              partial(speed_ratio, FUSED_BY_HAND, FUSED_SDPA, heads=heads))
        for heads in study.HEAD_COUNTS
    ),
    *(
        Claim(table, f"{what} grows close to T^2, {form}", "cuda", *NEAR_SQUARE,
              partial(growth, form, quantity, theirs))
        for table, what, quantity, theirs in (
            ("B2", "time", Quantity.PAIRED_NS, study.TOKENS_MS), ("B3", "memory", Quantity.PEAK_BYTES, study.TOKENS_MB),
        )
        for form in (FUSED_BY_HAND, FUSED_SDPA)
    ),
)  # fmt: skip  # a claim reads best with its evidence on a line of its own
