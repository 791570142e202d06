"""Tests that load torch: facts of their calls, and results held to references, of which the examples have some.

The examples are attention beyond dense q, k, v. Over 300 lines: one run compares all of it, so its tests share a file.
"""

import sys
from collections import Counter
from pathlib import Path

import pytest
import torch

from bench.observing.compilation import counters
from bench.sessions import facts
from bench.sources.target import SUITE

from .conftest import Make, Outcome, new_repository

EXAMPLES = {
    path.name: path.read_text(encoding="utf-8") for path in (SUITE / "tests" / "sessions" / "examples").glob("*.py")
}
MODULE = """
    import torch

    kept = []

    def attend(q):
        return torch.nn.functional.scaled_dot_product_attention(q, q, q)

    def remember(q):
        return q + 1

    def light(q):
        return q * 2

    def loss(layer):
        return layer(torch.ones(2)).sum()
"""
EDITS = {
    "scaled_dot_product_attention(q, q, q)": "scaled_dot_product_attention(*(x[0] for x in (q, q, q)))[None]",
    "return q + 1": "kept.append(q + 1)\n        return kept[-1]",
    "(2)).sum()": "(2)).sum() * 1.01",
    "return q * 2": "return (q.repeat(40, 1, 1, 1) * 2)[:1]",
}
TESTS = """
    import m
    import torch

    q = torch.ones(1, 4, 64, 32)
    layer = torch.nn.Linear(2, 1)

    def step():
        m.loss(layer).backward()

    def test_attend(benchmark):
        benchmark(m.attend, q)

    def test_remember(benchmark):
        benchmark(m.remember, q)

    def test_light(benchmark):
        benchmark(m.light, q)

    def test_backward(benchmark):
        benchmark(step)

    def test_without_tensors(benchmark):
        benchmark(sum, [1, 2])
"""
WATCHED = """
    import torch
    from torch.utils._python_dispatch import _get_current_dispatch_mode as mode

    def f(q):
        {refuse}
        return q + 1
"""
TEST_WATCHED = "import torch\nimport watched\n\ndef test_watched(benchmark):\n    benchmark(watched.f, torch.ones(4))\n"
MISFITS = """
    import pytest
    import torch

    @pytest.mark.gate(reference=lambda x: (x, x))
    def test_other_tensors(benchmark):
        benchmark(lambda x: x, torch.ones(2))

    @pytest.mark.gate(reference=lambda x: 1)
    def test_no_tensor(benchmark):
        benchmark(lambda x: x, torch.ones(2))

    @pytest.mark.gate(reference=3)
    def test_no_function(benchmark):
        benchmark(lambda x: x, torch.ones(2))

    @pytest.mark.gate(reference=lambda xs: {"a": xs[0] * 2, "b": xs[1]["c"] + 1})
    def test_named_tensors(benchmark):
        benchmark(lambda xs: {"a": xs[0] + xs[0], "b": xs[1]["c"] + 1.001}, (torch.ones(2), {"c": torch.ones(3)}))
"""
# Equal on both sides, and stored with what differs; each notes in which process it is read or called.
NOTING = """
    import os

    import pytest
    import torch

    def note(what):
        with open(os.environ["NOTES"], "a") as notes:
            notes.write(f"{what} {os.getpid()}\\n")

    class Noting:
        def __init__(self):
            self.process = os.getpid()

        def __eq__(self, other):
            return True

        def __setstate__(self, state):
            note("read")

    class Same:
        def __setstate__(self, state):
            note("read in vain")

        def __getstate__(self):
            return "the same bytes"

    def exact(x):
        note("called")
        return x.exp()

    def test_same(benchmark):
        benchmark(Same)

    def test_result(benchmark):
        benchmark(Noting)

    @pytest.mark.gate(reference=exact)
    def test_reference(benchmark):
        benchmark(torch.exp, torch.ones(8))
"""
DRAWING = """
    import random

    import numpy as np
    import torch

    def more():
        return None

    def itself():
        return np.random.rand()
"""
DRAWN = """
    import os
    import random

    import drawing
    import numpy as np
    import torch
    from test_noting import note

    def draw():
        return [random.random(), np.random.rand(2), np.random.default_rng().random(2), torch.rand(2)]

    AT_IMPORT = draw()

    def test_draws_more(benchmark):
        benchmark(sum, [len([drawing.more() for _ in range(3)])])

    def test_drawn(benchmark):
        drawn = [*AT_IMPORT, *draw()]
        benchmark(lambda: drawn)

    def test_draws(benchmark):
        benchmark(draw)

    def test_draws_otherwise(benchmark):
        benchmark(drawing.itself)

    def test_more_threads(benchmark):
        torch.set_num_threads(3)
        benchmark(lambda: note(f"threads {torch.get_num_threads()}"))
        assert torch.get_num_threads() == 3
        torch.set_num_threads(1)

    def test_threads(benchmark):
        before, matrix = len(os.listdir("/proc/self/task")), np.ones((512, 512))
        benchmark(np.matmul, matrix, matrix)
        assert len(os.listdir("/proc/self/task")) == before
"""
# Wrong edits by the test that sees them: text of the kernel, what takes its place.
WRONG = {
    "test_packed_sequences": ("is_causal=True", "is_causal=start > 0"),
    "test_paged_cache": ("[:length]", "[: length // 16 * 16]"),
    "test_latent_attention": ("q.shape[-1] ** -0.5", "compressed.shape[-1] ** -0.5"),
    "test_linear_attention": ("norm + b.sum(dim=1)[..., None]", "norm + b.mean(dim=1)[..., None]"),
}


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


