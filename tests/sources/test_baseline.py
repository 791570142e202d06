"""Reading a stored baseline: what is refused, and how."""

import base64
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.plain.errors import CannotDo
from bench.plain.evidence import TensorError
from bench.plain.execution import Fingerprint, Pass
from bench.plain.strict_json import dumps
from bench.sources import baseline
from bench.sources.baseline import Baseline
from bench.sources.source import from_directory

HEAD = Path(__file__).parents[2]
FLASH = Fingerprint(Pass({"aten.x": 1}, 2, 3), backend="flash")
Stored = dict[str, Any]


@pytest.fixture
def stored() -> Stored:
    source = from_directory(HEAD)
    return {
        "benchmarks": [{"extra_info": baseline.extra_info("sdpa-x", (TensorError("out", 1e-7, 2e-7, 5e-7),), None)}],
        baseline.KEY: baseline.our_part(source, {"threads": 1}),
    }


@pytest.fixture
def read(tmp_path: Path) -> Callable[[Stored | str], Baseline]:
    """Write a file, or JSON, and read it as a baseline."""

    def write_and_read(content: Stored | str) -> Baseline:
        path = tmp_path / "0001_x.json"
        path.write_text(content if isinstance(content, str) else dumps(content))
        assert "Infinity" not in path.read_text()
        return baseline.read(path)

    return write_and_read


Read = Callable[[Stored | str], Baseline]


def test_what_is_recorded_is_read_back(read: Read, stored: Stored) -> None:
    found = read(stored)
    assert found.errors == {"sdpa-x": {"out": 1e-7}}
    assert found.environment == {"threads": 1}
    assert found.source.sha256 == from_directory(HEAD).sha256
    assert found.source.origin == "baseline 0001_x.json"


def test_an_error_that_was_infinite_is_stored_as_null_and_binds_nobody(read: Read, stored: Stored) -> None:
    far = TensorError("out", float("inf"), 2e-7, 5e-7)
    stored["benchmarks"][0]["extra_info"] = baseline.extra_info("sdpa-x", (far,), None)
    assert read(stored).errors == {"sdpa-x": {}}


def test_stored_errors_bind_only_on_the_same_cpu_instruction_set_and_torch(read: Read, stored: Stored) -> None:
    stored[baseline.KEY]["environment"] = {"cpu": "A", "instructions": "AVX2", "torch": "2", "os": "x"}
    found = read(stored)
    here = {"cpu": "A", "instructions": "AVX2", "torch": "2", "os": "y"}
    assert found.errors_in(here) == {"sdpa-x": {"out": 1e-7}}
    for other in ({"cpu": "B"}, {"instructions": "AVX512"}, {"torch": "3"}):
        assert found.errors_in(here | other) == {}
    older = replace(found, environment={"cpu": "A", "torch": "2"})  # which did not say what PyTorch used
    assert older.errors_in(here) == {"sdpa-x": {"out": 1e-7}}


def test_stored_fingerprints_hold_for_the_same_torch_and_on_cuda_for_the_same_gpu(read: Read, stored: Stored) -> None:
    ids = [f"sdpa-b1h1t1d1-full-fp32-{device}-fwd" for device in ("cpu", "cuda")]
    stored["benchmarks"] = [{"extra_info": baseline.extra_info(id_, (), FLASH)} for id_ in ids]
    stored[baseline.KEY]["environment"] = {"cpu": "A", "torch": "2", "gpu": "G", "cuda": "13"}
    found = read(stored)
    assert found.fingerprints_in({"cpu": "B", "torch": "2", "gpu": "G", "cuda": "13"}) == dict.fromkeys(ids, FLASH)
    for other in ({}, {"gpu": "H"}):
        assert set(found.fingerprints_in({"torch": "2"} | other)) == {ids[0]}
    assert found.fingerprints_in({"torch": "3", "gpu": "G", "cuda": "13"}) == {}


@pytest.mark.parametrize(
    "older", [{"ops": {}, "backend": "flash", "peak_bytes": 1}, FLASH.as_stored() | {"steps": []}, 3, None]
)
def test_a_fingerprint_of_another_version_counts_as_none(read: Read, stored: Stored, older: object) -> None:
    stored["benchmarks"][0]["extra_info"]["fingerprint"] = older
    found = read(stored)
    assert found.fingerprints == {}
    assert found.errors == {"sdpa-x": {"out": 1e-7}}


def other_source(part: Stored) -> None:
    archive = bytearray(base64.b64decode(part["source_zip_base64"]))
    at = bytes(archive).index(b"attention/sdpa.py")
    archive[at : at + 9] = b"Attention"
    part["source_zip_base64"] = base64.b64encode(archive).decode()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d: d.pop(baseline.KEY), "holds no source of attention/"),
        (
            lambda d: d[baseline.KEY].update(schema=2),
            "has schema 2 and this version reads 1: store it anew, or use the version that wrote it",
        ),
        (lambda d: other_source(d[baseline.KEY]), "is damaged"),
        (
            lambda d: d[baseline.KEY].update(source_sha256="0" * 64),
            "is damaged (its source does not match its digest)",
        ),
        (lambda d: d[baseline.KEY].update(source_zip_base64="!"), "is damaged"),
        (lambda d: d["benchmarks"][0].update(extra_info={}), "is damaged (KeyError"),
    ],
)
def test_a_baseline_that_cannot_serve_is_refused_in_one_sentence(
    read: Read, stored: Stored, damage: Callable[[Stored], object], message: str
) -> None:
    damage(stored)
    with pytest.raises(CannotDo) as refused:
        read(stored)
    assert message in str(refused.value)
    assert "0001_x.json" in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "text", ["", "{", pytest.param(100_000 * "[", id="nested"), "[]", "3", '{"benchmarks": [], "gate": 3}']
)
def test_a_file_that_is_no_baseline_is_refused(read: Read, text: str) -> None:
    with pytest.raises(CannotDo, match="cannot be read|holds no source"):
        read(text)


def test_a_file_that_is_gone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CannotDo, match="cannot be read .*: store it anew with --benchmark-save"):
        baseline.read(tmp_path / "none.json")
