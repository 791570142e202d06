"""Tells a result that differs between the sides from one that varies by itself, by running its test again."""

import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path

from ..judging.statistics import chance_of_difference
from ..plain.errors import CannotDo
from ..twins.party import SideFailed
from .difference import Difference
from .meeting import Arrived
from .pair import SessionPair

FEWEST, MOST = 3, 14  # runs after which a difference that was not seen again is given up, and any other

Found = Mapping[str, Difference]  # by what is compared


class _NotReached(Exception):
    """A test did not get as far as its call again."""


@dataclass(frozen=True)
class Again:
    """A test that both sides of a pair run again; ``before`` are the tests that precede it in its file.

    ``afresh`` hides, while it lasts, what tests have written to the base's checkout.
    """

    pair: SessionPair
    before: Sequence[str]
    node_id: str
    afresh: Callable[[], AbstractContextManager[None]] = nullcontext
    _places: dict[Path, Path] = field(default_factory=dict, init=False)  # of all runs

    def varying(self, names: Collection[str], level: float) -> dict[str, str]:
        """Return which of the parts that differed vary by themselves, each with how that was seen.

        Both sides run the test in new processes: by itself, and if that shows no difference, after the tests before it.
        A part differs if the base's runs agree, and the head's differ so often that the probability of that is at most
        ``level`` where both sides draw from one distribution. What was seen first stands if the test cannot be run
        again.
        """
        varies: dict[str, str] = {}
        unseen = set(names)
        for number, earlier in enumerate(dict.fromkeys(((), tuple(self.before)))):
            reference = self.pair.starts["base"].result.with_suffix(f".{number}")
            reference.unlink(missing_ok=True)  # an earlier test's
            runs, differing, pending = 0, dict.fromkeys(unseen, 0), unseen
            try:
                while pending:
                    of_base, of_head = self._run((*earlier, self.node_id), reference)
                    runs += 1
                    for name in (name for name in names if name in pending):
                        if (varied := _found(of_base, name)) is not None:
                            varies[name] = f"the base's own differ from run to run ({varied})"
                        differing[name] += _found(of_head, name) is not None
                        if runs == MOST and chance_of_difference(runs, differing[name]) > level:
                            varies[name] = (
                                f"the head's result differs from the base's in {differing[name]} of {runs} runs"
                            )
                    open_at = {name: chance_of_difference(runs, differing[name]) > level for name in pending}
                    pending = {
                        name
                        for name in pending - varies.keys()
                        if runs == 1 or (open_at[name] and (runs < FEWEST or differing[name]))
                    }
            except _NotReached:
                return varies
            unseen = {name for name in unseen - varies.keys() if not differing[name]}
        return varies | dict.fromkeys(unseen, f"the head's result differed once, and in none of {FEWEST} further runs")

    def _run(self, tests: Sequence[str], reference: Path) -> tuple[Found, Found]:
        """Run tests on both sides, and compare what the last one's calls leave with what the base's left at first."""
        with suppress(CannotDo, SideFailed, OSError), self.afresh(), self.pair.again(self.node_id) as new:
            new.parties.ready()
            for test, following in zip(tests, (*tests[1:], None), strict=True):
                steps = new.begin(test, dict.fromkeys(new.order, following))
                if following is not None:
                    for label in (label for label, step in steps.items() if isinstance(step, Arrived)):
                        new.go_on(label)
                elif all(isinstance(step, Arrived) for step in steps.values()):
                    self._places.update(new.places)
                    if not reference.exists():
                        shutil.copy(new.starts["base"].result, reference)
                    of_base: Found = new.parties["base"].ask("differences", reference, self._places)
                    return of_base, new.parties["head"].ask("differences", reference, self._places)
        raise _NotReached


def _found(differences: Found, name: str) -> str | None:
    return differences[name].found if name in differences else None
