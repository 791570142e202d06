"""Every use of pytest-benchmark's private parts, as ``tests/plugin/test_pytest_benchmark_adapter.py`` holds them."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture
from pytest_benchmark.storage.file import FileStorage
from pytest_benchmark.utils import get_machine_id, safe_dumps

from .plain.errors import CannotDo
from .plain.files import check_writable, write_atomically
from .plain.strict_json import strict

_NUMBERED = "[0-9][0-9][0-9][0-9]_"


def take_over_comparison(config: pytest.Config) -> None:
    """Keep pytest-benchmark from comparing stored times itself; before its ``pytest_configure``."""
    config.option.benchmark_compare = []
    config.option.benchmark_quiet = True


def save_atomically(config: pytest.Config) -> None:
    """Make pytest-benchmark's files appear whole or not at all; after its ``pytest_configure``.

    Raises:
        CannotDo: one that was asked for cannot be written, now or when it is saved.

    """
    session = config._benchmarksession  # type: ignore[attr-defined]  # set by pytest-benchmark
    storage = session.storage

    def save(output: dict[str, Any], name: str) -> None:
        path = storage.get(f"{storage._next_num}_{name}.json")
        write_atomically(path, safe_dumps(strict(output), ensure_ascii=True, indent=4))
        storage.logger.info(f"Saved benchmark data in: {path}")

    def save_json(output: dict[str, Any]) -> None:
        write_atomically(Path(session.json), safe_dumps(strict(output), ensure_ascii=True, indent=4))
        session.logger.info(f"Wrote benchmark data in: {session.json}", purple=True)

    if isinstance(storage, FileStorage):
        storage.save = save  # type: ignore[method-assign]  # the one way in: the class is fixed by the URL
        if name := session.save or session.autosave:
            check_writable(storage.get(f"{storage._next_num}_{name}.json"))
    session.save_json = save_json
    if session.json:
        check_writable(Path(session.json))


def withhold_saving(config: pytest.Config) -> bool:
    """Cancel the saving that was asked for, if any; returns whether it was."""
    session = config._benchmarksession  # type: ignore[attr-defined]  # set by pytest-benchmark
    asked = bool(session.save or session.autosave)
    session.save = session.autosave = None
    return asked


def find_baseline(config: pytest.Config, wanted: str | bool) -> Path:
    """Find the stored baseline with this number or path, or the latest if ``wanted`` is True.

    The latest is the highest number stored by this Python on this kind of system, else by any other: source runs
    anywhere.

    Raises:
        CannotDo: there is none, or more than one.

    """
    storage = config._benchmarksession.storage  # type: ignore[attr-defined]  # set by pytest-benchmark
    if not isinstance(storage, FileStorage):
        raise CannotDo("baselines are compared from files only: give --benchmark-storage=file://DIRECTORY")
    if wanted is True:
        found = storage.query(_NUMBERED) or storage.query(f"*/{_NUMBERED}")
        if not found:
            raise CannotDo(f"no baseline is stored in {storage}: store one with --benchmark-save=NAME")
        return Path(found[-1])
    name = str(wanted)
    if os.path.isdir(name):  # noqa: PTH112  # to Path, a name too long to be a directory is an error
        raise CannotDo(
            f"--benchmark-compare took {name!r} as the id of a baseline: write it last, or as --benchmark-compare=ID"
        )
    try:
        numbered = name.zfill(4) if name.isdecimal() else name
        found = next(filter(None, map(storage.query, (numbered, f"*/{numbered}", name, f"*/{name}"))), [])
    except (ValueError, NotImplementedError):  # it is no pattern for files in the storage
        found = []
    if len(found) != 1:
        seen = ", ".join(f.name for f in found) if found else "none"
        raise CannotDo(
            f"--benchmark-compare={name} should match one baseline in {storage} and matches {seen}: "
            "give its number or its path"
        )
    return Path(found[0])


def latest_baseline(directory: Path) -> Path:
    """Find what ``find_baseline`` calls the latest, in a storage directory and without a pytest session.

    Raises:
        CannotDo: there is none.

    """
    own = directory.glob(f"{get_machine_id()}/{_NUMBERED}*.json")
    found = sorted(own) or sorted(directory.glob(f"*/{_NUMBERED}*.json"), key=lambda path: path.name)
    if not found:
        raise CannotDo(
            f"no baseline is stored in {directory}: store one with --benchmark-save=NAME, or give --gate-base"
        )
    return found[-1]


@dataclass(frozen=True)
class BenchmarkCall:
    """What a test hands to the fixture. ``arguments`` makes those of the next call, and ``teardown`` follows each call.

    A call that is not ``prepared`` has the same arguments each time, and nothing to follow it.
    """

    target: Callable[..., Any]
    arguments: Callable[[], tuple[tuple[Any, ...], Mapping[str, Any]]]
    teardown: Callable[..., object] | None = None
    prepared: bool = False

    def once(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Call once with these arguments, and with what follows a call."""
        returned = self.target(*args, **kwargs)
        if self.teardown is not None:
            self.teardown(*args, **kwargs)
        return returned

    def nanoseconds(self, calls: int, now_ns: Callable[[], int], synchronize: Callable[[object], object]) -> int:
        """Return what so many calls take together, without what prepares and follows each of them.

        ``synchronize`` waits for what is queued before and after; it is given what the last call returned.
        """
        target, taken = self.target, 0
        if not self.prepared:
            args, kwargs = self.arguments()
            synchronize(None)
            start = now_ns()
            for _ in range(calls - 1):
                target(*args, **kwargs)
            synchronize(target(*args, **kwargs))
            return now_ns() - start
        for _ in range(calls):
            args, kwargs = self.arguments()
            synchronize(None)
            start = now_ns()
            synchronize(target(*args, **kwargs))
            taken += now_ns() - start
            if self.teardown is not None:
                self.teardown(*args, **kwargs)
        return taken


