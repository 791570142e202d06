"""Does each claim of the study hold here: pure functions from results to a verdict and its reason."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from math import isclose
from statistics import fmean

from .estimate import Estimate, counted_exponent, estimate, exact, exponent, ratio, slope
from .published import (
    BY_HAND,
    COMPILED,
    FUSED_BY_HAND,
    FUSED_SDPA,
    HEAD_COUNTS,
    LARGE,
    PYTORCH,
    TINY,
    TOKENS,
    everywhere,
    figures_by_tokens,
    of_tables,
)
from .results import CALL_NS, CLOSE, DIFFERENCE, MEAN_DIFFERENCE, PAIRED_NS, PEAK_BYTES, Results, Series

NEAR_SQUARE = (1.8, 2.2)  # what "close to T^2" is taken to mean
SETTLED_FROM = 10  # calls before it are the warm-up


class Verdict(Enum):
    """Whether a claim of the study holds here."""

    HOLDS = "holds"
    DOES_NOT_HOLD = "does not hold"
    CANNOT_TELL = "cannot be told"
    NEEDS_GPU = "needs a GPU"


@dataclass(frozen=True)
class Judgement:
    """One claim on one device: its verdict, and the figures that led to it."""

    table: str
    claim: str
    device: str
    verdict: Verdict
    reason: str


@dataclass(frozen=True)
class Found:
    """What was measured for a claim, or why it was not."""

    estimate: Estimate | None
    text: str


Finder = Callable[[Results, str], Found]  # given a device


@dataclass(frozen=True)
class Claim:
    """A statement of the study about a number: it holds if the number is in the range (low, high).

    ``device`` is what the study made it about.
    """

    table: str
    text: str
    device: str
    low: float
    high: float
    find: Finder

    def judge(self, results: Results, device: str, devices: tuple[str, ...]) -> Judgement:
        """Judge on a device, which may be another than the study's."""
        if device not in devices:
            reason = "torch sees no GPU here" if device == "cuda" else "the CPU was not asked for"
            verdict = Verdict.NEEDS_GPU if device == "cuda" else Verdict.CANNOT_TELL
            return Judgement(self.table, self.text, device, verdict, reason)
        found = self.find(results, device)
        return Judgement(self.table, self.text, device, in_range(found.estimate, self.low, self.high), found.text)


def in_range(found: Estimate | None, low: float, high: float) -> Verdict:
    """Compare an interval with a range: inside, outside, or neither."""
    if found is None or found.low is None or found.high is None:
        return Verdict.CANNOT_TELL
    if low <= found.low and found.high <= high:
        return Verdict.HOLDS
    if found.high < low or found.low > high:
        return Verdict.DOES_NOT_HOLD
    return Verdict.CANNOT_TELL


def number(value: float) -> str:
    """Write three figures, or a whole number where it has more."""
    return f"{value:.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.3g}"


def show(found: Estimate, unit: str = "") -> str:
    """Write an estimate with its interval."""
    text = f"{number(found.value)}{unit}"
    if found.low is not None and found.high is not None:
        same = isclose(found.low, found.high)
        return text if same else f"{text} [{number(found.low)}, {number(found.high)}]"
    return f"{text} ({found.n} value{'s' if found.n > 1 else ''}, too few for an interval)"


def speed_ratio(part: str, cases: Mapping[str, str], slow: str, fast: str) -> Finder:
    """How many times longer ``slow`` takes than ``fast``, round by round."""

    def find(results: Results, device: str) -> Found:
        where = {"part": part, "device": device, "case": cases[device], "quantity": PAIRED_NS}
        series = {subject: results.one(**where, subject=subject) for subject in (slow, fast)}
        for subject, one in series.items():
            if one is None or not one.values:
                return Found(None, f"{subject} {_unmeasured(one)}")
        found = ratio(*(one.values for one in series.values() if one is not None))
        return Found(found, f"{slow} takes {show(found)} times as long as {fast}")

    return find


