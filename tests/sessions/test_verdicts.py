"""One run over a repository whose change holds a fault of each kind; each test reads the rows that it is about.

Over 300 lines: half of them are the files of that repository.
"""

import os
import py_compile
import sys
from pathlib import Path

import pytest

from .conftest import Make, Outcome, new_repository

PACKAGE = """
    import time

    def same(n=2000):
        return sum(range(n))

    def slower(n=20000):
        return sum(range(n))

    def wrong():
        return [1.0, {"a": 2}]

    def dies():
        return 0

    def lost():
        return 0

    class Odd:
        def __init__(self):
            self.id = id(self) + time.time_ns()

    def odd():
        return Odd()
"""
CHANGED = """
    import os
    import time

    def same(n=2000):
        return sum(range(n))

    def slower(n=20000):
        return sum(range(n + n // 2)) - sum(range(n, n + n // 2))

    def wrong():
        return [1.0, {"a": 3}]

    def dies():
        os._exit(7)

    def added():
        return 0

    class Odd:
        def __init__(self):
            self.id = id(self) + time.time_ns()

    def odd():
        return Odd()
"""
TESTS = """
    import pytest
    import mypkg

    def test_same(benchmark):
        assert benchmark(mypkg.same) == sum(range(2000))

    def test_slower(benchmark):
        benchmark(mypkg.slower)

    def test_wrong(benchmark):
        benchmark(mypkg.wrong)

    def test_dies(benchmark):
        benchmark(mypkg.dies)

    def test_odd(benchmark):
        benchmark(mypkg.odd)

    def test_skipped_in_both(benchmark):
        pytest.skip("no such machine")

    def test_raises_in_both(benchmark):
        benchmark(lambda: 1 / 0)

    def test_never_called(benchmark):
        pass

    def test_woven(benchmark_weave):
        benchmark_weave(mypkg.same)

    def test_without_the_fixture():
        assert mypkg.same(3) == 3

    @pytest.mark.gate(threshold="500%")
    def test_slower_within_its_own_threshold(benchmark):
        benchmark(mypkg.slower)

    @pytest.mark.gate(compare=False)
    def test_wrong_and_not_compared(benchmark):
        benchmark(mypkg.wrong)

    @pytest.mark.gate(threshhold="1%")
    def test_marker_misspelt(benchmark):
        benchmark(mypkg.same)
"""
GONE = """
    def test_lost(benchmark):
        benchmark(mypkg.lost)

    def test_skipped_in_the_head(benchmark):
        benchmark(mypkg.same)
"""
ADDED = """
    def test_added(benchmark):
        benchmark(mypkg.added)

    def test_skipped_in_the_head(benchmark):
        pytest.skip("too slow now")
"""
STYLES = """
    import pytest
    import numpy
    import mypkg

    made = []

    @pytest.fixture(scope="module")
    def shared():
        made.append(len(made))
        yield made
        assert made == [0]

    def test_called(benchmark, shared):
        result = benchmark(mypkg.same, 100)
        assert result == 4950
        assert benchmark.stats.stats.rounds > 3

    def test_called_with_keywords(benchmark):
        assert benchmark(mypkg.same, n=100) == 4950

    def test_decorated(benchmark):
        @benchmark
        def result():
            return mypkg.same(100)
        assert result == 4950

    def test_lambda(benchmark):
        benchmark(lambda: mypkg.same(100))

    def test_pedantic(benchmark):
        benchmark.pedantic(mypkg.same, args=(100,), kwargs={}, rounds=10, iterations=20, warmup_rounds=2)

    def test_pedantic_with_setup(benchmark):
        waiting, torn = [], []
        def setup():
            waiting.append([3, 1, 2])
            return (waiting[-1],), {}
        def teardown(values):
            torn.append(values)
            assert values == [1, 2, 3]
        def sort(values):
            assert values == [3, 1, 2]
            values.sort()
        benchmark.pedantic(sort, setup=setup, teardown=teardown, rounds=5)
        assert len(waiting) == len(torn) > 5

    def test_array(benchmark):
        benchmark(lambda: numpy.array([mypkg.same(10), numpy.nan]))

    @pytest.mark.benchmark(group="sums", min_rounds=3, disable_gc=True, warmup=False)
    def test_grouped(benchmark):
        benchmark.extra_info["n"] = 100
        benchmark.group = "others"
        benchmark(mypkg.same, 100)

    @pytest.mark.parametrize("n", [1, 10], ids=["one", "ten [of them]"])
    def test_parametrized(benchmark, n):
        assert benchmark(mypkg.same, n) == sum(range(n))

    class TestOfAClass:
        def test_method(self, benchmark, shared):
            benchmark(mypkg.same, 100)

    def test_used_twice(benchmark):
        benchmark(mypkg.same, 10)
        with pytest.raises(Exception, match="can only be used once"):
            benchmark(mypkg.same, 10)

    @pytest.mark.xfail(reason="known")
    def test_expected_to_fail(benchmark):
        benchmark(lambda: 1 / 0)

    async def coroutine():
        return mypkg.same(10)

    def test_coroutine(benchmark):
        import asyncio
        benchmark(lambda: asyncio.run(coroutine()))
"""