def redirect(benchmark: BenchmarkFixture, run: Callable[[BenchmarkCall, Callable[[], Any]], Any]) -> None:
    """Hand what a test gives the fixture to ``run``, which returns what the test gets.

    The second argument of ``run`` has the fixture do with it what it would have done.
    """
    own_raw: Any = benchmark._raw
    own_pedantic: Any = benchmark._raw_pedantic

    def raw(target: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return run(BenchmarkCall(target, lambda: (args, kwargs)), lambda: own_raw(target, *args, **kwargs))

    def raw_pedantic(
        target: Callable[..., Any],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        setup: Callable[[], Any] | None = None,
        teardown: Callable[..., object] | None = None,
        **repeats: int,
    ) -> Any:
        if repeats.get("iterations", 1) > 1 and setup is not None:
            raise ValueError("Can't use more than 1 `iterations` with a `setup` function.")

        def arguments() -> tuple[tuple[Any, ...], Mapping[str, Any]]:
            given = None if setup is None else setup()
            if given and (args or kwargs):
                raise TypeError("Can't use `args` or `kwargs` if `setup` returns the arguments.")
            own_args, own_kwargs = given or (args, kwargs or {})
            return tuple(own_args), own_kwargs

        return run(
            BenchmarkCall(target, arguments, teardown, prepared=setup is not None or teardown is not None),
            lambda: own_pedantic(target, args, kwargs, setup=setup, teardown=teardown, **repeats),
        )

    of_one: Any = benchmark  # its methods are replaced
    of_one._raw, of_one._raw_pedantic = raw, raw_pedantic


def refuse_weaving(benchmark: BenchmarkFixture) -> None:
    """Refuse to time a function where other code calls it."""

    def refuse(*_: object, **__: object) -> None:
        raise NotImplementedError(
            "benchmark.weave times a function where other code calls it, and base and head can be compared only by "
            "calls that a test makes: give the function to benchmark(f, ...)"
        )

    of_one: Any = benchmark  # its methods are replaced
    of_one.weave = of_one.patch = refuse


def leave_untimed(benchmark: BenchmarkFixture) -> None:
    """Tell pytest-benchmark that the fixture stays without timings on purpose; it would warn otherwise."""
    benchmark._mode = "gate"


def give_timings(benchmark: BenchmarkFixture, seconds_per_burst: Sequence[float], calls_per_burst: int) -> None:
    """Hand timings taken elsewhere to pytest-benchmark, as if the fixture had taken them."""
    benchmark._mode = "gate"
    stats = benchmark._make_stats(calls_per_burst)
    for seconds in seconds_per_burst:
        stats.update(seconds)
