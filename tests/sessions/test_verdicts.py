"""Each verdict of a test that uses ``benchmark``, and each way in which such a test is written."""

from collections.abc import Callable, Mapping

from .conftest import Repository

Make = Callable[[Mapping[str, str]], Repository]

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


def test_every_verdict_is_reached_in_one_run(repository: Make) -> None:
    theirs = repository({"mypkg/__init__.py": PACKAGE, "benchmarks/test_speed.py": TESTS + GONE})
    theirs.commit({"mypkg/__init__.py": CHANGED, "benchmarks/test_speed.py": TESTS + ADDED})
    outcome = theirs.pytest()
    assert outcome.exit_code == 1, outcome.output
    assert outcome.verdicts == {
        "test_same": "UNCHANGED",
        "test_slower": "REGRESSED",
        "test_wrong": "DRIFTED",
        "test_dies": "ERROR",
        "test_odd": "UNCHANGED",
        "test_skipped_in_both": "SKIPPED",
        "test_raises_in_both": "ERROR",
        "test_never_called": "ERROR",
        "test_woven": "ERROR",
        "test_slower_within_its_own_threshold": "UNCHANGED",
        "test_wrong_and_not_compared": "UNCHANGED",
        "test_marker_misspelt": "ERROR",
        "test_added": "NEW",
        "test_skipped_in_the_head": "MISSING",
        "test_lost": "MISSING",
    }
    assert outcome.reasons("test_wrong").startswith("the result[1]['a'] is 3, and 2 in the base")
    assert outcome.reasons("test_dies") == "head ended in its own process with exit code 7"
    assert "results not compared: the result is of type Odd, which defines no equality" in outcome.reasons("test_odd")
    assert outcome.reasons("test_skipped_in_both") == "no such machine"
    assert "ZeroDivisionError" in outcome.reasons("test_raises_in_both")
    assert "never calls it" in outcome.reasons("test_never_called")
    assert "benchmark.weave times a function where other code calls it" in outcome.reasons("test_woven")
    assert "has no attribute 'added'" in outcome.reasons("test_added")
    assert "too slow now" in outcome.reasons("test_skipped_in_the_head")
    assert outcome.reasons("test_lost") == "is in the base and gone from the head"
    assert "threshhold='1%'" in outcome.reasons("test_marker_misspelt")
    assert "gate: FAIL" in outcome.output


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


def test_each_style_of_a_benchmark_is_taken(repository: Make) -> None:
    theirs = repository({"mypkg/__init__.py": PACKAGE, "benchmarks/test_styles.py": STYLES})
    outcome = theirs.pytest()
    assert outcome.exit_code == 0, outcome.output
    expected = {name for line in STYLES.splitlines() if (name := line.strip()).startswith("def test_")}
    assert len(outcome.verdicts) == len(expected) + 1  # two of the parametrized one
    assert set(outcome.verdicts.values()) == {"UNCHANGED", "SKIPPED"}
    assert outcome.verdicts["test_expected_to_fail"] == "SKIPPED"
    assert "gate: PASS" in outcome.output
    assert "(identical source)" in outcome.output


def test_selection_and_stopping_are_pytest_s_own(repository: Make) -> None:
    theirs = repository({"mypkg/__init__.py": PACKAGE, "benchmarks/test_speed.py": TESTS})
    theirs.write({"mypkg/__init__.py": CHANGED})
    chosen = theirs.pytest("benchmarks", "-k", "same or without")
    assert chosen.exit_code == 0, chosen.output
    assert chosen.verdicts == {"test_same": "UNCHANGED"}
    enabled = theirs.pytest("benchmarks", "-k", "test_same", "-o", "addopts=--benchmark-disable", "--benchmark-enable")
    assert enabled.verdicts == {"test_same": "UNCHANGED"}, enabled.output
    stopped = theirs.pytest("benchmarks/test_speed.py::test_wrong", "benchmarks/test_speed.py::test_same", "-x")
    assert stopped.exit_code == 1, stopped.output
    assert stopped.verdicts == {"test_wrong": "DRIFTED", "test_same": "ERROR"}
    assert "the run stopped before it" in stopped.reasons("test_same")
    again = theirs.pytest("benchmarks", "--lf")  # what did not fail is left out, and not gone
    assert again.verdicts == {"test_wrong": "DRIFTED"}
