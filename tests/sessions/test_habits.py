"""What tests, settings and plugins of people do beside a call: one run over a repository that does it all.

Over 300 lines: most of them are the files of that repository.
"""

from pathlib import Path

import pytest

from bench.sessions.session import IF_IN_USE

from .conftest import Outcome, Repository, new_repository

SETTINGS = """
    [tool.pytest.ini_options]
    addopts = "--ff --strict-config --strict-markers -m 'not slow' --at-end=end --junitxml=report.xml --report-log=log"
    cache_dir = ".kept"
    markers = ["slow", "never", "again"]
"""
CONFTEST = """
    import json
    import os
    import pathlib
    import pytest
    from _pytest.runner import runtestprotocol

    def pytest_addoption(parser):
        parser.addoption("--size", type=json.loads, default={"n": 1})
        parser.addoption("--at-end")
        parser.addoption("--report-log")

    def pytest_sessionfinish(session):
        pathlib.Path(session.config.option.at_end).write_text(str(os.getpid()))

    class Timeouts:  # as pytest-timeout has it
        @pytest.hookspec(firstresult=True)
        def pytest_timeout_set_timer(self, item, settings): ...

    def pytest_addhooks(pluginmanager):
        pluginmanager.add_hookspecs(Timeouts())

    class Timed:
        @pytest.hookimpl(wrapper=True)
        def pytest_runtest_protocol(self, item):
            assert item.ihook.pytest_timeout_set_timer(item=item, settings=None)
            return (yield)

    def pytest_configure(config):
        config.pluginmanager.register(Timed())
        if config.option.report_log:  # by pytest-reportlog, which is not here
            with open(config.option.report_log, "a") as log:
                log.write(str(os.getpid()))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(item, call):
        report = yield
        report.seen = lambda: None  # which cannot be pickled
        return report

    def pytest_runtest_protocol(item, nextitem):  # as plugins do that run a failed test again
        if item.get_closest_marker("again"):
            runtestprotocol(item, nextitem=nextitem, log=False)
            item._initrequest()
            item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
            runtestprotocol(item, nextitem=nextitem)
            return True
"""
TOOL = """
    import random
    import time
    from pathlib import Path
    from _version import VERSION

    K = {k}
    shared = []
    taken = set()

    def several(): return {several}
    def partly(): return {{"at": time.time_ns(), "value": K}}
    def place(): return [__file__, Path(__file__)]
    def own_buffer(): shared.append(K); return shared
    def child(): print(K)
    def once(): taken.remove(1)
    def fails(): raise ValueError("as it should")
    def fails_otherwise(): raise (KeyError if K else ValueError)("as it should")
    def fill(values): values[1] = K
    def later(calls=[0]): calls[0] += 1; return K if calls[0] > 1 else 7
    def fresh(buffer=[0]): buffer[0] += 1; return buffer if K else list(buffer)
    def closed(): return Closed({{"user": K}})
    def read(): return VERSION, (Path(__file__).parent / "benchmarks/data/words.txt").read_text() * K
    def sized(n): return n
    def drawn(n): random.seed(K); return n

    class Closed(dict):
        def __setitem__(self, key, value): raise ValueError

    class Kept:
        def add(self): self.values = [0] * (300 - K)

    if __name__ == "__main__":
        child()
"""
TESTS = """
    import hashlib
    import multiprocessing
    import os
    import random
    import signal
    import subprocess
    import sys
    import tempfile
    import time
    from pathlib import Path
    import jax
    import pytest
    import tool

    DRAWN = random.random()
    MADE = Path(__file__).parent / "data" / "made" / "once.txt"  # which git ignores

    def test_drawn(benchmark): benchmark(tool.drawn, DRAWN)
    def test_drawn_after_that(benchmark): benchmark(tool.sized, random.random())
    def test_kind(benchmark): benchmark(tool.several)
    def test_partly(benchmark): benchmark(tool.partly)
    def test_place(benchmark): benchmark(tool.place)
    def test_environment(benchmark): benchmark(lambda: dict(os.environ))

    def test_threads_of_libraries(benchmark):
        assert os.environ["OMP_NUM_THREADS"] == "1"
        benchmark(tool.place)

    def test_own_buffer(benchmark): benchmark(tool.own_buffer)
    def test_data(benchmark): benchmark(tool.read)

    def test_temporary(benchmark, tmp_path):
        tool.left = tmp_path
        benchmark(lambda: [tmp_path / "data", (tmp_path / str(time.time_ns())).write_text("1")])

    def test_made_of_temporary_path(benchmark, tmp_path):
        benchmark(lambda: [tmp_path / "data", hashlib.md5(bytes(tmp_path)).hexdigest()])

    def test_temporary_after_that(benchmark):
        assert not tool.left.exists()
        benchmark(tool.place)

    def test_dispatched(benchmark):
        jax.awaited.clear()
        benchmark(jax.dispatch)
        assert jax.awaited == [None, "promise"] * (len(jax.awaited) // 2)
        assert len(jax.awaited) > 20

    def test_process(benchmark):
        mp = multiprocessing
        looked_at = benchmark(lambda: [mp.get_start_method(allow_none=True), mp.current_process().name])
        assert looked_at == [None, "MainProcess"]

    def test_made_once(benchmark):
        if not MADE.parent.exists():
            MADE.parent.mkdir()
            MADE.write_text(str(time.time_ns()))
        tool.made = MADE.read_text()
        benchmark(MADE.read_text)

    def test_made_before(benchmark):
        assert MADE.read_text() == tool.made
        benchmark(tool.place)

    def test_made_by_code(benchmark):
        made = MADE.parents[1] / "made by code.txt"
        if not made.exists():
            made.write_text(str(tool.K))
        benchmark(made.read_text)

    def test_held(benchmark):
        held = Path(tempfile.gettempdir()) / f"held-{os.getppid()}"  # both sides have one parent
        try:
            with held.open("x"):
                benchmark(tool.place)
                held.unlink()
        except FileExistsError as error:
            raise RuntimeError("no server") from error

    def test_held_by_a_name_that_was_drawn(benchmark):
        held = Path(tempfile.gettempdir()) / f"held-{os.getppid()}-{random.random()}"
        with held.open("x"):
            benchmark(lambda: held.name)  # which varies by itself
            held.unlink()

    def test_child(benchmark):
        command = [sys.executable, "-m", "tool"]
        benchmark(lambda: subprocess.run(command, check=True, capture_output=True).stdout)

    def test_once(benchmark):
        tool.taken.add(1)
        benchmark.pedantic(tool.once, rounds=1)

    def test_fails(benchmark):
        with pytest.raises(ValueError):
            benchmark(tool.fails)

    def test_fails_otherwise(benchmark):
        with pytest.raises((KeyError, ValueError)):
            benchmark(tool.fails_otherwise)

    def test_in_place(benchmark): benchmark(tool.fill, values=[7, 7])
    def test_later(benchmark): benchmark(tool.later)
    def test_fresh(benchmark): benchmark(tool.fresh)
    def test_closed(benchmark): benchmark(tool.closed)

    def test_by_name(request): request.getfixturevalue("benchmark")(tool.place)

    def test_option(benchmark, pytestconfig):
        assert benchmark(tool.sized, pytestconfig.getoption("--size")["n"]) == 7

    def test_cached(benchmark, cache):
        cache.set("a/b", 1)
        benchmark(tool.place)

    @pytest.fixture
    def server():
        started = subprocess.Popen([sys.executable, "-c", "import time; print(flush=True); time.sleep(60)"], stdout=-1)
        started.stdout.readline()
        yield
        started.send_signal(signal.SIGINT)
        started.wait(10)

    def test_interrupted_child(benchmark, server): benchmark(tool.place)

    @pytest.mark.slow
    def test_slow(benchmark): benchmark(tool.place)

    @pytest.mark.again
    def test_again(benchmark):
        kept = tool.Kept()
        benchmark(kept.add)
        assert len(kept.values) == 300

    def test_uses(benchmark): benchmark(tool.place)
    def test_selected(benchmark): benchmark(tool.place)
"""
JAX = """
    awaited = []

    def dispatch():
        return "promise"

    def block_until_ready(result):
        awaited.append(result)
"""
BASE = {
    ".gitignore": "__pycache__/\n.kept/\n_version.py\ndata/\n",
    "pyproject.toml": SETTINGS,
    "conftest.py": CONFTEST,
    "jax.py": JAX,
    "tool.py": TOOL.format(k=0, several="[1, 2]"),
    "benchmarks/test_tool.py": TESTS,
}
IGNORED = {"_version.py": "VERSION = 1\n", "benchmarks/data/words.txt": "words"}
HEAD = {
    "tool.py": TOOL.format(k=1, several="(n for n in [1, 2])"),
    "benchmarks/test_tool.py": TESTS.replace(
        "def test_uses(benchmark): benchmark(tool.place)", "def test_uses(): tool.place()"
    ).replace("    def test_selected", "    @pytest.mark.never\n    def test_selected"),
}
GONE = "runs in the base, and is deselected in the head or uses no benchmark fixture there"


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """A repository that does it all."""
    made = new_repository(tmp_path_factory.mktemp("habits"), BASE)
    made.write({**HEAD, **IGNORED})
    return made


