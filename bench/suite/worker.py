"""One side of a comparison, in whatever process it lives: loads its code, checks a case, and times bursts of it."""

import gc
import importlib
import platform
import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ..observing import compilation, states
from ..observing.tolerance import Results, unlike
from ..plain.collecting import no_garbage_collection
from ..plain.errors import CannotDo
from ..plain.evidence import Place
from ..plain.execution import Fingerprint, Observed
from ..sources.caches import own_caches
from ..sources.target import PACKAGE, Target
from ..sources.world import Lent, World
from ..timing.clock import Clock, LaunchClock, Stopwatch
from ..timing.cuda import graphed
from ..timing.machine import shuffle_memory, steady_allocator
from ..twins.bursts import pin, stretched
from ..twins.interpreter import connection
from ..twins.party import Misbehaved, Unsupported, serve
from .cases import Case
from .matrix import ROWS, Rows, matrix
from .observe import observe
from .purity import execute
from .side import Side, load
from .slowing import slowed_on_gpu
from .workload import Call, Marks, Workload, bind, parameter_sizes

# The generation of what came since the last collection: to go through all that torch's compiler holds is slow.
YOUNG = 0
CHANCES = 8  # further calls of a base that has repeated bit for bit, before a head that does not is blamed

Given = Workload | Path  # a workload, or the file that holds it


@dataclass(frozen=True)
class Start:
    """What a process needs to become a side. ``graphs``: time calls as they are replayed from CUDA graphs.

    ``caches`` is the folder for what the side compiles. ``warm``: call once before each burst.
    ``slowdown``: make calls take longer by a share, for the self-test; None: leave them as they are. ``shuffled``:
    memory is to lie elsewhere than in other twins.
    """

    label: str
    origin: str  # in words
    world: World
    target: Target
    devices: tuple[str, ...]
    threads: int
    caches: Path
    graphs: bool = False
    warm: bool = False
    slowdown: float | None = None
    shuffled: bool = False


@dataclass(frozen=True)
class Shown:
    """Output and gradients by name, or the file that holds them, and what was executed."""

    results: Results | Path
    fingerprint: Fingerprint


