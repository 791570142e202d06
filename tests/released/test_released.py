"""A released package of other people: its own benchmarks, from a pinned sdist, on two of its releases.

``bench/docs/BENCHMARKS.md`` has this and four other packages as commands, with what was found at the gate's own
threshold. The test has a threshold that load cannot reach, and so sees the large changes alone.
"""

import hashlib
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from bench.sources.target import SUITE
from tests.sessions.conftest import Repository

HEAD, BASE = "cattrs==26.2.1", "cattrs==24.1.3"
REQUIREMENTS = ("attrs==26.1.0", "typing_extensions==4.16.0")
SDIST_SHA256 = "679132bfdc225c5ee40c024fc42519954767c387f950dc6751946c586bccdc6d"
FILES = ("bench/test_attrs_collections.py", "bench/test_primitives.py")
FASTER = "test_unstructure_attrs_mappings[UnstructureStrategy.AS_DICT-Converter]"


def run(*command: str | Path) -> None:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    if done.returncode != 0 and any(word in done.stderr for word in ("No matching", "Connection", "resolve")):
        pytest.skip(f"the package index cannot be reached: {done.stderr.splitlines()[-1]}")
    assert done.returncode == 0, done.stderr


def install(place: Path, *requirements: str) -> Path:
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile")
    run(*pip, "--target", place, *requirements)
    return place


def unpack(folder: Path) -> Path:
    """Take the benchmarks out of the sdist, which is built by nobody."""
    run(sys.executable, "-m", "unearth", "--no-binary", "--download", folder, HEAD)
    (sdist,) = folder.glob("*.tar.gz")
    assert hashlib.sha256(sdist.read_bytes()).hexdigest() == SDIST_SHA256
    with tarfile.open(sdist) as archive:
        for name in FILES:
            member = archive.extractfile(f"{sdist.name.removesuffix('.tar.gz')}/{name}")
            assert member is not None
            path = folder / "suite" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(member.read())
    return folder / "suite"


def test_a_released_package_is_compared_with_an_earlier_release(tmp_path: Path) -> None:
    suite = unpack(tmp_path)
    head = install(tmp_path / "head", HEAD, *REQUIREMENTS)
    base = install(tmp_path / "older", BASE)
    outcome = Repository(suite).pytest(
        "bench",
        "--gate-threshold=30%",
        "--gate-undecided=100%",  # other tests keep the machine busy
        base=str(base),
        path=(str(SUITE), str(head)),
    )
    assert outcome.exit_code == 0, outcome.output
    verdicts = outcome.verdicts
    assert [v for id_, v in verdicts.items() if FASTER in id_] == ["FASTER"], outcome.output
    assert len(verdicts) >= 2
    assert set(verdicts.values()) <= {"UNCHANGED", "FASTER", "INCONCLUSIVE"}, outcome.output
