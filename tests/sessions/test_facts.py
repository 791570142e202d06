"""Facts of a call where tests load torch, and results held to a reference where there is no base."""

from collections.abc import Callable, Mapping

import pytest
import torch

from bench.observing.compilation import counters
from bench.sessions import facts

from .conftest import Repository

Make = Callable[[Mapping[str, str]], Repository]
MODULE = """
    import torch

    kept = []

    def attend(q):
        return torch.nn.functional.scaled_dot_product_attention(q, q, q)

    def remember(q):
        return q + 1

    def light(q):
        return q * 2
"""
EDITS = {
    "scaled_dot_product_attention(q, q, q)": "scaled_dot_product_attention(*(x[0] for x in (q, q, q)))[None]",
    "return q + 1": "kept.append(q + 1)\n        return kept[-1]",
    "return q * 2": "return (q.repeat(40, 1, 1, 1) * 2)[:1]",
}
TESTS = """
    import m
    import torch

    q = torch.ones(1, 4, 64, 32)

    def test_attend(benchmark):
        benchmark(m.attend, q)

    def test_remember(benchmark):
        benchmark(m.remember, q)

    def test_light(benchmark):
        benchmark(m.light, q)

    def test_without_tensors(benchmark):
        benchmark(sum, [1, 2])
"""


def test_a_backend_memory_and_what_stays_alive_are_compared(repository: Make) -> None:
    theirs = repository({"m.py": MODULE, "conftest.py": "", "benchmarks/test_m.py": TESTS})
    edited = MODULE
    for before, after in EDITS.items():
        edited = edited.replace(before, after)
    theirs.write({"m.py": edited})
    outcome = theirs.pytest("benchmarks", "--gate-threshold=1000%")
    assert outcome.exit_code == 1, outcome.output
    verdicts = outcome.verdicts
    assert verdicts.pop("test_without_tensors") == "UNCHANGED"
    assert set(verdicts.values()) <= {"CHANGED", "REGRESSED"}  # memory that is new at each call takes time, too
    assert "backend flash -> math because q, k, v have 3, 3, 3 dimensions" in outcome.reasons("test_attend")
    assert "keeps 32768 bytes a call alive" in outcome.reasons("test_remember")
    assert "peak 0.03 MiB -> " in outcome.reasons("test_light")


def test_a_call_that_cannot_be_watched_has_no_facts() -> None:
    def raises() -> None:
        raise RuntimeError("not under a dispatch mode")

    assert facts.of_call(raises, counters()) == (None, "RuntimeError: not under a dispatch mode")
    assert facts.of_call(lambda: 1, counters()) == (None, None)
    assert facts.of_call(lambda: torch.ones(2), None) == (None, None)


def test_a_head_that_alone_cannot_be_watched_is_an_error(repository: Make) -> None:
    watched = "import torch\nfrom torch.utils._python_dispatch import _get_current_dispatch_mode as mode\n\ndef f(q):\n"
    test = "import m\nimport torch\n\ndef test_f(benchmark):\n    benchmark(m.f, torch.ones(4))\n"
    theirs = repository({"m.py": watched + "    return q + 1\n", "conftest.py": "", "benchmarks/test_m.py": test})
    theirs.write({"m.py": watched + "    assert mode() is None, 'seen'\n    return q + 1\n"})
    outcome = theirs.pytest()
    assert outcome.exit_code == 1, outcome.output
    assert outcome.reasons("test_f") == "a watched call raised AssertionError: seen in the head, and not in the base"


REFERENCE = """
    import pytest
    import torch

    def exact(x):
        return x.exp()

    def wrong(x):
        return x.exp() * 1.01

    @pytest.mark.gate(reference=exact)
    def test_right(benchmark):
        benchmark(torch.exp, torch.ones(8))

    @pytest.mark.gate(reference=exact)
    def test_wrong(benchmark):
        benchmark(wrong, torch.ones(8))

    @pytest.mark.gate(reference=exact)
    def test_pedantic(benchmark):
        benchmark.pedantic(wrong, setup=lambda: ((torch.ones(8),), {}), rounds=2)

    @pytest.mark.gate(reference=3)
    def test_no_reference(benchmark):
        benchmark(torch.exp, torch.ones(8))
"""


@pytest.mark.parametrize("options", [(), ("--benchmark-disable", "-n2")])
def test_without_a_base_results_are_held_to_references(repository: Make, options: tuple[str, ...]) -> None:
    theirs = repository({"conftest.py": "", "benchmarks/test_exp.py": REFERENCE})
    outcome = theirs.pytest("benchmarks", *options, base=None, autoload=True)
    assert outcome.exit_code == 1, outcome.output
    assert "2 failed, 1 passed" in outcome.output
    assert "1 error" in outcome.output
    assert "out: error 0.0272 is over its budget" in outcome.output
    assert "@pytest.mark.gate(reference=3): give a function that returns what the call should" in outcome.output