class Worker:
    """The side that is loaded, and the case at hand. Its methods are the commands of ``party.Party``."""

    def __init__(self, side: Side | None = None, clock_of: Callable[[str], Stopwatch] = Clock.of) -> None:
        self._clock_of = clock_of
        self._graphs = self._warm = False
        self._slowdown: float | None = None
        self._error = 0.0
        self._left_by_import: tuple[str, ...] = ()
        self._side: Side
        self._workload: Workload
        self._before: list[tuple[torch.Tensor, Marks]]
        self._call: Call
        self._results: Results
        self._timed: Callable[[], object]
        self._clock: Stopwatch | None = None
        self._lent = Lent()
        self._threads = torch.get_num_threads()
        if side is not None:
            self._side = side

    def load(self, start: Start, cores: Sequence[int] = ()) -> dict[str, str]:
        """Enter the side's world, fix the machine's settings and import the side; returns its versions.

        Raises:
            CannotDo: it does not import, or has no kernels.

        """
        torch.set_num_threads(start.threads)
        self._threads = start.threads
        self._held = shuffle_memory() if start.shuffled else []
        if loaded := {*start.target.names} & sys.modules.keys():
            raise CannotDo(f"{min(loaded)} was imported before the {start.label}'s own: import it in no sitecustomize")
        if PACKAGE not in start.target.names:
            importlib.import_module(f"{PACKAGE}.registry")  # the suite's own, whatever the side's world has
        self._lent = start.world.enter()
        pin(cores)
        own_caches(start.caches, on_gpu="cuda" in start.devices)
        allocator = steady_allocator()
        self._graphs, self._warm, self._slowdown = start.graphs, start.warm, start.slowdown
        if "cuda" in start.devices:
            _claim_gpu(start.label)
        try:
            # Whoever uses the side has what its import leaves changed, so it stays.
            with no_garbage_collection(), states.watching(turn_back=False) as left:
                self._side = load(start.target, start.devices, start.label)
        except CannotDo as error:
            if start.label == "head":  # whoever reads it knows which that is
                raise
            raise CannotDo(f"the {start.label}, {start.origin}: {error}") from error
        except (Exception, SystemExit) as error:
            raise CannotDo(
                f"the {start.label}, {start.origin}, does not import ({type(error).__name__}: {error}): "
                f"choose a {start.label} that runs with the packages installed here"
            ) from error
        self._lent.refuse_compiled()
        self._left_by_import = tuple(f"{state} (by its import)" for state in left)
        return {"python": platform.python_version(), "torch": torch.__version__, "malloc": allocator}

    def cases(self, tier: str | None, devices: Sequence[str], rows: Rows = ROWS) -> dict[Case, str | None]:
        """Return the cases of a tier, of all tiers without one, each with the reason if the side cannot run it."""
        return matrix(self._side.kernels, self._side.modules, tier, devices, rows)

    def lacks(self, ids: Collection[str]) -> set[str]:
        """Return those of the cases, by id, that the side cannot run."""
        return {id_ for id_ in ids if not self._runs(id_)}

    def _runs(self, id_: str) -> bool:
        try:
            return self._side.supports(Case.parse(id_, self._side.modules))
        except ValueError:
            return False

    def ids(self, tier: str, devices: Sequence[str], rows: Rows) -> tuple[set[str], set[str]]:
        """Return the ids of the cases of a tier that the side can run, and the names of its kernels and modules."""
        supported = {case.id for case, reason in self.cases(tier, devices, rows).items() if reason is None}
        return supported, {*self._side.kernels, *self._side.modules}

    def supports(self, case: Case) -> bool:
        return self._side.supports(case)

    def places(self, root: Path) -> dict[str, Place]:
        """Find where the side's kernels and modules are written in the repository, by name."""
        return self._side.places(root)

    def parameters(self, case: Case) -> dict[str, torch.Size]:
        """Return the sizes of a module's parameters, by name; a kernel has none."""
        return parameter_sizes(case, self._side)

    def take(self, given: Given) -> None:
        """Take up a case."""
        gc.collect(YOUNG)
        self._workload = given if isinstance(given, Workload) else torch.load(given, weights_only=False)
        self._before = self._workload.snapshot()
        with self._gradients():
            self._call = bind(self._workload, self._side)

    def check(self, given: Given, shown: Path | None) -> Shown:
        """Run a case for its results, which go to a file if one is named, and for what it executes.

        Raises:
            Unsupported: a kernel from outside does not support it.
            Misbehaved: it did something to its inputs, or returned no plain tensor.

        """
        compilation.forget()  # so that nothing compiles in what is timed later
        try:
            self.take(given)
            with self._gradients():
                self._results, print_ = execute(self._call, self._workload)
        except Exception as error:
            if hasattr(self, "_before") and (done := self.did_to_inputs()):
                raise Misbehaved(done) from error
            undeclared = self._workload.case.subject in self._side.undeclared
            if undeclared and isinstance(error, NotImplementedError):
                raise Unsupported(str(error)) from error
            raise
        if done := self.did_to_inputs():
            raise Misbehaved(done)
        if self._left_by_import and (calls := print_.calls) is not None:
            calls = replace(calls, left_changed=(*self._left_by_import, *calls.left_changed))
            print_ = replace(print_, calls=calls)
        if self._error:
            self._results = {name: t * (1 + self._error) for name, t in self._results.items()}
        if shown is None:
            return Shown(self._results, print_)
        torch.save({name: tensor.cpu() for name, tensor in self._results.items()}, shown)
        return Shown(shown, print_)

    def own_call(self) -> Call:
        """Return the call of the case at hand, to be timed in this process by other means."""
        return self._call

    def observe(self, given: Given) -> Observed:
        """Take up a case and look at it closely: op by op, and by a profiler."""
        compilation.forget()
        self.take(given)
        with self._gradients():
            return observe(self._call, self._workload)

    def unrepeated(self) -> tuple[str, ...]:
        """Call some more times, and name the results that are not those of the check, bit for bit."""
        with self._gradients():
            for _ in range(CHANCES):
                if names := unlike(self._results, self._call.results()):
                    return names
        return ()

    def settle(self, cores: Sequence[int], host: bool = False) -> float:
        """Make ready to be timed on these cores, with no garbage to collect; returns the clock's resolution in ns.

        ``host``: the host's time to make a call is taken, in place of the device's.
        """
        gc.collect(YOUNG)
        pin(cores)
        torch.set_num_threads(min(torch.get_num_threads(), self._threads))  # its import may have set more
        clock = self._clock_of(self._workload.case.device)
        self._clock = LaunchClock(clock) if host else clock
        with self._gradients():
            self._timed = graphed(self._call) if self._graphs else self._call
            if self._slowdown is not None and self._workload.case.device == "cuda":
                self._timed = slowed_on_gpu(self._timed, self._slowdown, clock)
        return self._clock.resolution_ns

    def burst(self, calls: int) -> float:
        """Time so many calls; returns ns per call."""
        clock = self._clock
        assert clock is not None  # ``settle`` comes first
        with self._gradients():
            if self._warm:
                self._timed()
            ns_per_call = clock.burst(self._timed, calls)
        if self._slowdown is None or self._workload.case.device == "cuda":
            return ns_per_call
        return stretched(round(ns_per_call * calls), self._slowdown) / calls

    def release(self, cores: Sequence[int]) -> None:
        """Go back to all cores after timing.

        Raises:
            Misbehaved: a call changed its inputs while it was timed.

        """
        pin(cores)
        if done := self.did_to_inputs():
            raise Misbehaved(f"{done} while it was timed")

    def notes(self) -> tuple[str, ...]:
        """Return what the clock has to say of the bursts so far, and which files of the head's the side has."""
        return (*self._lent.notes, *(() if self._clock is None else self._clock.notes))

    def did_to_inputs(self) -> str | None:
        """Say what was done to the inputs since the case was taken up; None if nothing."""
        return self._workload.differs_from(self._before)

    def slow_down(self, share: float | None) -> None:
        """From the next ``settle`` on, make calls take longer by a share; see ``Start``."""
        self._slowdown = share

    def falsify(self, error: float) -> None:
        """Make results wrong by a relative error from now on; for the self-test."""
        self._error = error

    def _gradients(self) -> torch.set_grad_enabled:
        return torch.set_grad_enabled(self._workload.case.backward)


def _claim_gpu(label: str) -> None:
    """Make a context on the GPU, which every process of a run needs for itself."""
    try:
        torch.empty(1, device="cuda")
    except RuntimeError as error:
        why = str(error).partition("\n")[0]
        raise CannotDo(
            f"the {label} gets no context on the GPU ({why}); in exclusive mode only one process may have one, and "
            "base and head are two: nvidia-smi --compute-mode=DEFAULT"
        ) from error


def main() -> None:
    """Obey, in the process that ``interpreter.spawn`` has started, whoever started it."""
    serve(Worker(), connection())
