"""A twin's pytest session: it runs tests as the parent asks, and times what they hand to ``benchmark``.

The clock is bound in this module, which the image imports before any side's code. Over 300 lines: the session of a
twin, and what the parent asks of it.
"""

import gc
import os
import pickle
import signal
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from secrets import token_hex
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, NoReturn

import pytest
from pytest_benchmark.fixture import BenchmarkFixture, PauseInstrumentation

from .. import pytest_benchmark_adapter
from ..plain.errors import CannotDo
from ..plain.printable import first_line
from ..pytest_benchmark_adapter import BenchmarkCall
from ..sources.caches import NVIDIA, own_caches
from ..sources.world import Lent
from ..timing.machine import shuffle_memory, steady_allocator
from ..twins.bursts import pin, stretched
from ..twins.party import Misbehaved, answer, full_disk_answered, obey
from . import effects, facts, imported, reference, threads
from .difference import Difference
from .marker import MARKER, own
from .meeting import Arrived, Collected, Finished, SessionStart
from .reports import is_in_use, without_what_cannot_be_sent
from .seeding import seed

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

NAME = "twinbench-twin"  # of the plugin in a twin, where the parent's is inert
FIXTURE = "benchmark"
SAID = 2000  # characters that are quoted of what a session printed, if it ended before it had collected


def run(start: SessionStart, connection: "Connection[Any, Any]") -> None:
    """Run a side's session in this process, which was forked for it, until the parent ends it."""
    # The parent handles interrupts. Not SIG_IGN: processes that a test starts would inherit it, but not a handler.
    signal.signal(signal.SIGINT, lambda *_: None)
    start.scratch.mkdir(exist_ok=True)
    printed = start.scratch / f"{start.label}.out"
    with printed.open("wb") as out:
        for stream in (1, 2):
            os.dup2(out.fileno(), stream)
    common = frozenset(name.partition(".")[0] for name in sys.modules)
    held = shuffle_memory() if start.shuffled else []
    lent = start.world.enter(start.scratch / f"{start.label}-extensions-{os.getpid()}")
    own_caches(start.caches, on_gpu=NVIDIA.exists())
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(start.threads)
    gc.enable()
    seed()  # test files may draw when they are imported
    twin = _Twin(start, connection, common, lent)
    absent = {"-n0": "xdist", "--no-cov": "pytest_cov"}  # arguments of plugins that another interpreter may lack
    arguments = [one for one in start.arguments if find_spec(absent.get(one, "pytest")) is not None]
    arguments += _without_absent_plugins()
    code: object
    try:
        code = pytest.main([*arguments, f"--basetemp={start.temporary}", *start.files], plugins=[twin])
    except SystemExit as error:  # of a conftest
        code = error.code
    except Exception:  # noqa: BLE001  # of a plugin
        traceback.print_exc()
        code = int(pytest.ExitCode.INTERNAL_ERROR)
    del held
    if twin.has_collected:
        if code == pytest.ExitCode.INTERNAL_ERROR:
            twin.answer("ended", f"failed in pytest, or in a plugin of it: {twin.internal_error}")
    else:
        said = printed.read_text(encoding="utf-8", errors="replace")[-SAID:].strip()
        why = f"pytest ended with exit code {code} before the {start.label} had collected tests: {said}"
        twin.answer("cannot", why)


def main() -> None:
    """Run the session that comes through the connection, in a process that ``interpreter.spawn`` has started."""
    from ..twins.interpreter import connection  # noqa: PLC0415  # a twin that is forked does not need it

    ours = connection()
    steady_allocator()
    _, (start,) = pickle.loads(ours.recv_bytes())  # noqa: S301  # from the parent
    with full_disk_answered(ours):
        run(start, ours)