# Modules with one function: what it returns in the base and in the head, the verdict, and what the reason begins with.
READING = "Path('data.txt').read_text() + helper.more()"
RETURNED = {
    "flat": ("1", "2", "DRIFTED", "the result is 2, and 1 in the base"),
    "moved": ("1", "2", "DRIFTED", "the result is 2, and 1 in the base"),  # into src/
    "space.part": ("1", "2", "DRIFTED", "the result is 2, and 1 in the base"),  # of a package without __init__
    "stamped": ("1", "2", "DRIFTED", "the result is 2, and 1 in the base"),  # with the same size and time
    "reading": (READING, READING, "DRIFTED", "the result is '2b', and '1a' in the base"),
    "random_numbers": ("random.random()", "random.random()", "UNCHANGED", ""),
    "other_random_numbers": ("random.random()", "random.random() + 1", "DRIFTED", "the result is "),
    "clock": (
        "time.time_ns()",
        "time.time_ns()",
        "UNCHANGED",
        "results not compared: the base's own differ from run to run",
    ),
}
# What each side has of its own beside its modules.
HELPER = "def more():\n    return '{0}'\n"
KEEPING = "first = []\n\ndef f(x):\n    first.append(x)\n    return first[0] * {0}\n"
KEPT = """
    import kept
    import kept_otherwise
    import pytest

    @pytest.mark.parametrize("x", [1, 2])
    def test_kept(benchmark, x):
        benchmark(kept.f, x)  # alone, the second would return another value

    @pytest.mark.parametrize("x", [1, 2])
    def test_kept_otherwise(benchmark, x):
        benchmark(kept_otherwise.f, x)
"""
NEW = "import common\nimport flat\n\ndef test_with_a_new_helper(benchmark):\n    benchmark(lambda: common.ARGUMENT)\n"


def module(returned: str) -> str:
    return f"import random\nimport time\nfrom pathlib import Path\nimport helper\n\ndef f():\n    return {returned}\n"


def own_test(name: str) -> str:
    return f"import {name} as m\n\ndef test_{name.replace('.', '_')}(benchmark):\n    benchmark(m.f)\n"


BASE = {
    "pyproject.toml": "[tool.pytest.ini_options]\npythonpath = ['.', 'src']\n",
    "conftest.py": "",
    "mypkg/__init__.py": PACKAGE,
    "benchmarks/test_speed.py": TESTS + GONE,
    "benchmarks/test_styles.py": STYLES,
    "benchmarks/test_kept.py": KEPT,
    **{f"{name.replace('.', '/')}.py": module(base) for name, (base, *_) in RETURNED.items()},
    **{f"benchmarks/test_{name.replace('.', '_')}.py": own_test(name) for name in RETURNED},
    "helper.py": HELPER.format("a"),
    "data.txt": "1",
    "kept.py": KEEPING.format(1),
    "kept_otherwise.py": KEEPING.format(1),
}
HEAD = {
    "mypkg/__init__.py": CHANGED,
    "benchmarks/test_speed.py": TESTS + ADDED,
    **{f"{name.replace('.', '/')}.py": module(head) for name, (_, head, *_) in RETURNED.items() if name != "moved"},
    "src/moved.py": module(RETURNED["moved"][1]),
    "helper.py": HELPER.format("b"),
    "data.txt": "2",
    "kept_otherwise.py": KEEPING.format(2),
    "benchmarks/common.py": "ARGUMENT = 3\n",
    "benchmarks/test_new.py": NEW,
}


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """What the run came to."""
    theirs = new_repository(tmp_path_factory.mktemp("verdicts"), BASE)
    if sys.platform == "linux":  # other systems refuse such a name
        Path(os.fsdecode(os.fsencode(theirs.path / "space") + b"/odd-\xff.dat")).write_bytes(b"1")
    theirs.commit({})
    theirs.commit({})  # with which main goes on
    theirs.git("branch", "--force", "main")
    theirs.git("reset", "--quiet", "HEAD^")
    stamped = theirs.path / "stamped.py"
    py_compile.compile(str(stamped))  # leaves bytecode
    before = stamped.stat()
    (theirs.path / "moved.py").unlink()
    theirs.write(HEAD)
    os.utime(stamped, ns=(before.st_atime_ns, before.st_mtime_ns))
    found = theirs.pytest()
    assert found.exit_code == 1, found.output
    assert "gate: FAIL" in found.output
    assert "main is not an ancestor of HEAD, so its own changes since then are compared too" in found.output
    return found


