"""Which warnings are errors in tests: those of our own code."""

import warnings

import pytest


def warn_from(module: str) -> None:
    """Warn as code of the module would."""
    warnings.warn_explicit("on purpose", UserWarning, "file.py", 1, module=module)


@pytest.mark.parametrize("module", ["attention", "attention.sdpa", "attention_base.sdpa", "bench.suite.gate", __name__])
def test_a_warning_of_our_own_code_is_an_error(module: str) -> None:
    with pytest.raises(UserWarning, match="on purpose"):
        warn_from(module)


@pytest.mark.parametrize("module", ["torch", "torch._dynamo.guards", "attention_gym", "benchmark"])
def test_a_warning_of_foreign_code_is_none(module: str) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warn_from(module)
    assert [str(warning.message) for warning in caught] == ["on purpose"]