class _Twin:
    """The plugin of a twin's session, whose first methods are the commands of the parent."""

    def __init__(
        self, start: SessionStart, connection: "Connection[Any, Any]", common: frozenset[str], lent: Lent
    ) -> None:
        self.__name__ = NAME
        self.has_collected = False
        self.internal_error = ""
        self._start, self._connection, self._common, self._lent = start, connection, common, lent
        self._errors: dict[str, str] = {}
        self._reports: list[dict[str, Any]] = []
        self._config: pytest.Config
        self._call: BenchmarkCall
        self._collected: list[pytest.Item] = []
        self._met: pytest.Item | None = None  # the last test that called the fixture
        self._timings: tuple[Sequence[float], int] = (), 1
        self._raised: str | None = None
        self._in_use = False
        self._give_threads_back: list[Callable[[], None]] = []

    # What the parent asks, while a test waits at the fixture.

    def settle(self, cores: tuple[int, ...]) -> float:
        """Make ready to be timed on these cores, with no garbage to collect; returns the clock's resolution in ns."""
        gc.collect()
        gc.disable()
        pin(cores)
        self._give_threads_back = threads.limit(self._start.threads)
        return 1.0

    def burst(self, calls: int) -> float:
        """Time this number of calls, without a tracer or a profiler; returns ns per call."""
        try:
            with PauseInstrumentation():
                taken_ns = self._call.nanoseconds(calls, perf_counter_ns, _synchronize)
        except (Exception, pytest.fail.Exception, pytest.skip.Exception) as error:  # the last two are not subclasses
            raise Misbehaved(
                f"raised {type(error).__name__} when it was called again: {first_line(str(error))} (a benchmark is "
                "called many times, whatever rounds= says; pedantic(..., setup=) prepares each call)"
            ) from error
        share = self._start.slowed
        return (taken_ns if share is None else stretched(taken_ns, share)) / calls

    def release(self, cores: tuple[int, ...]) -> None:
        """Go back to all cores after timing, and to the test's own number of threads."""
        pin(cores)
        for give_back in self._give_threads_back:
            give_back()
        gc.enable()

    def differences(self, other: Path, places: Mapping[Path, Path]) -> dict[str, Difference]:
        """Compare what the calls left with what the other side's did."""
        return effects.differences(self._start.result, other, places)

    def lent(self) -> Lent:
        """Return the files of the head's repository that git ignores: those lent to this side, those that it lacks."""
        return self._lent

    def imports_own(self) -> bool:
        """Whether any module but the tests themselves was imported from the side's own code."""
        return imported.any_own(self._start.world, {Path(file).resolve() for file in self._start.files})

    # pytest's hooks

    @pytest.hookimpl(tryfirst=True)
    def pytest_configure(self, config: pytest.Config) -> None:
        self._config = config
        config.addinivalue_line("markers", MARKER)
        for name, value in self._start.options.items():
            setattr(config.option, name, value)
        config.pluginmanager.register(_Fixture(self))  # after pytest-benchmark, whose fixture it takes

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._errors[report.nodeid] = report.longreprtext

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        self._collected = [*items]  # the parent selects, whatever plugins and options leave out here

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        items = {item.nodeid: item for item in (*self._collected, *session.items)}
        self.has_collected = True
        try:
            if not self._start.installed:
                imported.refuse_another_place(self._start.label, self._start.world, self._common)
        except CannotDo as error:
            self.answer("cannot", str(error))
            return True
        tests = {id_: FIXTURE in getattr(item, "fixturenames", ()) for id_, item in items.items()}
        self.answer("done", Collected(tests, self._errors, frozenset(item.nodeid for item in session.items)))
        while (asked := obey(self, self._connection, until="run")) is not None:
            node_id, following, own_numbers = asked
            self._reports.clear()
            self._met, self._raised, self._in_use = None, None, False
            # Each test anew, so draws of earlier tests on one side alone do not matter.
            seed(token_hex() if own_numbers else "")
            if node_id in items:
                session.config.hook.pytest_runtest_protocol(item=items[node_id], nextitem=items.get(following))
            else:
                why = f"{self._start.label} has no test of this id in its process: ids must not differ from run to run"
                self.pytest_runtest_logreport(pytest.TestReport(node_id, ("", 0, ""), {}, "failed", why, "setup"))
            self.answer("done", Finished(tuple(self._reports), self._raised, self._in_use))
        self._silence()
        return True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        data = self._config.hook.pytest_report_to_serializable(config=self._config, report=report)
        self._reports.append(without_what_cannot_be_sent(data))

    def pytest_exception_interact(self, call: pytest.CallInfo[Any]) -> None:
        self._in_use |= call.excinfo is not None and is_in_use(call.excinfo.value)

    def pytest_internalerror(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        error = excinfo.value
        if isinstance(error, Warning) and error.__context__ is not None:  # pluggy warns of it, and warnings are errors
            error = error.__context__
        self.internal_error = f"{type(error).__name__}: {first_line(str(error))}"

    @pytest.hookimpl(optionalhook=True, tryfirst=True)
    def pytest_timeout_set_timer(self) -> bool:
        return True  # pytest-timeout is to set none: a test waits while its call is timed

    def meet(self, node: pytest.Item, fixture: BenchmarkFixture, call: BenchmarkCall) -> Any:
        """Call once, and wait until the parent has timed more calls; returns the result of the first."""
        if FIXTURE not in node.fixturenames:  # type: ignore[attr-defined]  # an item that has fixtures has their names
            pytest.fail("asks for benchmark by getfixturevalue: name it among the arguments of the test", pytrace=False)
        if node is self._met:  # a plugin runs a test again whose call was timed already
            return self._go_on(fixture, call.once(*call.arguments()))
        self._met = node
        asked, oracle = own(node)
        args, kwargs = call.arguments()
        left = effects.Effects(call.target, args, kwargs, _file_of(node)) if asked.compare else None
        hold = reference.holding(oracle, args, kwargs, counts=self._start.label == "head")
        before = facts.before_first_call()
        try:
            result = call.once(args, kwargs)
        except Exception as error:
            self._raised = f"{type(error).__name__}: {first_line(str(error))}"
            raise
        self._call = call
        errors = hold(result)
        if left is not None:
            left.first(result)
        seen, unobserved = facts.of_call(lambda: call.once(*call.arguments()), before)
        if left is not None:
            with suppress(Exception, pytest.fail.Exception, pytest.skip.Exception):  # as when it is timed
                left.later(result, call.once(*call.arguments()))
            self._save(left)
        unsaved, digests = (None, {}) if left is None else (left.unsaved, left.digests)
        left = None  # to make room for the calls that are timed
        self.answer("done", Arrived(asked, type(result).__qualname__, unsaved, digests, errors, seen, unobserved))
        timings = obey(self, self._connection, until="go_on")
        if timings is None:
            self._end()
        self._timings = timings
        return self._go_on(fixture, result)

    def _go_on(self, fixture: BenchmarkFixture, result: Any) -> Any:
        if self._timings[0]:
            pytest_benchmark_adapter.give_timings(fixture, *self._timings)
        return result

    def _end(self) -> NoReturn:
        """End the session in the middle of a test, after fixtures have been torn down."""
        self._silence()
        pytest.exit("the run was ended", returncode=pytest.ExitCode.INTERRUPTED)

    def _silence(self) -> None:
        """Leave out pytest's summary, which nobody reads: it parses sources, and some plugins import for it."""
        if self._config.pluginmanager.has_plugin("terminalreporter"):
            self._config.pluginmanager.unregister(name="terminalreporter")

    def answer(self, outcome: str, value: object) -> None:
        answer(self._connection, outcome, value)

    def _save(self, left: effects.Effects) -> None:
        """Save what the calls left for the other side."""
        place = self._start.result
        try:
            with place.open("wb") as file:
                pickle.dump(left.parts, file, protocol=4)
        except OSError as error:
            size = sum(map(len, left.parts.values()))
            why = f"a result of {size} bytes cannot be written to {place.parent} ({error.strerror})"
            self.answer("exhausted", f"{why}: set TMPDIR to a place with more room")
            self._end()


class _Fixture:
    """Takes the place of pytest-benchmark's fixture, which it uses."""

    def __init__(self, twin: _Twin) -> None:
        self._twin = twin

    @pytest.fixture
    def benchmark(self, benchmark: BenchmarkFixture, request: pytest.FixtureRequest) -> BenchmarkFixture:
        meet = self._twin.meet
        pytest_benchmark_adapter.redirect(benchmark, lambda call, _: meet(request.node, benchmark, call))
        pytest_benchmark_adapter.refuse_weaving(benchmark)
        return benchmark


def _file_of(node: pytest.Item) -> str | None:
    """Return the name of the module that a test is written in, if it is in one."""
    return getattr(getattr(node, "module", None), "__name__", None)


def _without_absent_plugins() -> list[str]:
    """Return the arguments that disable the plugins which a package of this side names but does not contain."""
    found: list[str] = []
    if os.environ.get("PYTEST_DISABLE_PLUGIN_AUTOLOAD"):
        return found
    for entry in entry_points(group="pytest11"):
        try:
            there = find_spec(entry.module) is not None
        except Exception:  # noqa: BLE001  # raised by a parent package, which find_spec imports
            there = False
        found += [] if there else ["-p", f"no:{entry.name}"]
    return found


def _synchronize(result: object) -> None:
    """Wait for work that calls queued: on a GPU by torch, or by JAX, which returns results before they are there."""
    torch, jax = sys.modules.get("torch"), sys.modules.get("jax")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.synchronize()
    if jax is not None:
        jax.block_until_ready(result)