@pytest.fixture(scope="module")
def outcome(theirs: Repository) -> Outcome:
    """What the run came to."""
    found = theirs.pytest(
        "benchmarks", '--size={"n": 7}', "-m", "not never", path=(str(Path(__file__).parents[2]), str(theirs.path))
    )
    assert found.exit_code == 1, found.output
    return found


@pytest.mark.parametrize(
    ("name", "verdict", "said"),
    [
        ("test_kind", "DRIFTED", "the result is of type generator, and list in the base"),
        (
            "test_partly",
            "UNCHANGED",
            "results not compared: the base's own differ from run to run (the result['at'] is ",
        ),
        ("test_place", "UNCHANGED", ""),
        ("test_environment", "UNCHANGED", ""),
        ("test_threads_of_libraries", "UNCHANGED", ""),
        ("test_own_buffer", "DRIFTED", "the result[0] is 1, and 0 in the base"),
        ("test_data", "DRIFTED", "the result[1] is 'words', and '' in the base"),
        ("test_temporary", "UNCHANGED", ""),
        ("test_temporary_after_that", "UNCHANGED", ""),
        (
            "test_made_of_temporary_path",
            "UNCHANGED",
            "results not compared: the base's own differ from run to run (the result[1] is ",
        ),
        ("test_dispatched", "UNCHANGED", ""),
        ("test_process", "UNCHANGED", ""),
        ("test_made_once", "UNCHANGED", "results not compared: the base's own differ from run to run (the result is "),
        ("test_made_before", "UNCHANGED", ""),
        ("test_made_by_code", "DRIFTED", "the result is '1', and '0' in the base"),
        (
            "test_held_by_a_name_that_was_drawn",
            "UNCHANGED",
            "results not compared: the base's own differ from run to run (the result is 'held-",
        ),
        ("test_child", "DRIFTED", "the result is b'1\\n', and b'0\\n' in the base"),
        ("test_once", "ERROR", "base raised KeyError when it was called again: 1 (a benchmark is called many times"),
        ("test_fails", "UNCHANGED", "checked, not timed; the call raises ValueError: as it should"),
        (
            "test_fails_otherwise",
            "DRIFTED",
            "the call raises KeyError: 'as it should', and ValueError: as it should in",
        ),
        ("test_in_place", "DRIFTED", "after the call, argument 'values'[1] is 1, and 0 in the base"),
        ("test_later", "DRIFTED", "in a later call, the result is 1, and 0 in the base"),
        ("test_fresh", "DRIFTED", "after a later call, the first result is changed, and not in the base"),
        ("test_closed", "DRIFTED", "the result.items[0][1] is 1, and 0 in the base"),
        ("test_drawn", "UNCHANGED", ""),
        ("test_drawn_after_that", "UNCHANGED", ""),
        ("test_option", "UNCHANGED", ""),
        ("test_cached", "UNCHANGED", ""),
        ("test_interrupted_child", "UNCHANGED", ""),
        ("test_slow", "UNCHANGED", ""),
        ("test_again", "ERROR", "failed in the head: assert 299 == 300"),
        ("test_uses", "MISSING", GONE),
        ("test_selected", "MISSING", GONE),
    ],
)
def test_it_is_compared_as_it_would_run(outcome: Outcome, name: str, verdict: str, said: str) -> None:
    reasons = outcome.reasons(name)  # on a busy machine also of a slowdown that new twins did not confirm
    assert (outcome.verdicts[name], said in reasons) == (verdict, True), reasons
    assert ("not compared" in reasons) is ("not compared" in said), reasons


def test_what_plugins_write_is_of_the_whole_run_and_not_of_a_twin(theirs: Repository, outcome: Outcome) -> None:
    assert outcome.verdicts["test_kind"] in (theirs.path / "report.xml").read_text()
    assert (theirs.path / "end").read_text() == (theirs.path / "log").read_text()  # one process wrote both, once


def test_what_one_side_holds_and_the_other_cannot_get_is_an_error_that_says_so(outcome: Outcome) -> None:
    assert outcome.verdicts["test_held"] == "ERROR"
    assert outcome.reasons("test_held").endswith(f"RuntimeError: no server{IF_IN_USE}")


def test_what_the_gate_cannot_see_beforehand_fails_and_what_git_ignores_is_named(outcome: Outcome) -> None:
    assert "asks for benchmark by getfixturevalue: name it among the arguments of the test" in outcome.output
    assert "_version.py, so the base uses the head's copy" in outcome.output
