"""Released packages of other people: their own benchmarks, from pinned sdists, on two releases each.

``bench/docs/BENCHMARKS.md`` has them as commands, with what was found at the gate's own threshold. A test has a
threshold that load cannot reach, and so sees the large changes alone.
"""

import hashlib
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from bench.sources.target import SUITE
from tests.sessions.conftest import Outcome, Repository


@dataclass(frozen=True)
class Released:
    """A package: the release whose benchmarks and code are the head, the one that is the base, and what is found.

    ``files`` are members of the sdist; ``faster`` are texts in the ids of tests that are FASTER.
    """

    name: str
    head: str
    base: str
    sdist_sha256: str
    files: tuple[str, ...]
    arguments: tuple[str, ...]
    faster: tuple[str, ...]
    requirements: tuple[str, ...] = ()  # of the head
    older: tuple[str, ...] = ()  # of the base alone

    def __str__(self) -> str:
        return self.name


PACKAGES = (
    Released(
        "cattrs",
        "26.2.1",
        "24.1.3",
        "679132bfdc225c5ee40c024fc42519954767c387f950dc6751946c586bccdc6d",
        ("bench/test_attrs_collections.py", "bench/test_primitives.py"),
        ("bench",),
        ("test_unstructure_attrs_mappings[UnstructureStrategy.AS_DICT-Converter]",),
        ("attrs==26.1.0", "typing_extensions==4.16.0"),
    ),
    Released(
        "pydantic-core",
        "2.50.5",
        "2.41.5",
        "1e740886083ff95530d694e6a3f09ed914bcf92a496d16acd307c6c3484fc36d",
        (
            "tests/benchmarks/test_complete_benchmark.py",
            "tests/benchmarks/complete_schema.py",
            "tests/benchmarks/__init__.py",
        ),
        ("tests/benchmarks", "-k", "build_schema or serializer_to_json", "-o", "addopts="),
        ("test_build_schema",),
        ("typing_extensions==4.16.0", "dirty-equals==0.11"),
    ),
)


def run(*command: str | Path) -> None:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    if done.returncode != 0 and any(word in done.stderr for word in ("No matching", "Connection", "resolve")):
        pytest.skip(f"the package index cannot be reached: {done.stderr.splitlines()[-1]}")
    assert done.returncode == 0, done.stderr


def install(place: Path, *requirements: str) -> Path:
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile")
    run(*pip, "--target", place, *requirements)
    return place


def unpack(package: Released, folder: Path) -> None:
    """Take the benchmarks out of the sdist, which is built by nobody."""
    run(sys.executable, "-m", "unearth", "--no-binary", "--download", folder, f"{package.name}=={package.head}")
    (sdist,) = folder.glob("*.tar.gz")
    assert hashlib.sha256(sdist.read_bytes()).hexdigest() == package.sdist_sha256
    with tarfile.open(sdist) as archive:
        for member in archive.getmembers():
            member.name = member.name.partition("/")[2]
            if member.name in package.files:
                archive.extract(member, folder / "suite", filter="data")


@pytest.mark.parametrize("package", PACKAGES, ids=str)
def test_a_released_package_is_compared_with_an_earlier_release(package: Released, tmp_path: Path) -> None:
    unpack(package, tmp_path)
    head = install(tmp_path / "head", f"{package.name}=={package.head}", *package.requirements)
    base = install(tmp_path / "older", f"{package.name}=={package.base}", *package.older)
    theirs = Repository(tmp_path / "suite")
    outcome: Outcome = theirs.pytest(
        *package.arguments,
        "--gate-threshold=30%",
        "--gate-undecided=100%",  # other tests keep the machine busy
        base=str(base),
        path=(str(SUITE), str(head)),
        autoload=any("pytest" in requirement for requirement in package.requirements),
    )
    assert outcome.exit_code == 0, outcome.output
    verdicts = outcome.verdicts
    for name in package.faster:
        assert [v for id_, v in verdicts.items() if name in id_] == ["FASTER"], outcome.output
    assert len(verdicts) >= 2
    assert set(verdicts.values()) <= {"UNCHANGED", "FASTER", "INCONCLUSIVE"}, outcome.output