def growth(part: str, subject: str, quantity: str) -> Finder:
    """The exponent of time or memory against context length."""

    def find(results: Results, device: str) -> Found:
        by_tokens = {}
        for tokens in TOKENS:
            where = {"part": part, "device": device, "case": of_tables(tokens)[device], "quantity": quantity}
            one = results.one(**where, subject=subject)
            if one is None or not one.values:
                return Found(None, f"{subject} with {tokens} tokens {_unmeasured(one)}")
            by_tokens[tokens] = one.values
        fit = exponent if quantity == PAIRED_NS else counted_exponent
        found, last = fit(by_tokens), fit({tokens: by_tokens[tokens] for tokens in TOKENS[-2:]})
        theirs = figures_by_tokens(part)
        return Found(
            found,
            f"T^{show(found)}, from {TOKENS[-2]} to {TOKENS[-1]} tokens T^{last.value:.3g}; "
            f"the study's own figures give T^{slope(list(theirs), list(theirs.values())):.3g}",
        )

    return find


def one_value(quantity: str) -> Finder:
    """A quantity of table A1."""

    def find(results: Results, device: str) -> Found:
        one = results.one(part="A1", device=device, subject=BY_HAND, case=TINY, quantity=quantity)
        if one is None or not one.values:
            return Found(None, _unmeasured(one))
        if quantity == CLOSE:
            share = fmean(one.values)
            return Found(exact(share), f"it holds in {share:.1%} of {len(one.values)} draws")
        found = estimate(one.values)
        return Found(
            found, f"the {quantity} is {show(found)} in {found.n} draws, and never above {max(one.values):.3g}"
        )

    return find


def _unmeasured(series: Series | None) -> str:
    return f"was not measured: {'its part has not run' if series is None else series.missing}"


def first_call(results: Results, device: str) -> Found:
    """How many times longer the first call of a fresh process takes than its later ones, by hand."""
    runs = [s.values for s in results.where(device=device, subject=BY_HAND, quantity=CALL_NS) if s.values]
    if not runs:
        return Found(None, "no fresh process was measured")
    later = [estimate(run[SETTLED_FROM:]).value for run in runs]
    found = ratio([run[0] for run in runs], later)
    return Found(found, f"by hand, the first call of a fresh process takes {show(found)} times as long as later ones")


INFINITY = float("inf")
CLAIMS = (
    Claim("A1", "by hand and PyTorch differ by 1e-9 to 1e-8 in the mean", "cpu", 1e-9, 1e-8,
          one_value(MEAN_DIFFERENCE)),
    Claim("A1", "by hand and PyTorch differ by 1e-9 to 1e-8 at most", "cpu", 0.0, 1e-8, one_value(DIFFERENCE)),
    Claim("A1", "torch.allclose holds", "cpu", 1.0, 1.0, one_value(CLOSE)),
    Claim("A2", "PyTorch is faster than by hand (7.0 against 6.5 s)", "cpu", 1.0, INFINITY,
          speed_ratio("A2", everywhere(TINY), BY_HAND, PYTORCH)),
    Claim("A3", "by hand is faster than PyTorch (4.5 against 9.0 s)", "cuda", 1.0, INFINITY,
          speed_ratio("A3", everywhere(LARGE), PYTORCH, BY_HAND)),
    Claim("A3", "compiled is more than 80 times faster than by hand", "cuda", 80.0, INFINITY,
          speed_ratio("A3", everywhere(LARGE), BY_HAND, COMPILED)),
    Claim("A4", "the first run is slower than later ones", "cuda", 1.0, INFINITY, first_call),
    *(
        Claim("B1", f"SDPA is 2.5 to 3 times faster with {heads} heads", "cuda", 2.5, 3.0,
              speed_ratio("B1", of_tables(512, heads), FUSED_BY_HAND, FUSED_SDPA))
        for heads in HEAD_COUNTS
    ),
    *(
        Claim(table, f"{what} grows close to T^2, {form}", "cuda", *NEAR_SQUARE, growth(table, form, quantity))
        for table, what, quantity in (("B2", "time", PAIRED_NS), ("B3", "memory", PEAK_BYTES))
        for form in (FUSED_BY_HAND, FUSED_SDPA)
    ),
)  # fmt: skip  # a claim reads best with its evidence on a line of its own


def judge(results: Results, devices: tuple[str, ...]) -> list[Judgement]:
    """Judge every claim on the study's device, and one made about a GPU on the CPU as well, where that was measured."""
    judgements = []
    for claim in CLAIMS:
        on = [claim.device, *(d for d in devices if d == "cpu" and claim.device != "cpu")]
        judgements += [claim.judge(results, device, devices) for device in on]
    return judgements
