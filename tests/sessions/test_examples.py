"""The examples of attention beyond dense q, k, v: gated for error around their references, and for speed."""

from collections.abc import Callable, Mapping

import pytest

from bench.sources.target import SUITE

from .conftest import Repository

EXAMPLES = SUITE / "tests" / "sessions" / "examples"
NAMES = ("test_packed_sequences", "test_paged_cache", "test_latent_attention", "test_linear_attention")

# Wrong edits by the test that sees them: text of the kernel, what takes its place.
WRONG = {
    "test_packed_sequences": ("is_causal=True", "is_causal=start > 0"),
    "test_paged_cache": ("[:length]", "[: length // 16 * 16]"),
    "test_latent_attention": ("q.shape[-1] ** -0.5", "compressed.shape[-1] ** -0.5"),
    "test_linear_attention": ("norm + b.sum(dim=1)[..., None]", "norm + b.mean(dim=1)[..., None]"),
}


@pytest.fixture
def theirs(repository: Callable[[Mapping[str, str]], Repository]) -> Repository:
    return repository({path.name: path.read_text(encoding="utf-8") for path in EXAMPLES.glob("*.py")})


def test_each_example_is_right_and_a_wrong_edit_of_each_has_drifted(theirs: Repository) -> None:
    right = theirs.pytest("test_kernels.py")
    assert right.exit_code == 0, right.output
    assert right.document is not None
    errors = [error for case in right.document["cases"] for error in case["error"]]
    assert errors, right.document["cases"][0]
    text = (theirs.path / "kernels.py").read_text(encoding="utf-8")
    for before, after in WRONG.values():
        assert text.count(before) == 1
        text = text.replace(before, after)
    theirs.write({"kernels.py": text})
    wrong = theirs.pytest("test_kernels.py")
    assert wrong.exit_code == 1, wrong.output
    assert wrong.verdicts == dict.fromkeys(NAMES, "DRIFTED")
    for name in NAMES:
        assert wrong.reasons(name).startswith("out: error ")


def test_a_reference_that_does_not_fit_is_refused_in_one_sentence(
    repository: Callable[[Mapping[str, str]], Repository],
) -> None:
    tests = """
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
    theirs = repository({"test_speed.py": tests})
    outcome = theirs.pytest("test_speed.py")
    assert outcome.exit_code == 1
    assert "returns the tensors out, and the reference out[0], out[1]" in outcome.reasons("test_other_tensors")
    assert "the reference returns a int" in outcome.reasons("test_no_tensor")
    assert "give a function that returns what the call should" in outcome.reasons("test_no_function")
    assert outcome.verdicts["test_named_tensors"] == "DRIFTED"
    assert outcome.reasons("test_named_tensors").startswith("b: error ")
