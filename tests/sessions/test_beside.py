"""A benchmark of one's own beside the suite's, in ``bench/``: gated as any other."""

import os
import subprocess
from collections.abc import Callable, Mapping

from bench.sources.target import SUITE

from .conftest import Repository

COUNTING = """
    def count(n: int = 20000) -> int:
        return sum(range({n}))
"""
PLAIN = """
    from attention.counting import count

    def test_plain(benchmark):
        benchmark(count)
"""


def _copy_of_the_suite(make: Callable[[Mapping[str, str]], Repository]) -> Repository:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "attention", "bench", "conftest.py"],
        cwd=SUITE,
        check=True,
        capture_output=True,
    )
    names = [name for name in os.fsdecode(listed.stdout).split("\0") if name.endswith((".py", ".toml"))]
    files = {name: (SUITE / name).read_text(encoding="utf-8") for name in names}
    files |= {"attention/counting.py": COUNTING.format(n="n"), "bench/test_plain.py": PLAIN}
    files["pyproject.toml"] = (SUITE / "pyproject.toml").read_text(encoding="utf-8")
    return make(files)


def test_a_benchmark_beside_the_suite_s_is_gated_with_it(repository: Callable[[Mapping[str, str]], Repository]) -> None:
    ours = _copy_of_the_suite(repository)
    ours.write({"attention/counting.py": COUNTING.format(n="n + n // 2")})
    chosen = ("bench/", "-k", "test_plain or [sdpa-b1h4t64d32-full-fp32-cpu-fwd]", "--device=cpu", "--tier=smoke")
    outcome = ours.pytest(*chosen, plugin=False, path=())
    assert outcome.exit_code == 1, outcome.output
    assert outcome.document is not None
    assert {case["id"]: case["verdict"] for case in outcome.document["cases"]} == {
        "bench/test_plain.py::test_plain": "DRIFTED",
        "sdpa-b1h4t64d32-full-fp32-cpu-fwd": "UNCHANGED",
    }
    stored = ours.pytest("bench/", "-k", "test_plain", "--benchmark-compare", base=None, plugin=False, path=())
    assert stored.exit_code == 4
