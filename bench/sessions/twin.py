"""A twin's pytest session: it runs tests as the parent asks, and times what they hand to ``benchmark``.

The clock is bound here, which the image imports before any side's code.
"""

import gc
import os
import pickle
import random
import signal
import sys
import traceback
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture, PauseInstrumentation

from .. import pytest_benchmark_adapter
from ..plain.errors import CannotDo
from ..plain.printable import first_line
from ..pytest_benchmark_adapter import BenchmarkCall
from ..sources.caches import NVIDIA, own_caches
from ..sources.source import folders_of
from ..sources.world import in_repository
from ..timing.machine import shuffle_memory, steady_allocator
from ..twins.bursts import pin, stretched
from ..twins.party import answer, obey
from . import difference, facts, reference
from .difference import Difference
from .marker import MARKER, own
from .meeting import Arrived, Collected, Finished, SessionStart

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

NAME = "twinbench-twin"  # of the plugin in a twin, where the parent's is inert
FIXTURE = "benchmark"
SAID = 2000  # characters of what a session printed, where it ended before it had collected


def run(start: SessionStart, connection: "Connection[Any, Any]") -> None:
    """Run a side's session in this process, which was forked for it, until the parent ends it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is the parent's business
    start.scratch.mkdir(exist_ok=True)
    printed = start.scratch / f"{start.label}.out"
    with printed.open("wb") as out:
        for stream in (1, 2):
            os.dup2(out.fileno(), stream)
    common = frozenset(name.partition(".")[0] for name in sys.modules)
    held = shuffle_memory() if start.shuffled else []
    start.world.enter(start.scratch / f"{start.label}-extensions-{os.getpid()}")
    own_caches(start.scratch / f"{start.label}-caches", on_gpu=NVIDIA.exists())
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(start.threads)
    gc.enable()
    random.seed(0)  # a fork seeds it anew, each with another seed
    twin = _Twin(start, connection, common)
    absent = {"-n0": "xdist", "--no-cov": "pytest_cov"}  # arguments of plugins that another interpreter may lack
    arguments = [one for one in start.arguments if find_spec(absent.get(one, "pytest")) is not None]
    arguments += _without_absent_plugins()
    code: object
    try:
        code = pytest.main([*arguments, *start.files], plugins=[twin])
    except SystemExit as error:  # of a conftest
        code = error.code
    except Exception:  # noqa: BLE001  # of a plugin
        traceback.print_exc()
        code = int(pytest.ExitCode.INTERNAL_ERROR)
    del held
    if not twin.has_collected:
        said = printed.read_text(encoding="utf-8", errors="replace")[-SAID:].strip()
        twin.answer(
            "cannot", f"pytest ended with exit code {code} before the {start.label} had collected tests: {said}"
        )


def main() -> None:
    """Run the session that comes through the connection, in a process that ``interpreter.spawn`` has started."""
    from ..twins.interpreter import connection  # noqa: PLC0415  # a twin that is forked does not need it

    ours = connection()
    steady_allocator()
    _, (start,) = pickle.loads(ours.recv_bytes())  # noqa: S301  # from the parent
    run(start, ours)


class _Twin:
    """The plugin of a twin's session, whose first methods are the commands of the parent."""

    def __init__(self, start: SessionStart, connection: "Connection[Any, Any]", common: frozenset[str]) -> None:
        self.__name__ = NAME
        self.has_collected = False
        self._start, self._connection, self._common = start, connection, common
        self._errors: dict[str, str] = {}
        self._reports: list[dict[str, Any]] = []
        self._config: pytest.Config
        self._call: BenchmarkCall
        self._result: Any = None

    # What the parent asks, while a test waits at the fixture.

    def settle(self, cores: tuple[int, ...]) -> float:
        """Make ready to be timed on these cores, with no garbage to collect; returns the clock's resolution in ns."""
        gc.collect()
        gc.disable()
        pin(cores)
        return 1.0

    def burst(self, calls: int) -> float:
        """Time so many calls, without a tracer or a profiler; returns ns per call."""
        try:
            with PauseInstrumentation():
                taken_ns = self._call.nanoseconds(calls, perf_counter_ns, _synchronize)
        except (pytest.fail.Exception, pytest.skip.Exception) as outcome:  # no Exception, so the test would end
            raise RuntimeError(str(outcome)) from outcome
        share = self._start.slowed
        return (taken_ns if share is None else stretched(taken_ns, share)) / calls

    def release(self, cores: tuple[int, ...]) -> None:
        """Go back to all cores after timing."""
        pin(cores)
        gc.enable()

    def difference(self, other: Path) -> Difference:
        """Compare what the call returned with what the other side's did."""
        try:
            theirs = pickle.loads(other.read_bytes())  # noqa: S301  # of a process that the parent started
        except Exception as error:  # noqa: BLE001  # whatever the class of the result does
            return Difference(unknown=f"the base's result cannot be read by the head ({first_line(str(error))})")
        return difference.between(self._result, theirs)

    def imports_own(self) -> bool:
        """Whether any module but the tests themselves was imported from the side's own code."""
        world, tests = self._start.world, {Path(file).resolve() for file in self._start.files}
        roots = world.paths or [*filter(None, [world.checkout or world.repository])]
        files = {
            Path(file).resolve() for module in list(sys.modules.values()) if (file := _file_of(module)) is not None
        }
        own = (file for file in files if any(in_repository(file, root) for root in roots))
        return any(file not in tests and file.name != "conftest.py" for file in own)

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
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        items = {item.nodeid: item for item in session.items}
        self.has_collected = True
        try:
            self._refuse_another_place()
        except CannotDo as error:
            self.answer("cannot", str(error))
            return True
        tests = {id_: FIXTURE in getattr(item, "fixturenames", ()) for id_, item in items.items()}
        self.answer("done", Collected(tests, self._errors))
        while (asked := obey(self, self._connection, until="run")) is not None:
            node_id, following = asked
            self._reports.clear()
            session.config.hook.pytest_runtest_protocol(item=items[node_id], nextitem=items.get(following))
            self.answer("done", Finished(tuple(self._reports)))
        return True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        data = self._config.hook.pytest_report_to_serializable(config=self._config, report=report)
        self._reports.append(data)

    def meet(self, node: pytest.Item, fixture: BenchmarkFixture, call: BenchmarkCall) -> Any:
        """Call once, and wait with the call until the parent has timed it; returns what that first call returned."""
        asked, oracle = own(node)
        args, kwargs = call.arguments()
        expected = None if oracle is None or self._start.label != "head" else reference.expect(oracle, args, kwargs)
        before = facts.before_first_call()
        result = call.once(args, kwargs)
        self._call, self._result = call, result
        errors = () if expected is None else reference.errors(result, expected)
        unsaved = self._save() if asked.compare else None
        seen, unobserved = facts.of_call(lambda: call.once(*call.arguments()), before)
        self.answer("done", Arrived(asked, unsaved, errors, seen, unobserved))
        timings = obey(self, self._connection, until="go_on")
        if timings is None:
            pytest.exit("the run was ended", returncode=pytest.ExitCode.INTERRUPTED)
        seconds, calls = timings
        if seconds:
            pytest_benchmark_adapter.give_timings(fixture, seconds, calls)
        return result

    # The protocol

    def answer(self, outcome: str, value: object) -> None:
        answer(self._connection, outcome, value)

    def _save(self) -> str | None:
        """Leave the result for the other side; returns why that cannot be done, None where it was."""
        try:
            pickled = pickle.dumps(self._result, protocol=4)
        except Exception as error:  # noqa: BLE001  # whatever the class of the result does
            return f"a {type(self._result).__qualname__} cannot be pickled ({first_line(str(error))})"
        place = self._start.result
        try:
            place.write_bytes(pickled)
        except OSError as error:
            why = f"a result of {len(pickled)} bytes cannot be written to {place.parent} ({error.strerror})"
            self.answer("exhausted", f"{why}: set TMPDIR to a place with more room")
            pytest.exit("the run was ended", returncode=pytest.ExitCode.INTERRUPTED)
        return None

    def _refuse_another_place(self) -> None:
        """Refuse packages of the repository, or of the base's directory, that were imported from elsewhere."""
        world = self._start.world
        if self._start.installed:
            return
        roots = [*world.paths, *filter(None, [world.checkout or world.repository])]
        for name, module in list(sys.modules.items()):
            file = _file_of(module)
            if file is None or "." in name or name in self._common:
                continue
            if name in sys.stdlib_module_names:
                continue
            held = next((place for root in roots for place in folders_of(root, [name]) if _has(place, name)), None)
            if held is not None and not any(in_repository(Path(file), root) for root in roots):
                raise CannotDo(
                    f"the {self._start.label} imports {name} from {Path(file).parent}, and {held} has its own: "
                    f"install that one (pip install --editable), or put it on PYTHONPATH"
                )


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


def _without_absent_plugins() -> list[str]:
    """Return the arguments that keep pytest from plugins of packages which this side has without them."""
    found: list[str] = []
    if os.environ.get("PYTEST_DISABLE_PLUGIN_AUTOLOAD"):
        return found
    for entry in entry_points(group="pytest11"):
        try:
            there = find_spec(entry.module) is not None
        except Exception:  # noqa: BLE001  # of a package that is imported to look into it
            there = False
        found += [] if there else ["-p", f"no:{entry.name}"]
    return found


def _file_of(module: object) -> str | None:
    try:
        file = getattr(module, "__file__", None)
    except Exception:  # noqa: BLE001  # a module may be any object
        return None
    return file if isinstance(file, str) else None


def _has(folder: Path, name: str) -> bool:
    """Whether a module, or a package that is no mere folder, lies there."""
    return (folder / name / "__init__.py").is_file() or (folder / f"{name}.py").is_file()


def _synchronize() -> None:
    """Wait for work that the call queued on a GPU, if it uses one."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.synchronize()