@pytest.fixture(scope="module")
def notes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("noting") / "notes"


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory, notes: Path) -> Outcome:
    """A comparison of all of them with their edits."""
    files = {
        **EXAMPLES,
        "conftest.py": "",
        "m.py": MODULE,
        "test_m.py": TESTS,
        "watched.py": WATCHED.format(refuse="pass"),
        "test_watched.py": TEST_WATCHED,
        "test_misfits.py": MISFITS,
        "test_noting.py": NOTING,
        "drawing.py": DRAWING,
        "test_drawing.py": DRAWN,
    }
    theirs = new_repository(tmp_path_factory.mktemp("facts"), files)
    edited, kernels = MODULE, EXAMPLES["kernels.py"]
    for before, after in EDITS.items():
        edited = edited.replace(before, after)
    for before, after in WRONG.values():
        assert kernels.count(before) == 1
        kernels = kernels.replace(before, after)
    refusing = WATCHED.format(refuse="assert mode() is None, 'seen'")
    more = "return random.random(), np.random.rand(), np.random.default_rng(), torch.rand(1)"
    drawing = DRAWING.replace("return np.random.rand()", "return np.random.rand() / 2").replace("return None", more)
    theirs.write({"m.py": edited, "kernels.py": kernels, "watched.py": refusing, "drawing.py": drawing})
    found = theirs.pytest(".", "--gate-threshold=1000%", NOTES=str(notes))
    assert found.exit_code == 1, found.output
    return found


def test_a_backend_memory_and_what_stays_alive_are_compared(outcome: Outcome) -> None:
    assert outcome.verdicts["test_without_tensors"] == "UNCHANGED"
    for name, said in (
        ("test_attend", "backend flash -> math because q, k, v have 3, 3, 3 dimensions"),
        ("test_remember", "keeps 32768 bytes a call alive"),
        ("test_light", "peak 0.03 MiB -> "),
    ):
        assert outcome.verdicts[name] in ("CHANGED", "REGRESSED")  # memory that is new at each call takes time, too
        assert said in outcome.reasons(name)


def test_a_wrong_gradient_of_a_call_that_returns_nothing_has_drifted(outcome: Outcome) -> None:
    assert outcome.verdicts["test_backward"] == "DRIFTED"
    assert outcome.reasons("test_backward").startswith("after the call, variable 'layer'['weight.grad']: Tensor-likes")


def test_a_head_that_alone_cannot_be_watched_is_an_error(outcome: Outcome) -> None:
    said = "a watched call raised AssertionError: seen in the head, and not in the base"
    assert outcome.reasons("test_watched") == said
    assert outcome.verdicts["test_watched"] == "ERROR"


def test_a_wrong_edit_of_each_example_has_drifted(outcome: Outcome) -> None:
    assert {name: outcome.verdicts[name] for name in WRONG} == dict.fromkeys(WRONG, "DRIFTED")
    for name in WRONG:
        assert outcome.reasons(name).startswith("out: error ")


def test_both_sides_read_results_and_call_references_before_they_are_timed(outcome: Outcome, notes: Path) -> None:
    assert (
        outcome.verdicts["test_same"]
        == outcome.verdicts["test_result"]
        == outcome.verdicts["test_reference"]
        == "UNCHANGED"
    )
    assert "in vain" not in notes.read_text()
    by_process = Counter(notes.read_text().splitlines())
    for what in ("read", "called"):
        ours, theirs = (count for noted, count in by_process.items() if noted.startswith(what))
        assert ours == theirs


def test_both_sides_draw_the_same_numbers_whatever_an_earlier_test_has_drawn(outcome: Outcome) -> None:
    for name in ("test_draws_more", "test_drawn", "test_draws"):
        assert outcome.verdicts[name] == "UNCHANGED"
        assert "not compared" not in outcome.reasons(name)
    assert outcome.verdicts["test_draws_otherwise"] == "DRIFTED"


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads as Linux shows them")
def test_libraries_start_no_more_threads_than_there_are_cores_to_be_timed_on(outcome: Outcome, notes: Path) -> None:
    assert outcome.verdicts["test_threads"] == outcome.verdicts["test_more_threads"] == "UNCHANGED"
    by_threads = Counter(line.split()[1] for line in notes.read_text().splitlines() if line.startswith("threads"))
    assert by_threads["1"] > by_threads["3"] > 1  # timed with one, called before with as many as the test says


def test_a_reference_that_does_not_fit_is_refused_in_one_sentence(outcome: Outcome) -> None:
    assert "returns the tensors out, and the reference out[0], out[1]" in outcome.reasons("test_other_tensors")
    assert "the reference returns a int" in outcome.reasons("test_no_tensor")
    assert "give a function that returns what the call should" in outcome.reasons("test_no_function")
    assert outcome.verdicts["test_named_tensors"] == "DRIFTED"
    assert outcome.reasons("test_named_tensors").startswith("b: error ")


def test_without_a_base_results_are_held_to_references(repository: Make) -> None:
    theirs = repository({**EXAMPLES, "conftest.py": "", "test_exp.py": REFERENCE})
    outcome = theirs.pytest(".", "--benchmark-disable", "-n1", base=None, autoload=True)
    assert outcome.exit_code == 1, outcome.output
    assert "2 failed, 5 passed" in outcome.output  # four are the examples, as they are
    assert "1 error" in outcome.output
    assert "out: error 0.0272 is over its budget" in outcome.output
    assert "@pytest.mark.gate(reference=3): give a function that returns what the call should" in outcome.output


def test_a_call_that_cannot_be_watched_has_no_facts() -> None:
    def raises() -> None:
        raise RuntimeError("not under a dispatch mode")

    assert facts.of_call(raises, counters()) == (None, "RuntimeError: not under a dispatch mode")
    assert facts.of_call(lambda: 1, counters()) == (None, None)
    assert facts.of_call(lambda: torch.ones(2), None) == (None, None)
