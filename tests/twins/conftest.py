"""Twins of a kernel that a test writes: a base and a head of it, compared by the gate on one small case."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from bench.judging.policy import Policy
from bench.judging.verdict import CaseResult
from bench.plain.evidence import TensorError
from bench.sources.target import Target
from bench.suite import code
from bench.suite.base import Base
from bench.suite.cases import Case, Shape
from bench.suite.forked import IMAGE, Twins, starts_of, twins
from bench.suite.gate import Gate
from bench.twins.fork import start_server

CASE = Case("attend", False, Shape.parse("b1h2t32d16"), "full", "fp32", "cpu", "fwd")
KERNEL = """
import torch
{before}
def formula(q, k, v):
    return torch.softmax(q @ k.mT * q.shape[-1] ** -0.5, -1) @ v
def attend(q, k, v, *, mask, causal, scale):
    if mask is not None or causal or scale is not None:
        raise NotImplementedError("anything else")
    {call}
"""
PLAIN = "return formula(q, k, v)"
TARGET = Target(("theirs.kernel:attend",))


@pytest.fixture(autouse=True, scope="session")
def _server() -> None:
    start_server(IMAGE, threads=1)


def of_batch(number: int) -> Case:
    """Return another case, by which a kernel knows what a test asks of it."""
    return replace(CASE, shape=Shape.parse(f"b{number}h1t8d16"))


def written(root: Path, before: str = "", call: str = PLAIN) -> Path:
    """Write the package ``theirs`` with its kernel into a folder."""
    (root / "theirs").mkdir(parents=True, exist_ok=True)
    (root / "theirs" / "__init__.py").touch()
    (root / "theirs" / "kernel.py").write_text(KERNEL.format(before=before, call=call))
    return root


@dataclass(frozen=True)
class Theirs:
    """A folder with a head and a folder with a base, and the ways to compare them."""

    head: Path
    base: Path
    scratch: Path

    @contextmanager
    def gate(self, base: str | None = None) -> Iterator[tuple[Gate, Twins]]:
        """Hold a gate of both sides; ``base`` is a directory or a revision, or else the folder of the base."""
        codes = {
            "head": code.of_head(TARGET, self.head),
            "base": code.of_name(TARGET, str(self.base) if base is None else base, self.scratch),
        }
        with twins(starts_of(codes, TARGET, ("cpu",), 1, self.scratch), self.scratch) as sides:
            yield Gate(sides, Base(codes["base"].source)), sides

    def compare(self) -> CaseResult:
        """Compare both sides on one case."""
        with self.gate() as (gate, _):
            return gate.compare(CASE, Policy().test(1), budget_s=10.0)

    def errors(self, base: str | None = None, cases: Sequence[Case] = (CASE,)) -> list[TensorError]:
        """Check cases, and time nothing; returns how far the output of each side is from what is right."""
        with self.gate(base) as (gate, _):
            return [gate.check(case).errors[0] for case in cases]


def head_alone_is_off(error: TensorError) -> bool:
    """Whether the head has computed something else, and the base what is right."""
    return bool(error.complaints) and error.base is not None and error.base <= error.budget


@pytest.fixture
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Theirs]:
    """Two folders with the plain kernel, of which the head's is where Python looks, and the working directory."""
    (tmp_path / "scratch").mkdir()
    both = Theirs(written(tmp_path / "head"), written(tmp_path / "base"), tmp_path / "scratch")
    monkeypatch.syspath_prepend(both.head)
    monkeypatch.chdir(both.head)
    yield both
    assert not [name for name in sys.modules if name.partition(".")[0] == "theirs"], "a side was imported here"