def test_every_verdict_is_reached_and_says_why(outcome: Outcome) -> None:
    expected = {
        "test_same": ("UNCHANGED", ""),
        "test_slower": ("REGRESSED", ""),
        "test_wrong": ("DRIFTED", "the result[1]['a'] is 3, and 2 in the base"),
        "test_dies": ("ERROR", "head ended in its own process with exit code 7"),
        "test_odd": ("UNCHANGED", "results not compared: the base's own differ from run to run (the result.id is "),
        "test_skipped_in_both": ("SKIPPED", "no such machine"),
        "test_raises_in_both": ("ERROR", "ZeroDivisionError"),
        "test_never_called": ("ERROR", "never calls it"),
        "test_woven": ("ERROR", "benchmark.weave times a function where other code calls it"),
        "test_slower_within_its_own_threshold": ("UNCHANGED", "its own threshold is 500%"),
        "test_wrong_and_not_compared": ("UNCHANGED", ""),
        "test_marker_misspelt": ("ERROR", "threshhold='1%'"),
        "test_added": ("NEW", "has no attribute 'added'"),
        "test_skipped_in_the_head": ("MISSING", "too slow now"),
        "test_lost": ("MISSING", "is in the base and gone from the head"),
        "test_with_a_new_helper": ("UNCHANGED", ""),
        "test_kept[1]": ("UNCHANGED", ""),
        "test_kept[2]": ("UNCHANGED", ""),
        "test_kept_otherwise[1]": ("DRIFTED", "the result is 2, and 1 in the base"),
        "test_kept_otherwise[2]": ("DRIFTED", "the result is 2, and 1 in the base"),
    }
    found = {name: (outcome.verdicts[name], outcome.reasons(name)) for name in expected}
    assert {name: verdict for name, (verdict, _) in found.items()} == {
        n: verdict for n, (verdict, _) in expected.items()
    }
    assert [name for name, (_, said) in expected.items() if said not in found[name][1]] == []


@pytest.mark.parametrize("name", RETURNED)
def test_a_result_is_compared_wherever_its_code_lies_and_from_whatever_it_is_made(outcome: Outcome, name: str) -> None:
    _, _, verdict, reason = RETURNED[name]
    test = f"test_{name.replace('.', '_')}"
    assert outcome.verdicts[test] == verdict
    assert outcome.reasons(test).startswith(reason)
    assert ("not compared" in outcome.reasons(test)) is ("not compared" in reason)


def test_each_style_of_a_benchmark_is_taken(outcome: Outcome) -> None:
    assert outcome.document is not None
    ids = [case["id"] for case in outcome.document["cases"]]
    names = [id_.rpartition("::")[2].partition("[")[0] for id_ in ids if "test_styles.py" in id_]
    assert set(names) == {line.split()[1].partition("(")[0] for line in STYLES.splitlines() if " test_" in line}
    assert names.count("test_parametrized") == 2
    verdicts = {outcome.verdicts[id_.partition("::")[2]] for id_ in ids if "test_styles.py" in id_}
    assert verdicts == {"UNCHANGED", "SKIPPED"}
    assert outcome.verdicts["test_expected_to_fail"] == "SKIPPED"


def test_selection_and_stopping_are_pytest_s_own(repository: Make) -> None:
    theirs = repository({"mypkg/__init__.py": PACKAGE, "benchmarks/test_speed.py": TESTS})
    theirs.write({"mypkg/__init__.py": CHANGED})
    enabled = ("-o", "addopts=--benchmark-disable", "--benchmark-enable")
    chosen = theirs.pytest("benchmarks", "-k", "same or without", *enabled)
    assert chosen.exit_code == 0, chosen.output
    assert chosen.verdicts == {"test_same": "UNCHANGED"}
    stopped = theirs.pytest("benchmarks/test_speed.py::test_wrong", "benchmarks/test_speed.py::test_same", "-x")
    assert stopped.exit_code == 1, stopped.output
    assert stopped.verdicts == {"test_wrong": "DRIFTED", "test_same": "ERROR"}
    assert "the run stopped before it" in stopped.reasons("test_same")
    again = theirs.pytest("benchmarks", "--lf")  # what did not fail is left out, and not gone
    assert again.verdicts == {"test_wrong": "DRIFTED"}
